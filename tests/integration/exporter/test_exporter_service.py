"""The exporter as a process, on a real bus: projection, snapshots, announcements, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.bus import Bus, FactWriter, Replay
from common.bus.streams import ensure_streams
from common.catalog.tables import metadata
from common.contracts.envelope import decode
from common.contracts.facts import Fact, SnapshotPublished
from common.contracts.status import DeadLetter, Heartbeat
from exporter.adapters.database import close_catalog, open_catalog
from exporter.adapters.pair import digest_of
from exporter.adapters.read_database import ReadDatabase, name_catalog
from exporter.adapters.snapshots import SnapshotFolder
from exporter.service.projection import Projection, read_batch
from mirror.format.keys import SigningKey
from mirror.format.manifest import parse, verify
from tests.support.catalog_facts import playlist, pool, rows, song, stored
from tests.support.nats import NatsServer
from tests.support.stack import free_port

TABLES = tuple(metadata.tables)
PATIENCE = 20.0


class Exporter:
    """One exporter process, its folders, and what its heartbeats say."""

    def __init__(self, folder: Path, server: NatsServer, bus: Bus) -> None:
        self.folder = folder
        self.port = free_port()
        self._server = server
        self._bus = bus
        self._processes: list[subprocess.Popen[bytes]] = []
        self.beat: Heartbeat | None = None
        self.log = folder / "exporter.log"

    @property
    def database(self) -> Path:
        return self.folder / "data" / "state" / "catalog.db"

    @property
    def snapshots(self) -> Path:
        return self.folder / "data" / "snapshots"

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        self.folder.mkdir(exist_ok=True)
        kept = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG", "TMPDIR"}}
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "exporter", *arguments],
                cwd=self.folder,
                env={
                    **kept,
                    **self._server.account("exporter"),
                    "ROOT_DIR": str(self.folder / "data"),
                    "EXPORTER_PORT": str(self.port),
                    "EXPORT_SETTLE_SECONDS": "0.3",
                    "EXPORT_MAX_INTERVAL_SECONDS": "2",
                    "HEARTBEAT_SECONDS": "0.2",
                    "INSTANCE": f"e{len(self._processes)}",
                    **environment,
                },
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)
        self.beat = None
        return process

    async def listen(self) -> None:
        async def heard(message: Any) -> None:
            beat = decode(message.data, Heartbeat).data
            if beat.instance == f"e{len(self._processes) - 1}":
                self.beat = beat

        await self._bus.nc.subscribe("hb.exporter.*", cb=heard)

    def stop(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited in vain for {what}; {self.beat}\n{self.log.read_text()[-3000:]}")
            await asyncio.sleep(0.05)

    async def settled(self, bus: Bus, *, at_least: int = 1) -> dict[str, Any]:
        """Wait until the newest published snapshot reflects every fact; return the heartbeat's detail."""

        def done() -> bool:
            detail = self.beat.detail if self.beat else {}
            return bool(
                detail.get("snapshot_sequence", 0) >= at_least
                and not detail["changes_pending"]
                and detail["lag"] == 0
                and detail["projected_sequence"] >= at_least
            )

        await self.until(done, "a snapshot that reflects everything")
        assert self.beat is not None
        return self.beat.detail

    def manifest(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.snapshots / "current" / "manifest.json").read_text())
        return content


@pytest.fixture
async def exporter(tmp_path: Path, nats_server: NatsServer, bus: Bus) -> AsyncIterator[Exporter]:
    one = Exporter(tmp_path / "exporter", nats_server, bus)
    await one.listen()
    yield one
    one.stop()


async def write(bus: Bus, facts: Iterable[Fact], cause: str = "first") -> int:
    """Write facts in order; return the stream's last sequence."""
    writer = FactWriter(bus)
    for fact in facts:
        await writer.publish(fact, cause=cause)
    return await last_sequence(bus)


async def last_sequence(bus: Bus) -> int:
    return int((await bus.js.stream_info("CATALOG")).state.last_seq)


def library(count: int = 5) -> list[Fact]:
    names = [f"s{number}" for number in range(count)]
    facts: list[Fact] = [song(name) for name in names]
    facts += [stored(name) for name in names]
    return [*facts, *playlist("p", names, cover_url="https://c"), pool("top", ["p"])]


async def test_facts_become_a_published_snapshot(exporter: Exporter, bus: Bus) -> None:
    last = await write(bus, library())
    exporter.start()
    detail = await exporter.settled(bus, at_least=last)

    fact = await bus.last_message("CATALOG", "snapshot.published.main", SnapshotPublished)
    assert fact is not None
    manifest = exporter.manifest()
    assert fact.data.manifest == manifest
    assert fact.data.snapshot_id == manifest["snapshot_id"] == detail["snapshot_id"]
    assert (exporter.snapshots / fact.data.locator / "catalog_read.db").is_file()
    assert fact.data.sequence == manifest["sequence"] == last
    assert [manifest[name] for name in ("playlist_count", "track_count", "file_count", "cover_count")] == [1, 5, 5, 1]
    assert detail["problems"] == 0
    assert exporter.beat is not None
    assert exporter.beat.ready

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{exporter.port}", trust_env=False) as http:
        assert (await http.get("/snapshots/current")).json() == manifest
        file = await http.get(f"/snapshots/{fact.data.locator}/catalog_read.db")
        assert len(file.content) == manifest["file"]["size"]
        for path in ("/snapshots/current/..%2f..", f"/snapshots/{fact.data.locator}/x", "/snapshots/0/manifest.json"):
            assert (await http.get(path)).status_code == 404


async def test_the_announcement_causes_no_other_and_the_same_content_none(exporter: Exporter, bus: Bus) -> None:
    await write(bus, library())
    exporter.start()
    await exporter.settled(bus, at_least=await last_sequence(bus))
    announced = await bus.last("CATALOG", "snapshot.published.main")
    assert announced is not None

    last = await write(bus, [song("s1")], cause="again, with the same words")
    await exporter.settled(bus, at_least=last)

    assert await bus.last("CATALOG", "snapshot.published.main") == announced
    assert len([entry for entry in exporter.snapshots.iterdir() if len(entry.name) == 64]) == 1
    assert await last_sequence(bus) == last


async def test_only_the_newest_snapshots_are_kept(exporter: Exporter, bus: Bus) -> None:
    await write(bus, library())
    exporter.start(KEEP_SNAPSHOTS="2")
    seen = []
    for number in range(4):
        last = await write(bus, [song("s1", name=f"name {number}")], cause=str(number))
        seen.append((await exporter.settled(bus, at_least=last))["snapshot_id"].removeprefix("sha256:"))
    kept = {entry.name for entry in exporter.snapshots.iterdir() if not entry.name.startswith(".")}
    assert kept == {"current", *seen[-2:]}
    assert os.readlink(exporter.snapshots / "current") == seen[-1]


async def test_rebuild_gives_the_same_rows(exporter: Exporter, bus: Bus) -> None:
    names = [f"s{number}" for number in range(2300)]
    writer = FactWriter(bus)
    await writer.publish_many([song(name) for name in names], cause="listed")
    await write(bus, playlist("long", names), cause="five pages")
    exporter.start()
    await exporter.settled(bus, at_least=await last_sequence(bus))
    # Moved between playlists, shrunk from five pages to two, replaced, withdrawn.
    await write(bus, playlist("other", names[1000:1300]), cause="moved")
    await write(bus, playlist("long", names[:1000], version=2), cause="two pages")
    await write(bus, [stored(name) for name in names[:20]], cause="stored")
    await write(
        bus, [stored(name, size=7, sha256="cd" * 32, locator=f"x/{name}.flac") for name in names[:9]], cause="up"
    )
    last = await write(bus, [stored(names[3], removed=True), song(names[4], removed=True)], cause="gone")
    detail = await exporter.settled(bus, at_least=last)
    live = rows(exporter.database, TABLES)
    assert len(live["playlist_songs"]) == 1300
    exporter.stop()

    exporter.start("rebuild")
    again = await exporter.settled(bus, at_least=last)

    assert rows(exporter.database, TABLES) == live
    assert again["snapshot_id"] == detail["snapshot_id"]
    assert len(list(exporter.database.parent.glob("catalog.db.2*"))) >= 1, "the old database is kept"


async def test_kill_9_in_the_middle_of_batches_loses_nothing(exporter: Exporter, bus: Bus) -> None:
    writer = FactWriter(bus)
    process = exporter.start()
    names = [f"s{number}" for number in range(6000)]
    writing = asyncio.create_task(writer.publish_many([song(name) for name in names], cause="listed"))
    for _ in range(4):
        await asyncio.sleep(0.4)
        process.kill()
        process.wait()
        process = exporter.start()
    await writing
    last = await write(bus, playlist("p", names))
    await exporter.settled(bus, at_least=last)
    assert exporter.manifest()["track_count"] == 6000
    assert exporter.manifest()["entry_count"] == 6000


async def test_an_announcement_that_was_not_made_is_made_at_start(exporter: Exporter, bus: Bus) -> None:
    """As after a crash between completing a snapshot and announcing it."""
    last = await write(bus, library())
    replay = Replay(bus, consumer="exporter")
    batches = replay.batches(after=0)
    messages = await anext(batches)
    await batches.aclose()  # type: ignore[attr-defined]
    connection = open_catalog(exporter.database)
    Projection(connection).apply(read_batch(messages))
    name_catalog(connection)
    read = ReadDatabase(folder=exporter.database.parent / "read", catalog=exporter.database)
    made, _ = SnapshotFolder(exporter.snapshots, keep=5).make(read)
    close_catalog(connection)
    assert await bus.last("CATALOG", "snapshot.published.main") is None

    exporter.start()
    await exporter.settled(bus, at_least=last)
    fact = await bus.last_message("CATALOG", "snapshot.published.main", SnapshotPublished)
    assert fact is not None
    assert fact.data.manifest == made == exporter.manifest()


async def test_a_younger_stream_stops_it_with_the_choices_and_nothing_is_touched(exporter: Exporter, bus: Bus) -> None:
    last = await write(bus, library())
    process = exporter.start()
    detail = await exporter.settled(bus, at_least=last)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    before, manifest = rows(exporter.database, TABLES), exporter.manifest()
    await bus.js.delete_stream("CATALOG")
    await ensure_streams(bus)
    await write(bus, [song("other")])

    exporter.start()

    await exporter.until(lambda: bool(exporter.beat and exporter.beat.problems), "the problem")
    assert exporter.beat is not None
    (problem,) = exporter.beat.problems
    assert problem.code == "catalog-stream-younger"
    assert "exporter rebuild" in problem.message
    assert str(exporter.folder) not in problem.message
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{exporter.port}", trust_env=False) as http:
        assert (await http.get("/snapshots/current")).json()["snapshot_id"] == detail["snapshot_id"]
    assert rows(exporter.database, TABLES) == before
    assert exporter.manifest() == manifest
    assert await bus.last("CATALOG", "snapshot.published.main") is None
    exporter.stop()

    exporter.start("rebuild")
    await exporter.settled(bus, at_least=await last_sequence(bus))
    assert exporter.manifest()["track_count"] == 1


async def test_a_shorter_stream_stops_it(exporter: Exporter, bus: Bus) -> None:
    last = await write(bus, library())
    process = exporter.start()
    await exporter.settled(bus, at_least=last)
    process.kill()
    process.wait()
    with closing(sqlite3.connect(exporter.database)) as connection:
        connection.execute("UPDATE projection_state SET sequence = sequence + 1000")
        connection.commit()
    exporter.start()
    await exporter.until(lambda: bool(exporter.beat and exporter.beat.problems), "the problem")
    assert exporter.beat is not None
    assert exporter.beat.problems[0].code == "catalog-stream-shorter"


async def test_a_stream_that_is_replaced_while_it_runs_is_noticed(exporter: Exporter, bus: Bus) -> None:
    last = await write(bus, library())
    exporter.start()
    await exporter.settled(bus, at_least=last)
    before = rows(exporter.database, TABLES)
    await bus.js.delete_stream("CATALOG")
    await ensure_streams(bus)
    await write(bus, [song(f"new{number}") for number in range(40)])
    await exporter.until(
        lambda: bool(exporter.beat and [one.code for one in exporter.beat.problems] == ["catalog-stream-younger"]),
        "the problem",
    )
    assert rows(exporter.database, TABLES) == before


async def test_what_is_not_ours_on_the_bus_is_parked_and_the_rest_goes_on(exporter: Exporter, bus: Bus) -> None:
    await bus.js.publish("song.listed.77", b"\x00 not ours")
    sequence = await last_sequence(bus)
    last = await write(bus, library())
    exporter.start()
    detail = await exporter.settled(bus, at_least=last)
    assert detail["problems"] == 1
    assert exporter.manifest()["track_count"] == 5
    letter = await bus.last_message("DEAD", f"dead.0.catalog.exporter.{sequence}", DeadLetter)
    assert letter is not None
    assert letter.data.from_subject == "song.listed.77"
    assert letter.data.reason.code == "undecodable"


async def test_it_goes_on_when_the_server_was_killed(exporter: Exporter, bus: Bus, nats_server: NatsServer) -> None:
    last = await write(bus, library())
    exporter.start()
    await exporter.settled(bus, at_least=last)
    nats_server.kill()
    nats_server.restart()
    deadline = time.monotonic() + PATIENCE
    while not bus.nc.is_connected and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    last = await write(bus, [song("later")], cause="later")
    await exporter.settled(bus, at_least=last)
    assert exporter.manifest()["track_count"] == 6


async def test_a_second_exporter_on_one_database_is_refused(exporter: Exporter, bus: Bus) -> None:
    exporter.start()
    await exporter.until(lambda: exporter.beat is not None, "the first")
    second = exporter.start(EXPORTER_PORT="0")
    assert second.wait(PATIENCE) == 2
    assert "Another exporter works with the same database" in exporter.log.read_text()


async def test_a_failed_export_keeps_the_last_one_says_why_and_goes_on(exporter: Exporter, bus: Bus) -> None:
    last = await write(bus, library())
    exporter.start()
    detail = await exporter.settled(bus, at_least=last)
    away = exporter.snapshots.with_name("away")
    exporter.snapshots.rename(away)
    exporter.snapshots.write_text("in the way")

    last = await write(bus, [song("more")], cause="more")
    await exporter.until(lambda: bool(exporter.beat and exporter.beat.problems), "the problem")
    assert exporter.beat is not None
    assert exporter.beat.problems[0].code == "target-not-writable"
    assert exporter.beat.detail["snapshot_id"] == detail["snapshot_id"]
    assert exporter.beat.detail["changes_pending"]

    exporter.snapshots.unlink()
    away.rename(exporter.snapshots)
    assert exporter.manifest()["snapshot_id"] == detail["snapshot_id"]
    await exporter.settled(bus, at_least=last)
    assert exporter.manifest()["parent"] == detail["snapshot_id"]


async def test_a_snapshot_is_made_when_the_owner_asks(exporter: Exporter, bus: Bus, nats_server: NatsServer) -> None:
    await write(bus, library())
    exporter.start(EXPORT_SETTLE_SECONDS="1000", EXPORT_MAX_INTERVAL_SECONDS="1000")
    await exporter.until(lambda: bool(exporter.beat and exporter.beat.ready and exporter.beat.detail["lag"] == 0), "it")

    environment = {**os.environ, **nats_server.account("operator"), "ROOT_DIR": str(exporter.folder / "data")}
    command = [sys.executable, "-m", "cli", "--json", "export", "--patience", str(PATIENCE)]
    told = []
    for _ in range(2):
        asked = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
        told.append(json.loads((await asked.communicate())[0]))

    assert told[0] == exporter.manifest()
    assert told[1] == told[0], "the same content is the same snapshot"
    assert exporter.manifest()["track_count"] == 5
    fact = await bus.last_message("CATALOG", "snapshot.published.main", SnapshotPublished)
    assert fact is not None
    assert fact.data.manifest == exporter.manifest()


async def test_a_change_of_keys_is_announced_with_the_same_snapshot(exporter: Exporter, bus: Bus) -> None:
    old, new = SigningKey.generate(), SigningKey.generate()
    last = await write(bus, library())
    for keys, signed_by, listed in (
        ({"SNAPSHOT_SIGNING_KEY": old.to_seed()}, old, [old]),
        ({"SNAPSHOT_SIGNING_KEY": old.to_seed(), "SNAPSHOT_NEXT_SIGNING_KEY": new.to_seed()}, old, [old, new]),
        ({"SNAPSHOT_SIGNING_KEY": new.to_seed()}, new, [new]),
    ):
        process = exporter.start(**keys)
        await exporter.settled(bus, at_least=last)
        fact = await bus.last_message("CATALOG", "snapshot.published.main", SnapshotPublished)
        assert fact is not None
        assert fact.data.manifest == exporter.manifest()
        manifest = parse(json.dumps(fact.data.manifest).encode())
        assert verify(manifest, {signed_by.key_id: signed_by.public_key}) == signed_by.key_id
        assert list(manifest.keys) == [key.key_id for key in listed]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert old.to_seed() not in exporter.log.read_text()
    assert exporter.start(SNAPSHOT_SIGNING_KEY="c2hvcnQ=").wait(PATIENCE) == 2
    assert "SNAPSHOT_SIGNING_KEY cannot be used" in exporter.log.read_text()


async def test_a_snapshot_of_an_older_version_is_made_again_although_nothing_changed(
    exporter: Exporter, bus: Bus
) -> None:
    last = await write(bus, library())
    process = exporter.start()
    await exporter.settled(bus, at_least=last)
    process.kill()
    process.wait()
    older = {name: value for name, value in exporter.manifest().items() if name not in ("lineage", "revision")}
    (exporter.snapshots / "current" / "manifest.json").write_text(json.dumps(older))
    exporter.start()
    await exporter.until(lambda: "lineage" in exporter.manifest(), "a manifest of this version")
    assert exporter.manifest()["snapshot_id"] == older["snapshot_id"]


async def test_a_damaged_file_of_the_newest_snapshot_is_put_anew_at_start_and_when_the_owner_asks(
    exporter: Exporter, bus: Bus, nats_server: NatsServer
) -> None:
    last = await write(bus, library())
    process = exporter.start()
    await exporter.settled(bus, at_least=last)
    database = exporter.snapshots / "current" / "catalog_read.db"

    def whole() -> bool:
        try:
            return bool(digest_of(database) == exporter.manifest()["file"]["digest"])
        except FileNotFoundError:
            return False

    def flip() -> None:
        data = bytearray(database.read_bytes())
        data[len(data) // 2] ^= 1
        database.write_bytes(data)

    process.kill()
    process.wait()
    flip()
    exporter.start()
    await exporter.until(whole, "a file that is whole")
    await exporter.until(lambda: "put anew" in exporter.log.read_text(), "the reason")
    await exporter.settled(bus, at_least=last)
    flip()
    environment = {**os.environ, **nats_server.account("operator"), "ROOT_DIR": str(exporter.folder / "data")}
    command = [sys.executable, "-m", "cli", "export", "--patience", str(PATIENCE)]
    asked = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.DEVNULL)
    assert await asked.wait() == 0
    assert whole()
    fact = await bus.last_message("CATALOG", "snapshot.published.main", SnapshotPublished)
    assert fact is not None
    assert fact.data.manifest == exporter.manifest()


async def test_sigterm_ends_it_in_seconds(exporter: Exporter, bus: Bus) -> None:
    last = await write(bus, library())
    process = exporter.start()
    await exporter.settled(bus, at_least=last)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    assert time.monotonic() - began < 5
