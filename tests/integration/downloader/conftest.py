"""What the downloader's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.downloader.harness import Pipeline
from tests.support.http_server import ScriptedServer


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A scripted HTTP server."""
    running = ScriptedServer()
    yield running
    running.stop()


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    """One copy of the downloader."""
    made = Pipeline(tmp_path)
    yield made
    made.close()
