"""A console of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.console import ConsoleProcess
from tests.support.nats import NatsServer


@pytest.fixture
def console_database() -> str:
    """DATABASE_URL of the console; empty for SQLite."""
    return ""


@pytest.fixture
def console(tmp_path: Path, nats_server: NatsServer, console_database: str) -> Iterator[ConsoleProcess]:
    """A running console, made before anything else is on the bus: it makes the streams."""
    process = ConsoleProcess(tmp_path, nats_server, DATABASE_URL=console_database)
    process.start()
    yield process
    process.close()
