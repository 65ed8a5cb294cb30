"""The catalog at size: the bus that holds its facts, the rebuild from them, and the export.

    .venv/bin/python bench/catalog.py --songs 20000

Prints each measurement with its ratio to a plain way of doing the same, taken in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
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
from exporter.adapters.export import export_snapshot
from exporter.handlers.project import Projector
from exporter.service.projection import Projection
from exporter.service.read_model import create_tables
from tests.support.nats import NatsServer

PLAYLIST_SIZE = 100
ENTRIES_PER_SONG = 2
IN_FLIGHT = 20_000
_HEAD = '"version":1,"time":"2026-01-01T00:00:00Z","producer":"bench.one","trace":"0000000000000000","data":'


def facts(songs: int) -> Iterator[tuple[str, bytes]]:
    """The facts of a catalog: four a song, and playlists that hold each song twice."""
    every = [ids.song_id("bench", str(number)) for number in range(songs)]
    for number, song in enumerate(every):
        asset = ids.asset_id(song, "main")
        name = f"Song number {number} of a large library"
        place = f"bench/Singer {number % 5000}/Singer {number % 5000} - {name}.mp3"
        digest = f"{song:064x}"
        yield (
            f"song.listed.{song}",
            f'{{"id":"{song:032x}","type":"song.listed",{_HEAD}{{"revision":1,"song_id":{song},"platform":"bench",'
            f'"remote_id":"{number}","name":"{name}","singers":["Singer {number % 5000}"],'
            f'"album":"Album {number % 70000}",'
            f'"duration_seconds":{200 + number % 100}.5,"ext":"mp3","size":8000000,'
            f'"fingerprint":"{number:x}"}}}}'.encode(),
        )
        for backend, kind in (("library", "filesystem"), ("objects", "object_storage")):
            yield (
                f"file.stored.{backend}.{song}.main",
                f'{{"id":"{song:032x}","type":"file.stored",{_HEAD}{{"revision":1,"backend":"{backend}",'
                f'"backend_kind":"{kind}","song_id":{song},"variant":"main","asset_id":{asset},"locator":"{place}",'
                f'"sha256":"{digest}","size":8000000,"format":{{"ext":"mp3","mime":"audio/mpeg","bitrate":320000}},'
                f'"tags":{{"title":"{name}"}}}}}}'.encode(),
            )
        yield (
            f"song.described.{song}",
            f'{{"id":"{song:032x}","type":"song.described",{_HEAD}{{"revision":1,"song_id":{song},'
            f'"metadata":{{"genre":"Genre {number % 40}","year":{1960 + number % 60}}}}}}}'.encode(),
        )
    step = 7919
    for playlist in range(max(1, songs * ENTRIES_PER_SONG // PLAYLIST_SIZE)):
        id = ids.playlist_id("bench", str(playlist))
        listed = ",".join(
            f"[{position},{every[(playlist * PLAYLIST_SIZE + position) * step % songs]}]"
            for position in range(PLAYLIST_SIZE)
        )
        yield (
            f"playlist.collected.bench.{id}.0",
            f'{{"id":"{id:032x}","type":"playlist.collected",{_HEAD}{{"revision":1,"playlist_id":{id},'
            f'"platform":"bench","remote_id":"{playlist}","version":1,"page":0,"pages":1,'
            f'"header":{{"name":"Playlist {playlist}","song_count":{PLAYLIST_SIZE}}},"entries":[{listed}]}}}}'.encode(),
        )
    yield (
        "backend.defined.objects",
        f'{{"id":"b","type":"backend.defined",{_HEAD}{{"revision":1,"backend":"objects",'
        f'"kind":"object_storage","public_base_url":"https://cdn.example/music"}}}}'.encode(),
    )


async def load(bus: Bus, songs: int) -> int:
    """Publish all facts without waiting for each answer; return how many the stream holds."""
    count = 0
    for subject, payload in facts(songs):
        await bus.nc.publish(subject, payload)
        count += 1
        if count % IN_FLIGHT == 0:
            await bus.nc.flush(30)
    await bus.nc.flush(30)
    while (held := (await bus.js.stream_info("CATALOG")).state.messages) < count:
        await asyncio.sleep(0.2)
    return int(held)


async def read_only(bus: Bus, last: int) -> float:
    """Seconds to read the stream and do nothing with it."""
    began = time.perf_counter()
    async for batch in Replay(bus, consumer="bench-reader").batches(after=0):
        if batch and batch[-1].sequence >= last:
            break
    return time.perf_counter() - began


async def project(bus: Bus, database: Path, last: int) -> float:
    """Seconds from an empty database to the last fact, by the exporter's own projector."""
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


def insert_same_rows(source: Path, target: Path) -> float:
    """Seconds to write the catalog's own rows by plain executemany, in transactions as large as ours."""
    with contextlib.closing(sqlite3.connect(source)) as reader, contextlib.closing(sqlite3.connect(target)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("PRAGMA synchronous = FULL")
        writer.execute("PRAGMA cache_size = -131072")
        for (statement,) in reader.execute(
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'fact%' AND name NOT LIKE 'proj%'"
            " AND name NOT LIKE 'ix_proj%' AND name NOT LIKE 'sqlite%'"
        ):
            writer.execute(statement)
        seconds = 0.0
        for name, table in metadata.tables.items():
            marks = ", ".join("?" * len(table.columns))
            # In the order of arrival, which for hashed ids is no order.
            cursor = (
                reader.execute(f"SELECT * FROM {name} ORDER BY (rowid * 2654435761) % 1000003")
                if (name not in ("playlist_songs", "pool_playlists"))
                else reader.execute(f"SELECT * FROM {name}")
            )
            while rows := cursor.fetchmany(8000):
                began = time.perf_counter()
                writer.executemany(f"INSERT INTO {name} VALUES ({marks})", rows)
                writer.commit()
                seconds += time.perf_counter() - began
    return seconds


def vacuum_into(source: Path, target: Path) -> None:
    with contextlib.closing(sqlite3.connect(source)) as connection:
        connection.execute("VACUUM INTO ?", (str(target / "copy.db"),))


def attach_and_insert(source: Path, target: Path) -> None:
    """The export's statements alone: no digests, no syncs."""
    with contextlib.closing(sqlite3.connect(target / "copy.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("ATTACH ? AS source", (str(source),))
        connection.execute("BEGIN")
        create_tables(connection)
        for name, select in PLAIN.items():
            connection.execute(f"INSERT INTO {name} {select}")
        connection.execute("COMMIT")


def fetchall_and_executemany(source: Path, target: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(target / "copy.db")) as writer,
        contextlib.closing(sqlite3.connect(source)) as reader,
    ):
        create_tables(writer)
        for name, select in PLAIN.items():
            rows = reader.execute(select.replace("source.", "")).fetchall()
            if rows:
                writer.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(rows[0]))})", rows)
        writer.commit()


PLAIN = {
    "catalog_playlists": "SELECT id, platform, remote_playlist_id, name, description, cover_url, play_count, "
    "collected_song_count FROM source.playlists",
    "catalog_tracks": "SELECT * FROM source.songs",
    "catalog_playlist_tracks": "SELECT playlist_id, song_id, position FROM source.playlist_songs",
    "catalog_track_files": "SELECT a.song_id, a.quality_label, a.ext, a.file_size_bytes, b.backend_type, b.name, "
    "l.locator, 'https://cdn.example/music/' || l.locator, l.status, l.is_primary FROM source.file_assets a "
    "JOIN source.file_locations l ON l.file_asset_id = a.id JOIN source.storage_backends b ON b.id = l.backend_id",
}


def export_whole(source: Path, target: Path) -> None:
    export_snapshot(source, target / "snapshot")


def catalog_only(source: Path, target: Path) -> None:
    """A copy with the contract's tables alone, so that VACUUM INTO copies what the export reads."""
    with contextlib.closing(sqlite3.connect(target, isolation_level=None)) as connection:
        connection.execute("ATTACH ? AS source", (str(source),))
        connection.execute("BEGIN")
        for (statement,) in connection.execute(
            "SELECT sql FROM source.sqlite_master WHERE type = 'table' AND name NOT LIKE 'fact%'"
            " AND name NOT LIKE 'proj%' AND name NOT LIKE 'sqlite%'"
        ).fetchall():
            connection.execute(statement)
        for name in metadata.tables:
            connection.execute(f"INSERT INTO main.{name} SELECT * FROM source.{name}")
        for (statement,) in connection.execute(
            "SELECT sql FROM source.sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND name LIKE 'ix_file%'"
        ).fetchall():
            connection.execute(statement)
        connection.execute("COMMIT")


Method = Callable[[Path, Path], None]


def measured(method: Method, source: Path, folder: Path) -> tuple[float, float]:
    """(median seconds, largest memory in MB) of three runs, each in a process of its own."""
    results = []
    for _ in range(3):
        target = Path(tempfile.mkdtemp(dir=folder))
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            results.append(pool.apply(_timed, (method, source, target)))
        shutil.rmtree(target)
    return statistics.median(one[0] for one in results), max(one[1] for one in results)


def _timed(method: Method, source: Path, target: Path) -> tuple[float, float]:
    before = memory_mb("self", "VmHWM")
    began = time.perf_counter()
    method(source, target)
    seconds = time.perf_counter() - began
    return seconds, memory_mb("self", "VmHWM") - before


def memory_mb(pid: int | str, what: str = "VmRSS") -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) / 1024
    return 0.0


def size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


async def bus_and_rebuild(songs: int, folder: Path) -> Path:
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
        count = await load(bus, songs)
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
        plain = await read_only(bus, count)
        print(f"read CATALOG, do nothing               {count / plain:>12,.0f} facts/s   {plain:.1f} s")
        rebuild = await project(bus, database, count)
        print(
            f"rebuild of catalog.db                  {count / rebuild:>12,.0f} facts/s   {rebuild:.1f} s   "
            f"{plain / rebuild:.2f} of reading alone"
        )
        await bus.close()
    finally:
        server.stop()
    inserted = insert_same_rows(database, folder / "plain.db")
    print(
        f"executemany of the same final rows     {count / inserted:>12,.0f} facts/s   {inserted:.1f} s   "
        f"rebuild takes {rebuild / inserted:.2f} times that"
    )
    (folder / "plain.db").unlink()
    return database


async def _connect(settings: Settings) -> Bus:
    while True:
        try:
            bus = await Bus.connect(settings, service="bench", instance="one")
            await bus.js.account_info()
        except (nats.errors.Error, TimeoutError):
            continue
        return bus


def exports(database: Path, folder: Path) -> None:
    source = folder / "source.db"
    catalog_only(database, source)
    database.unlink()
    print(f"catalog to export                      {source.stat().st_size / 1e6:>12,.0f} MB")
    results = {
        name: measured(method, source, folder)
        for name, method in {
            "VACUUM INTO": vacuum_into,
            "ATTACH, INSERT SELECT": attach_and_insert,
            "fetchall, executemany": fetchall_and_executemany,
            "export with digests and syncs": export_whole,
        }.items()
    }
    own = results["export with digests and syncs"]
    for name, (seconds, memory) in results.items():
        print(f"{name:<38} {seconds:>12.2f} s  {memory:>7,.0f} MB   export takes {own[0] / seconds:.2f} times that")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=20_000)
    parser.add_argument("--dir", type=Path, default=None, help="a folder on the disk to measure; default temporary")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-catalog-", dir=given.dir))
    try:
        database = uvloop.run(bus_and_rebuild(given.songs, folder))
        exports(database, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
