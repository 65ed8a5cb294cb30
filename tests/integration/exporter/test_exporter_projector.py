"""The projector over a real bus: what disturbs the load of a new catalog, and how it ends all the same."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from common.bus import Bus, FactWriter, Replay
from common.bus.streams import ensure_streams
from common.catalog.tables import metadata
from exporter.adapters.database import attach_beside, close_catalog, open_catalog
from exporter.adapters.decoder import Decoder
from exporter.handlers import load, project, reading
from exporter.handlers.load import Loading
from exporter.handlers.project import Projector
from exporter.service import fact_tables as facts
from exporter.service.projection import Projection
from tests.support.catalog_facts import playlist, rows, song
from tests.support.nats import NatsServer

PATIENCE = 20.0
SONGS = 3000


@pytest.fixture(autouse=True)
def small_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "_LOAD_FROM", 100)
    # So that in the middle of a load most is unread.
    monkeypatch.setattr(reading, "_AT_ONCE", 100)
    monkeypatch.setattr(reading, "_AHEAD", 500)


@asynccontextmanager
async def projecting(bus: Bus, database: Path) -> AsyncIterator[Projector]:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as thread:
        connection = await loop.run_in_executor(thread, open_catalog, database)
        projection = await loop.run_in_executor(thread, Projection, connection)
        projector = Projector(
            bus=bus,
            replay=Replay(bus, consumer="tested"),
            projection=projection,
            thread=thread,
            stop=stop,
            changed=lambda: None,
        )
        running = asyncio.create_task(projector.run())
        try:
            yield projector
        finally:
            stop.set()
            await running
            await loop.run_in_executor(thread, close_catalog, connection)


async def reached(projector: Projector, sequence: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while projector.position.sequence < sequence or not projector.caught_up:
        assert time.monotonic() < deadline, (projector.position, projector.problem, projector.loading)
        await asyncio.sleep(0.02)


async def write(bus: Bus, count: int, prefix: str = "s") -> int:
    names = [f"{prefix}{number}" for number in range(count)]
    await FactWriter(bus).publish_many([*map(song, names), *playlist("p", names)], cause=prefix)
    return int((await bus.js.stream_info("CATALOG")).state.last_seq)


def songs(database: Path) -> set[str]:
    return {row[2] for row in rows(database, ["songs"])["songs"]}


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> list[int]:
    """Act in the middle of the first load, once; the list tells how often facts were put aside."""
    added: list[int] = []
    add = Loading._add

    def disturbed(self: Loading, *given: Any) -> None:
        added.append(1)
        add(self, *given)
        if len(added) == 1:
            act()

    monkeypatch.setattr(Loading, "_add", disturbed)
    return added


async def test_a_new_catalog_is_loaded_and_then_followed(
    bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = await write(bus, SONGS)
    added = meanwhile(monkeypatch, lambda: None)
    async with projecting(bus, tmp_path / "catalog.db") as projector:
        await reached(projector, last)
        assert projector.loading is None
        loads = len(added)
        last = await write(bus, 1, "later")
        await reached(projector, last)
        assert projector.lag == 0
    assert loads == len(added) > 0
    assert len(songs(tmp_path / "catalog.db")) == SONGS + 1


async def test_the_server_is_killed_in_the_middle(
    bus: Bus, nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = await write(bus, SONGS)

    def killed() -> None:
        nats_server.kill()
        nats_server.restart()

    meanwhile(monkeypatch, killed)
    async with projecting(bus, tmp_path / "catalog.db") as projector:
        await reached(projector, last)
    assert len(songs(tmp_path / "catalog.db")) == SONGS


async def test_the_process_that_decodes_is_killed_in_the_middle(
    bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = await write(bus, SONGS)
    async with projecting(bus, tmp_path / "alone.db") as projector:
        await reached(projector, last)
    monkeypatch.setattr(reading, "_FOR_TWO", 100)
    killed: list[int] = []
    decode = Decoder.decode

    def then_killed(self: Decoder, messages: Sequence[Any]) -> Any:
        batch = decode(self, messages)
        if not killed:
            assert self.pid is not None
            os.kill(self.pid, signal.SIGKILL)
            killed.append(self.pid)
        return batch

    monkeypatch.setattr(Decoder, "decode", then_killed)
    async with projecting(bus, tmp_path / "catalog.db") as projector:
        await reached(projector, last)
    assert killed
    tables = (*metadata.tables, *facts.metadata.tables)
    assert rows(tmp_path / "catalog.db", tables) == rows(tmp_path / "alone.db", tables)
    assert len(songs(tmp_path / "catalog.db")) == SONGS


async def test_another_stream_comes_in_the_middle(bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await write(bus, SONGS)
    loop = asyncio.get_running_loop()

    async def replaced() -> None:
        await bus.js.delete_stream("CATALOG")
        await ensure_streams(bus)
        await write(bus, 200, "other")

    meanwhile(monkeypatch, lambda: asyncio.run_coroutine_threadsafe(replaced(), loop).result(PATIENCE))
    async with projecting(bus, tmp_path / "catalog.db") as projector:
        deadline = time.monotonic() + PATIENCE
        while projector.position.sequence != 201:
            assert time.monotonic() < deadline, (projector.position, projector.problem)
            await asyncio.sleep(0.02)
        assert projector.problem is None
        assert projector.position.stream_created == (await bus.js.stream_info("CATALOG")).created
    assert songs(tmp_path / "catalog.db") == {f"other{number}" for number in range(200)}


async def test_without_room_for_both_files_it_goes_on_in_batches(
    bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = await write(bus, SONGS)

    def attach(connection: Any) -> None:
        attach_beside(connection)
        connection.exec_driver_sql("PRAGMA load.max_page_count = 20")

    monkeypatch.setattr(load, "attach_beside", attach)
    async with projecting(bus, tmp_path / "catalog.db") as projector:
        await reached(projector, last)
        assert not projector._may_load
        assert not (tmp_path / "catalog.db.load").exists()
    assert len(songs(tmp_path / "catalog.db")) == SONGS
