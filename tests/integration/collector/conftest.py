"""The collector under test."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.bus.connection import Bus
from tests.support.collecting import Collecting
from tests.support.nats import NatsServer


@pytest.fixture
def collector_database() -> str:
    """DATABASE_URL of the collector; empty for SQLite."""
    return ""


@pytest.fixture
async def collecting(bus: Bus, nats_server: NatsServer, tmp_path: Path, collector_database: str) -> Collecting:
    """Drives jobs through a collector on this test's bus."""
    return Collecting(
        bus=bus, nats=nats_server, tmp_path=tmp_path, environment={"database_url": collector_database or None}
    )
