"""Readers whose consumers the console makes: they lose nothing, and mostly need no console."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from common.bus import Bus, FactWriter, Replay, Stored
from common.bus.consume import consume
from common.bus.readers import ReaderDesk
from common.bus.streams import ensure_streams
from common.contracts.facts import AudioFormat, FileStored, SongListed
from common.contracts.readers import COLLECTOR_STATUS, EXPORTER, UPLOADER
from common.settings import Settings
from tests.support.nats import NatsServer


def song(number: int) -> SongListed:
    return SongListed(song_id=number, platform="local", remote_id=f"{number}.flac", name="a song")


@pytest.fixture
async def owner(settings: Settings) -> AsyncIterator[Bus]:
    """The streams are there, and no console."""
    bus = await Bus.connect(settings, service="test", instance="one")
    await ensure_streams(bus)
    yield bus
    await bus.close()


@contextlib.asynccontextmanager
async def connected(settings: Settings, nats_server: NatsServer, service: str) -> AsyncIterator[Bus]:
    """A connection with the rights of a service."""
    secret = Settings.model_validate({"nats_password": nats_server.passwords[service]}).nats_password
    own = settings.model_copy(update={"nats_user": service, "nats_password": secret})
    bus = await Bus.connect(own, service=service, instance="one")
    yield bus
    await bus.close()


async def read(batches: AsyncIterator[list[Stored]], count: int) -> list[int]:
    """The sequences of at least ``count`` messages."""
    found: list[int] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += [message.sequence for message in await anext(batches)]
    return found


async def test_a_reader_waits_for_the_console_once_and_then_outlives_it_and_the_server(
    owner: Bus, settings: Settings, nats_server: NatsServer
) -> None:
    await FactWriter(owner).publish_many([song(number) for number in range(50)], cause="all")
    async with connected(settings, nats_server, "exporter") as bus:
        batches = Replay.of(bus, EXPORTER).batches(after=0, max_wait=0.1)
        first = asyncio.create_task(read(batches, 50))
        await asyncio.sleep(0.6)
        assert not first.done()
        async with connected(settings, nats_server, "console") as console:
            await ReaderDesk(console).start()
            assert await first == list(range(1, 51))
        # From here on there is no console.
        nats_server.kill()
        nats_server.restart()
        await FactWriter(owner).publish_many([song(number) for number in range(50, 60)], cause="more")
        assert await read(batches, 10) == list(range(51, 61))
    async with connected(settings, nats_server, "exporter") as bus:
        await FactWriter(owner).publish(song(60), cause="last")
        assert await read(Replay.of(bus, EXPORTER).batches(after=60, max_wait=0.1), 1) == [61]


async def test_what_was_delivered_and_not_kept_comes_again(
    bus: Bus, settings: Settings, nats_server: NatsServer
) -> None:
    await FactWriter(bus).publish_many([song(number) for number in range(100)], cause="all")
    async with connected(settings, nats_server, "exporter") as exporter:
        assert await read(Replay.of(exporter, EXPORTER).batches(after=0), 100) == list(range(1, 101))
    # As after a kill: of what came, only 30 were written down.
    async with connected(settings, nats_server, "exporter") as exporter:
        assert await read(Replay.of(exporter, EXPORTER).batches(after=30), 70) == list(range(31, 101))


async def test_what_was_kept_does_not_come_again_from_a_consumer_that_is_behind(
    bus: Bus, settings: Settings, nats_server: NatsServer
) -> None:
    await FactWriter(bus).publish_many([song(number) for number in range(100)], cause="all")
    async with connected(settings, nats_server, "exporter") as exporter:
        await exporter.nc.request(EXPORTER.reset_subject, b'{"after": 0}', timeout=2)
        batches = Replay.of(exporter, EXPORTER).batches(after=97, max_messages=10)
        # An empty batch would say that the stream has nothing more.
        assert [stored.sequence for stored in await anext(batches)] == [98, 99, 100]


async def test_a_filter_keeps_out_what_is_not_asked_for(bus: Bus, settings: Settings, nats_server: NatsServer) -> None:
    for stage in ("sync", "download", "sync"):
        await bus.nc.request(f"item.1.{stage}.local.{stage}", b"{}", timeout=2)
    async with connected(settings, nats_server, "collector") as collector:
        assert await read(Replay.of(collector, COLLECTOR_STATUS).batches(after=0, max_wait=0.1), 1) == [2]


async def test_a_shared_consumer_is_made_on_request_and_keeps_its_place(
    owner: Bus, settings: Settings, nats_server: NatsServer
) -> None:
    def stored(number: int) -> FileStored:
        audio = AudioFormat(ext="mp3", mime="audio/mpeg")
        return FileStored(
            backend="library", song_id=number, asset_id=number, locator="a", sha256="a" * 64, size=1, format=audio
        )

    handled: list[int] = []

    async def handle(message: Stored) -> None:
        handled.append(message.sequence)

    async def until(count: int) -> None:
        async with asyncio.timeout(20):
            while len(handled) < count:
                await asyncio.sleep(0.02)

    writer = FactWriter(owner)
    await writer.publish_many([stored(number) for number in range(20)], cause="all")
    for round in (1, 2):
        stop = asyncio.Event()
        async with (
            connected(settings, nats_server, "uploader") as uploader,
            connected(settings, nats_server, "console") as console,
        ):
            running = asyncio.create_task(consume(uploader, reader=UPLOADER, handle=handle, stop=stop))
            await asyncio.sleep(0.3)
            await ReaderDesk(console).start()
            await until(20 + round - 1)
            await writer.publish(stored(100 + round), cause=f"round {round}")
            await until(20 + round)
            stop.set()
            await running
    assert sorted(handled) == list(range(1, 23))
