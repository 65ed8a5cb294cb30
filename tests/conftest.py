"""Fixtures that all tests share: real servers, nothing pretended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from common.bus.connection import Bus
from common.bus.readers import ReaderDesk
from common.bus.streams import ensure_streams
from common.settings import Settings
from tests.support.nats import NatsServer, current_server
from tests.support.postgres import (  # noqa: F401 - fixtures
    database_url,
    postgres_of_its_own,
    postgres_server,
    postgres_url,
)
from tests.support.s3 import s3_bucket, s3_server  # noqa: F401 - fixtures


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A real nats-server of this test's own."""
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def current_nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """The same of a current release."""
    server = NatsServer(tmp_path / "nats", program=current_server())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def settings(nats_server: NatsServer, tmp_path: Path) -> Settings:
    """Settings of a service in this test's own folder, on its own bus."""
    return Settings(
        root_dir=tmp_path / "data",
        nats_url=nats_server.url,
        nats_user=nats_server.user,
        nats_password=nats_server.password,
        lease_seconds=3,
        retry_delay_seconds=0.1,
    )


@pytest.fixture
async def bus(settings: Settings) -> AsyncIterator[Bus]:
    """A connected bus with all streams made, and consumers for readers who ask: what the console does."""
    connected = await Bus.connect(settings, service="test", instance="one")
    await ensure_streams(connected)
    await ReaderDesk(connected).start()
    yield connected
    await connected.close()
