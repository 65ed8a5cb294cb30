"""A mirror of a large catalog: everything, then the changes of 1 %, each with all checks, over HTTP on loopback.

    .venv/bin/python bench/pull.py --songs 1000000

Prints the median of each with its ratio to a plain way of doing the same: a copy of the file, and the same rows by
executemany, without any check.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import multiprocessing
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mirror.client import Mirror
from mirror.folder import Folder
from mirror.format.digest import content_of
from mirror.format.keys import SigningKey
from mirror.format.manifest import sign
from mirror.format.pack import PackWriter
from mirror.format.schema import TABLES, Key, Row, create_tables
from tests.support.publisher import CATALOG, Publisher, PublisherServer, Reply, serving

PLAYLIST_SIZE = 100
ENTRIES_PER_SONG = 2
CHANGED = 0.01
AIM_SECONDS = 5.0
STEP = 7919
"""A prime, so that playlists hold songs from all over."""


@dataclass(frozen=True)
class Snapshot:
    id: str
    manifest: dict[str, Any]

    @property
    def manifest_bytes(self) -> bytes:
        return json.dumps(self.manifest).encode()


@dataclass(frozen=True)
class Pack:
    data: bytes
    blobs: int


def track(number: int, song: int, note: str = "") -> Row:
    singer = f"Singer {number % 5000}"
    name = f"Song number {number} of a large library{note}"
    more = (
        f'{{"album":"Album {number % 70000}","genre":"Genre {number % 40}","duration_seconds":{200 + number % 100}.5}}'
    )
    return song, "bench", str(number), name, singer, "mp3", 8_000_000 + number, more


def files(number: int, song: int, note: str = "") -> list[Row]:
    """One location for each song, two for every other."""
    place = f"bench/Singer {number % 5000}/Singer {number % 5000} - Song number {number} of a large library{note}.mp3"
    here: Row = (song, "main", "mp3", 8_000_000, "filesystem", "library", place, None, "active", 1)
    there: Row = (
        song,
        "main",
        "mp3",
        8_000_000,
        "object_storage",
        "objects",
        place,
        f"https://cdn/{place}",
        "active",
        0,
    )
    return [here, there] if number % 2 else [here]


def entries(playlist: int, id: int, songs: list[int], offset: int = 0) -> list[Row]:
    first = playlist * PLAYLIST_SIZE + offset
    return [(id, songs[(first + place) * STEP % len(songs)], place) for place in range(PLAYLIST_SIZE)]


def make(songs: list[int], playlists: list[int], path: Path) -> None:
    """The catalog before the changes."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN")
    create_tables(connection)
    insert(connection, "catalog_tracks", (track(number, song) for number, song in enumerate(songs)))
    insert(connection, "catalog_track_files", (row for n, song in enumerate(songs) for row in files(n, song)))
    insert(
        connection,
        "catalog_playlists",
        ((id, "bench", str(n), f"Playlist {n}", None, None, n, PLAYLIST_SIZE) for n, id in enumerate(playlists)),
    )
    insert(
        connection,
        "catalog_playlist_tracks",
        (row for n, id in enumerate(playlists) for row in entries(n, id, songs)),
    )
    connection.execute("COMMIT")
    connection.close()


def insert(connection: sqlite3.Connection, table: str, rows: Iterable[Row]) -> None:
    connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(TABLES[table].columns))})", rows)


Changes = dict[str, dict[Key, list[Row]]]


def change(songs: list[int], playlists: list[int]) -> Changes:
    """The groups of 1 % of the songs and of the playlists, as they are afterwards."""
    chance = random.Random(1)
    numbers = chance.sample(range(len(songs)), max(1, int(len(songs) * CHANGED)))
    lists = chance.sample(range(len(playlists)), max(1, int(len(playlists) * CHANGED)))
    return {
        "catalog_tracks": {songs[number]: [track(number, songs[number], "!")] for number in numbers},
        "catalog_track_files": {songs[number]: files(number, songs[number], "!") for number in numbers},
        "catalog_playlist_tracks": {playlists[n]: entries(n, playlists[n], songs, 17) for n in lists},
    }


def apply_plainly(connection: sqlite3.Connection, changes: Mapping[str, Mapping[Key, list[Row]]]) -> None:
    for table, groups in changes.items():
        connection.executemany(f"DELETE FROM {table} WHERE {TABLES[table].group} = ?", [(key,) for key in groups])
        insert(connection, table, itertools.chain.from_iterable(groups.values()))


def snapshot(database: Path, key: SigningKey, revision: int) -> Snapshot:
    content = content_of(database)
    manifest = {
        "snapshot_id": content.snapshot_id,
        "generated_at": f"2026-01-01T00:00:0{revision}.000Z",
        "schema_version": 1,
        "playlist_count": content.tables["catalog_playlists"].rows,
        "track_count": content.tables["catalog_tracks"].rows,
        "file_count": content.tables["catalog_track_files"].rows,
        "cover_count": 0,
        "parent": None,
        "lineage": "0" * 32,
        "revision": revision,
        "tables": {
            name: {"rows": table.rows, "size": table.size, "digest": table.digest}
            for name, table in content.tables.items()
        },
    }
    return Snapshot(content.snapshot_id, sign(manifest, key))


def pack(want: Snapshot, have: Snapshot | None, groups: Iterable[tuple[str, Key, list[Row]]]) -> Pack:
    file = io.BytesIO()
    writer = PackWriter(file, want=want.id, have=have.id if have else None, manifest=want.manifest_bytes)
    for table, key, rows in groups:
        writer.add(table, key, rows)
    return Pack(blobs=writer.close().blob_count, data=file.getvalue())


def all_groups(database: Path) -> Iterator[tuple[str, Key, list[Row]]]:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        for name, table in TABLES.items():
            rows = connection.execute(f"SELECT * FROM {name} ORDER BY {', '.join(table.order)}")
            for key, group in itertools.groupby(rows, key=lambda row: row[table.group_index]):
                yield name, key, list(group)


def sorted_groups(changes: Changes) -> Iterator[tuple[str, Key, list[Row]]]:
    for table in sorted(changes):
        for key in sorted(changes[table]):
            yield table, key, changes[table][key]


def measured(act: Callable[..., None], *arguments: object) -> tuple[float, float]:
    """(seconds, memory in MB) of one run in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_timed, (act, *arguments))


def _timed(act: Callable[..., None], *arguments: object) -> tuple[float, float]:
    before, began = _memory_mb(), time.perf_counter()
    act(*arguments)
    return time.perf_counter() - began, _memory_mb() - before


def _memory_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def pull(url: str, folder: Path, key: bytes) -> None:
    with Mirror(folder, url, keys=[key]) as mirror:
        mirror.pull()


def copy_and_change(source: Path, target: Path, changes: Changes) -> None:
    """The plain way: no digest, no signature, no second look."""
    shutil.copyfile(source, target)
    with contextlib.closing(sqlite3.connect(target, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = -65536")
        connection.execute("BEGIN")
        apply_plainly(connection, changes)
        connection.execute("COMMIT")


def insert_all(source: Path, target: Path) -> None:
    """The plain way to have everything: the same rows by executemany."""
    with (
        contextlib.closing(sqlite3.connect(source)) as reader,
        contextlib.closing(sqlite3.connect(target, isolation_level=None)) as writer,
    ):
        writer.execute("PRAGMA cache_size = -65536")
        writer.execute("BEGIN")
        create_tables(writer)
        for name, table in TABLES.items():
            rows = reader.execute(f"SELECT * FROM {name} ORDER BY {', '.join(table.order)}")
            while some := rows.fetchmany(10_000):
                insert(writer, name, some)
        writer.execute("COMMIT")


def offer(server: PublisherServer, wanted: Snapshot, offered: Pack) -> None:
    """Have the server answer the next pull so."""
    refs = json.dumps({"snapshot_id": wanted.id, "manifest": wanted.manifest}).encode()
    server.replies["refs"] = [Reply(body=refs, headers={"Content-Type": "application/json"})]
    server.replies["fetch"] = [lambda _: server.offer(offered.data, offered.blobs)]


def back_to(folder: Path, before: Path, memory: bytes) -> None:
    """Put the mirror back to where it was before a pull."""
    shutil.rmtree((folder / "current").resolve())
    (folder / "current").unlink()
    (folder / "current").symlink_to(Path("snapshots") / before.name)
    (folder / "mirror.json").write_bytes(memory)


def run(count: int, rounds: int, folder: Path) -> None:
    chance = random.Random(0)
    songs = chance.sample(range(1 << 53), count)
    playlists = chance.sample(range(1 << 53), max(1, count * ENTRIES_PER_SONG // PLAYLIST_SIZE))
    key = SigningKey.generate()
    before, after = folder / "before.db", folder / "after.db"
    make(songs, playlists, before)
    changes = change(songs, playlists)
    copy_and_change(before, after, changes)
    first, second = snapshot(before, key, 1), snapshot(after, key, 2)
    full, delta = pack(first, None, all_groups(before)), pack(second, first, sorted_groups(changes))
    rows = sum(len(group) for groups in changes.values() for group in groups.values())
    print(f"database                      {before.stat().st_size / 1e6:>10,.0f} MB")
    print(f"pack of everything            {len(full.data) / 1e6:>10,.1f} MB")
    print(f"pack of the changes           {len(delta.data) / 1e6:>10,.1f} MB   {len(delta.data) / len(full.data):.2%}")
    print(f"rows in it                    {rows:>10,}")
    results: dict[str, list[tuple[float, float]]] = {}
    with serving(Publisher()) as server:
        url = f"{server.origin}/{CATALOG}"
        for round in range(rounds):
            mirror = folder / f"mirror{round}"
            offer(server, first, full)
            results.setdefault("full", []).append(measured(pull, url, mirror, key.public_key))
            at = (mirror / "current").resolve()
            memory = (mirror / "mirror.json").read_bytes()
            offer(server, second, delta)
            results.setdefault("delta", []).append(measured(pull, url, mirror, key.public_key))
            here = Folder(mirror).current()
            assert here is not None
            if round == 0:
                assert content_of(here.database).snapshot_id == second.id
            back_to(mirror, at, memory)
            results.setdefault("plain delta", []).append(
                measured(copy_and_change, before, folder / "plain.db", changes)
            )
            (folder / "plain.db").unlink()
            results.setdefault("plain full", []).append(measured(insert_all, before, folder / "plain.db"))
            (folder / "plain.db").unlink()
            shutil.rmtree(mirror)
    report(results)


def report(results: Mapping[str, list[tuple[float, float]]]) -> None:
    seconds = {name: statistics.median(one[0] for one in runs) for name, runs in results.items()}
    memory = {name: max(one[1] for one in runs) for name, runs in results.items()}
    for name, plain, label, peer, aim in (
        ("delta", "plain delta", "pull of the changes, checked", "copy and executemany", f"   aim: {AIM_SECONDS:g} s"),
        ("full", "plain full", "pull of everything, checked", "executemany", ""),
    ):
        ratio = seconds[name] / seconds[plain]
        print(f"{label:<29} {seconds[name]:>10.2f} s  {memory[name]:>6,.0f} MB   {ratio:.2f} of {peer}{aim}")
        print(f"  {peer:<27} {seconds[plain]:>10.2f} s  {memory[plain]:>6,.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", type=Path, default=None, help="a folder on the disk to measure; default temporary")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-mirror-", dir=given.dir))
    try:
        run(given.songs, given.rounds, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
