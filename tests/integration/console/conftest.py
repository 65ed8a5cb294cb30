"""A console of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.console import ConsoleProcess
from tests.support.nats import NatsServer


@pytest.fixture
def console(tmp_path: Path, nats_server: NatsServer) -> Iterator[ConsoleProcess]:
    """A running console, made before anything else is on the bus: it makes the streams."""
    process = ConsoleProcess(tmp_path, nats_server)
    process.start()
    yield process
    process.close()
