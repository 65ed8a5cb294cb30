"""The catalog at size: the bus that holds its facts, and the rebuild from them. For snapshots: ``export.py``.

    .venv/bin/python bench/catalog.py --songs 20000

Prints each measurement with its ratio to a plain way of doing the same, taken in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import resource
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nats.errors
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common.bus import Bus, Replay
from common.bus.streams import ensure_streams
from common.catalog import ids
from common.catalog.tables import metadata
from common.settings import Settings
from exporter.adapters.database import close_catalog, open_catalog
from exporter.handlers.project import Projector
from exporter.service.projection import Projection
from tests.support.nats import NatsServer

PLAYLIST_SIZE = 100
ENTRIES_PER_SONG = 2
IN_FLIGHT = 20_000
_HEAD = '"version":1,"time":"2026-01-01T00:00:00Z","producer":"bench.one","trace":"0000000000000000","data":'


def facts(songs: int, *, revision: int = 1, only: int = 1) -> Iterator[tuple[str, bytes]]:
    """The facts of a catalog: every song listed, described and stored, every second one in two places.

    Playlists hold each song twice. ``only``: of every so many songs and playlists one, as things change later.
    """
    every = [ids.song_id("bench", str(number)) for number in range(songs)]
    word = "large" if revision == 1 else "changed"
    for number in range(0, songs, only):
        song = every[number]
        asset = ids.asset_id(song, "main")
        name = f"Song number {number} of a {word} library"
        place = f"bench/Singer {number % 5000}/Singer {number % 5000} - {name}.mp3"
        digest = f"{song:064x}"
        yield (
            f"song.listed.{song}",
            f'{{"id":"{song:032x}","type":"song.listed",{_HEAD}{{"revision":{revision},"song_id":{song},'
            f'"platform":"bench","remote_id":"{number}","name":"{name}","singers":["Singer {number % 5000}"],'
            f'"album":"Album {number % 70000}",'
            f'"duration_seconds":{200 + number % 100}.5,"ext":"mp3","size":8000000,'
            f'"fingerprint":"{number:x}"}}}}'.encode(),
        )
        for backend, kind in (("library", "filesystem"), ("objects", "object_storage"))[: 2 - number // only % 2]:
            yield (
                f"file.stored.{backend}.{song}.main",
                f'{{"id":"{song:032x}","type":"file.stored",{_HEAD}{{"revision":{revision},"backend":"{backend}",'
                f'"backend_kind":"{kind}","song_id":{song},"variant":"main","asset_id":{asset},"locator":"{place}",'
                f'"sha256":"{digest}","size":8000000,"format":{{"ext":"mp3","mime":"audio/mpeg","bitrate":320000}},'
                f'"tags":{{"title":"{name}"}}}}}}'.encode(),
            )
        yield (
            f"song.described.{song}",
            f'{{"id":"{song:032x}","type":"song.described",{_HEAD}{{"revision":{revision},"song_id":{song},'
            f'"metadata":{{"genre":"Genre {number % 40}","year":{1960 + number % 60}}}}}}}'.encode(),
        )
    step = 7919
    for playlist in range(0, max(1, songs * ENTRIES_PER_SONG // PLAYLIST_SIZE), only):
        id = ids.playlist_id("bench", str(playlist))
        listed = ",".join(
            f"[{position},{every[(playlist * PLAYLIST_SIZE + position) * step % songs]}]"
            for position in range(PLAYLIST_SIZE)
        )
        yield (
            f"playlist.collected.bench.{id}.0",
            f'{{"id":"{id:032x}","type":"playlist.collected",{_HEAD}{{"revision":{revision},"playlist_id":{id},'
            f'"platform":"bench","remote_id":"{playlist}","version":{revision},"page":0,"pages":1,'
            f'"header":{{"name":"Playlist {playlist}","song_count":{PLAYLIST_SIZE}}},"entries":[{listed}]}}}}'.encode(),
        )
    yield (
        "backend.defined.objects",
        f'{{"id":"b","type":"backend.defined",{_HEAD}{{"revision":{revision},"backend":"objects",'
        f'"kind":"object_storage","public_base_url":"https://cdn.example/music"}}}}'.encode(),
    )


async def load(bus: Bus, published: Iterator[tuple[str, bytes]]) -> int:
    """Publish facts without waiting for each answer; return the stream's last sequence when it holds them."""
    last = (await bus.js.stream_info("CATALOG")).state.last_seq
    for number, (subject, payload) in enumerate(published, start=1):
        await bus.nc.publish(subject, payload)
        last += 1
        if number % IN_FLIGHT == 0:
            await bus.nc.flush(30)
    await bus.nc.flush(30)
    while (await bus.js.stream_info("CATALOG")).state.last_seq < last:
        await asyncio.sleep(0.2)
    return int(last)


async def read_only(bus: Bus, last: int, *, after: int = 0) -> float:
    """Seconds to read the stream and do nothing with it."""
    began = time.perf_counter()
    async for batch in Replay(bus, consumer="bench-reader").batches(after=after):
        if batch and batch[-1].sequence >= last:
            break
    return time.perf_counter() - began


async def project(bus: Bus, database: Path, last: int) -> float:
    """Seconds from where the database stands to the last fact, by the exporter's own projector."""
    stop = asyncio.Event()
    with ThreadPoolExecutor(1) as thread:
        loop = asyncio.get_running_loop()
        connection = await loop.run_in_executor(thread, open_catalog, database)
        projection = await loop.run_in_executor(thread, Projection, connection)
        projector = Projector(
            bus=bus,
            replay=Replay(bus, consumer="bench-projector"),
            projection=projection,
            thread=thread,
            stop=stop,
            changed=lambda: None,
        )
        began = time.perf_counter()
        running = asyncio.create_task(projector.run())
        while projector.position.sequence < last:
            await asyncio.sleep(0.05)
            if running.done():
                running.result()
        seconds = time.perf_counter() - began
        stop.set()
        await running
        await loop.run_in_executor(thread, close_catalog, connection)
    return seconds


def insert_same_rows(source: Path, target: Path, *, after: int = 0) -> tuple[int, float]:
    """(rows, seconds) to write the catalog's own rows by plain executemany, in transactions of 8,000.

    ``after``: only those of songs and playlists that have changed after that sequence, over those that are there.
    """
    changed = "SELECT key FROM catalog_changes WHERE kind = '{}' AND sequence > " + str(after)
    of_song, of_playlist = changed.format("song"), changed.format("playlist")
    chosen = {
        "songs": f"WHERE id IN ({of_song})",
        "file_assets": f"WHERE song_id IN ({of_song})",
        "file_locations": f"WHERE file_asset_id IN (SELECT id FROM file_assets WHERE song_id IN ({of_song}))",
        "playlists": f"WHERE id IN ({of_playlist})",
        "playlist_songs": f"WHERE playlist_id IN ({of_playlist})",
    }
    count, seconds = 0, 0.0
    with contextlib.closing(sqlite3.connect(source)) as reader, contextlib.closing(sqlite3.connect(target)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("PRAGMA synchronous = FULL")
        writer.execute("PRAGMA cache_size = -131072")
        if not after:
            for (statement,) in reader.execute(OWN_SCHEMA.format("main")):
                writer.execute(statement)
        for name, table in metadata.tables.items():
            marks = ", ".join("?" * len(table.columns))
            # In the order of arrival, which for hashed ids is no order.
            order = "" if name in ("playlist_songs", "pool_playlists") else "ORDER BY (rowid * 2654435761) % 1000003"
            cursor = reader.execute(f"SELECT * FROM {name} {chosen.get(name, '') if after else ''} {order}")
            while rows := cursor.fetchmany(8000):
                began = time.perf_counter()
                writer.executemany(f"INSERT OR REPLACE INTO {name} VALUES ({marks})", rows)
                writer.commit()
                seconds += time.perf_counter() - began
                count += len(rows)
    return count, seconds


OWN_SCHEMA = (
    "SELECT sql FROM {}.sqlite_master WHERE sql IS NOT NULL AND tbl_name NOT LIKE 'fact%' AND tbl_name NOT LIKE 'proj%'"
    " AND tbl_name NOT LIKE 'catalog_%' AND tbl_name NOT LIKE 'sqlite%' ORDER BY type DESC"
)


def memory_mb(pid: int | str, what: str = "VmRSS") -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) / 1024
    return 0.0


def processor_seconds() -> float:
    """Of this process, and of those that it has started and ended."""
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


async def bus_and_rebuild(songs: int, folder: Path) -> None:
    server = NatsServer(folder / "nats")
    server.start()
    settings = Settings.model_validate(
        {"nats_url": server.url, "nats_user": server.user, "nats_password": server.password}
    )
    database = folder / "catalog.db"
    try:
        bus = await Bus.connect(settings, service="bench", instance="one")
        await ensure_streams(bus)
        began = time.perf_counter()
        count = await load(bus, facts(songs))
        seconds = time.perf_counter() - began
        print(f"facts in CATALOG                       {count:>12,}   loaded at {count / seconds:,.0f}/s")
        print(f"server memory after load               {memory_mb(server.pid):>12,.0f} MB")
        await bus.close()
        server.stop()
        began = time.perf_counter()
        server.restart()
        bus = await _connect(settings)
        while (await bus.js.stream_info("CATALOG")).state.messages < count:
            await asyncio.sleep(0.01)
        print(f"server restart until CATALOG answers   {time.perf_counter() - began:>12.2f} s")
        print(f"server memory after restart            {memory_mb(server.pid):>12,.0f} MB")
        print(f"server on disk                         {size_mb(folder / 'nats'):>12,.0f} MB")
        await compared(bus, database, folder / "plain.db", after=0, last=count, what="rebuild of catalog.db")
        last = await load(bus, facts(songs, revision=2, only=10))
        await compared(
            bus, database, folder / "plain.db", after=count, last=last, what="projection, every tenth changed"
        )
        await bus.close()
    finally:
        server.stop()
    (folder / "plain.db").unlink()


async def compared(bus: Bus, database: Path, plain: Path, *, after: int, last: int, what: str) -> None:
    """Read, project, and write the same rows plainly, each once."""
    count = last - after
    before = time.process_time()
    read = await read_only(bus, last, after=after)
    print(
        f"{'read CATALOG, do nothing':<38} {count / read:>12,.0f} facts/s   {read:.1f} s   "
        f"{time.process_time() - before:.1f} s of processor"
    )
    before = processor_seconds()
    own = await project(bus, database, last)
    print(
        f"{what:<38} {count / own:>12,.0f} facts/s   {own:.1f} s   {read / own:.2f} of reading alone   "
        f"{processor_seconds() - before:.1f} s of processor, {memory_mb('self', 'VmHWM'):,.0f} MB"
    )
    rows, inserted = await asyncio.to_thread(insert_same_rows, database, plain, after=after)
    print(
        f"{'executemany of the same final rows':<38} {rows / inserted:>12,.0f} rows/s    {inserted:.1f} s   "
        f"ours takes {own / inserted:.2f} times that"
    )


async def _connect(settings: Settings) -> Bus:
    while True:
        try:
            bus = await Bus.connect(settings, service="bench", instance="one")
            await bus.js.account_info()
        except (nats.errors.Error, TimeoutError):
            continue
        return bus


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=20_000)
    parser.add_argument("--dir", type=Path, default=None, help="a folder on the disk to measure; default temporary")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-catalog-", dir=given.dir))
    try:
        uvloop.run(bus_and_rebuild(given.songs, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
