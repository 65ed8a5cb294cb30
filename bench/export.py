"""Snapshots at size: what one costs after changes, whole, and offline, beside plain ways to copy a database.

    python bench/export.py                     1,000,000 songs
    python bench/export.py --songs 50000

Playlists, entries and locations are in proportion: 20,000, 2,000,000 and 1,500,000 with a million songs. Each
method runs in a process of its own, three times (``--rounds``); its median and largest memory are printed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import multiprocessing
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from exporter.adapters.database import close_catalog, open_catalog
from exporter.adapters.export import export_snapshot
from exporter.adapters.read_database import ReadDatabase, name_catalog
from exporter.adapters.snapshots import SnapshotFolder
from exporter.service.functions import dump_json
from exporter.service.projection import Projection
from mirror.format.digest import content_of
from mirror.format.schema import create_tables

METADATA = {
    "bitrate": 320_000,
    "codec": "mp3",
    "duration_seconds": 215.5,
    "lossless": False,
    "sample_rate": 44_100,
    "year": 1999,
}
"""What the projection writes of a song, beside its album and genre."""
HAN = "周杰伦夜曲晴天海阔空雨爱情风月花雪山水"
Method = Callable[[Path, Path], float]


def name_of(number: int) -> str:
    """Every second one in Chinese."""
    if number % 2:
        return f"Song number {number} of a large library"
    return f"{HAN[number % 18]}{HAN[number // 18 % 18]}{HAN[number // 324 % 18]} {number}"


def singer_of(number: int) -> str:
    which = number % 5000
    return f"Singer {which}" if which % 2 else f"{HAN[which % 18]}{HAN[which // 18 % 18]} {which}"


def make_catalog(path: Path, songs: int) -> None:
    """A catalog as the projection keeps it, its ids as scattered as hashes, without the facts."""
    chance = random.Random(1)
    connection = open_catalog(path)
    Projection(connection)
    name_catalog(connection)
    close_catalog(connection)
    playlists = max(1, songs // 50)
    per_list = songs * 2 // playlists

    def scattered(count: int) -> list[int]:
        return chance.sample(range(2**53), count)

    song_ids, list_ids, asset_ids = sorted(scattered(songs)), sorted(scattered(playlists)), scattered(songs)
    copies = songs // 2
    location_ids = scattered(songs + copies)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("BEGIN")
        indexes = db.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND name LIKE 'ix_file%'"
        ).fetchall()
        for index, _ in indexes:
            db.execute(f"DROP INDEX {index}")
        db.executemany(
            "INSERT INTO songs VALUES (?, 'bench', ?, ?, ?, 'mp3', ?, ?)",
            (
                (
                    id,
                    f"{n}",
                    name_of(n),
                    singer_of(n),
                    8_000_000 + n,
                    dump_json({**METADATA, "album": f"Album {n % 70000} of many", "genre": f"Genre {n % 40}"}),
                )
                for n, id in enumerate(song_ids)
            ),
        )
        db.executemany(
            "INSERT INTO playlists VALUES (?, 'bench', ?, ?, 'A list of songs', ?, ?, ?)",
            ((id, f"{n}", f"热歌榜 {n}", f"https://covers.example/{n}", n, per_list) for n, id in enumerate(list_ids)),
        )
        db.executemany(
            "INSERT INTO playlist_songs (playlist_id, song_id, position) VALUES (?, ?, ?)",
            ((id, song_ids[chance.randrange(songs)], place) for id in list_ids for place in range(per_list)),
        )
        db.execute("DELETE FROM storage_backends")
        db.execute("INSERT INTO storage_backends VALUES (1, 'library', 'filesystem', '/x', NULL)")
        db.execute(
            "INSERT INTO storage_backends VALUES (2, 'objects', 'object_storage', '', ?)",
            ('{"public_base_url": "https://cdn.example/music"}',),
        )
        db.executemany(
            "INSERT INTO file_assets VALUES (?, ?, '320k', 'mp3', ?)",
            sorted((asset, song, 8_000_000) for asset, song in zip(asset_ids, song_ids, strict=True)),
        )
        db.executemany(
            "INSERT INTO file_locations VALUES (?, ?, ?, ?, 'active', ?)",
            sorted(
                (
                    location_ids[n],
                    asset_ids[n % songs],
                    1 if n < songs else 2,
                    f"bench/{singer_of(n % songs)}/{singer_of(n % songs)} - {name_of(n % songs)}.mp3",
                    int(n < songs),
                )
                for n in range(songs + copies)
            ),
        )
        db.executemany(
            "INSERT INTO playlist_pools VALUES (?, 'bench', 'toplist', ?, ?, NULL, NULL)",
            ((n, f"{n}", f"Pool {n}") for n in range(20)),
        )
        db.executemany(
            "INSERT INTO pool_playlists (pool_id, playlist_id) VALUES (?, ?)",
            ((n % 20, id) for n, id in enumerate(list_ids[:1000])),
        )
        for _, statement in indexes:
            db.execute(statement)
        db.execute(
            "INSERT OR REPLACE INTO projection_state (id, schema_version, sequence, content_sequence)"
            " VALUES (1, 1, 1, 1)"
        )
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


CHANGES = (
    ("song", "songs", "UPDATE songs SET name = name || ' (live)' WHERE id IN temp.these"),
    (
        "song",
        "songs",
        "DELETE FROM file_locations WHERE backend_id = 2"
        " AND file_asset_id IN (SELECT id FROM file_assets WHERE song_id IN temp.these)",
    ),
    (
        "playlist",
        "playlists",
        "UPDATE playlist_songs SET song_id = (SELECT song_id FROM playlist_songs o"
        " WHERE o.playlist_id = playlist_songs.playlist_id AND o.position = 1)"
        " WHERE position = 0 AND playlist_id IN temp.these",
    ),
)


def change(path: Path) -> None:
    """Rename half a percent of the songs, take the copies of as many, replace an entry in a percent of the lists."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as db:
        db.execute("BEGIN IMMEDIATE")
        sequence = db.execute("SELECT sequence + 1 FROM projection_state").fetchone()[0]
        db.execute("UPDATE projection_state SET sequence = ?1, content_sequence = ?1", (sequence,))
        for kind, table, statement in CHANGES:
            db.execute("DROP TABLE IF EXISTS temp.these")
            db.execute("CREATE TEMP TABLE these (id INTEGER PRIMARY KEY)")
            share = 50 if kind == "song" else 100
            db.execute(f"INSERT INTO these SELECT id FROM {table} WHERE abs(random()) % 10000 < {share}")
            db.execute(statement)
            db.execute(
                f"INSERT INTO catalog_changes SELECT '{kind}', id, {sequence} FROM temp.these WHERE true"
                " ON CONFLICT DO UPDATE SET sequence = excluded.sequence"
            )
        db.execute("COMMIT")


def vacuum_into(source: Path, target: Path) -> float:
    began = time.perf_counter()
    with contextlib.closing(sqlite3.connect(source)) as connection:
        connection.execute("VACUUM INTO ?", (str(target / "copy.db"),))
    return time.perf_counter() - began


PLAIN = {
    "catalog_playlists": "SELECT id, platform, remote_playlist_id, name, description, cover_url, play_count, "
    "collected_song_count FROM source.playlists",
    "catalog_tracks": "SELECT * FROM source.songs",
    "catalog_playlist_tracks": "SELECT playlist_id, song_id, position FROM source.playlist_songs",
    "catalog_track_files": "SELECT a.song_id, a.quality_label, a.ext, a.file_size_bytes, b.backend_type, b.name, "
    "l.locator, 'https://cdn.example/music/' || l.locator, l.status, l.is_primary FROM source.file_assets a "
    "JOIN source.file_locations l ON l.file_asset_id = a.id JOIN source.storage_backends b ON b.id = l.backend_id",
}


def attach_and_insert(source: Path, target: Path) -> float:
    """Nothing but the rows: no checks, no digests, no signature, no syncs."""
    began = time.perf_counter()
    with contextlib.closing(sqlite3.connect(target / "copy.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("ATTACH ? AS source", (str(source),))
        connection.execute("BEGIN")
        create_tables(connection)
        for name, select in PLAIN.items():
            connection.execute(f"INSERT INTO {name} {select}")
        connection.execute("COMMIT")
    return time.perf_counter() - began


def fetchall_and_executemany(source: Path, target: Path) -> float:
    began = time.perf_counter()
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
    return time.perf_counter() - began


def offline(source: Path, target: Path) -> float:
    began = time.perf_counter()
    export_snapshot(source, target / "snapshot")
    return time.perf_counter() - began


def online_whole(source: Path, target: Path) -> float:
    return _made(source, target, target / "read")


def online_changed(source: Path, target: Path) -> float:
    """The exporter runs, and its last snapshot lacks what has changed since."""
    read = ReadDatabase(folder=source.parent / "read", catalog=source)
    read.update()
    change(source)
    return _made(source, target, source.parent / "read", read)


def online_unchanged_start(source: Path, target: Path) -> float:
    """The first export of a process looks whether the rows still have their digests."""
    return _made(source, target, source.parent / "read")


def _made(source: Path, target: Path, folder: Path, read: ReadDatabase | None = None) -> float:
    began = time.perf_counter()
    read = read or ReadDatabase(folder=folder, catalog=source)
    SnapshotFolder(target / "snapshots", keep=2).make(read)
    return time.perf_counter() - began


def parts(source: Path) -> None:
    """Where the time of the export after changes goes."""
    read = ReadDatabase(folder=source.parent / "read", catalog=source)
    read.update()
    change(source)
    steps: list[tuple[str, Callable[[], object]]] = [
        ("update of the read database", read.update),
        ("copy and digest of the file", lambda: read.copy(source.parent / "copy.db")),
        ("digest of the content, whole", lambda: content_of(read.path)),
        ("sha256 of the file", lambda: hashlib.file_digest(read.path.open("rb"), "sha256")),
    ]
    for name, step in steps:
        began = time.perf_counter()
        step()
        print(f"  {name:<36} {time.perf_counter() - began:>8.2f} s")
    (source.parent / "copy.db").unlink()


def measured(method: Method, source: Path, folder: Path, rounds: int) -> tuple[float, float]:
    """(median seconds, largest memory in MB), each run in a process of its own."""
    results = []
    for _ in range(rounds):
        target = Path(tempfile.mkdtemp(dir=folder))
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            results.append(pool.apply(_timed, (method, source, target)))
        shutil.rmtree(target)
    return statistics.median(one[0] for one in results), max(one[1] for one in results)


def _timed(method: Method, source: Path, target: Path) -> tuple[float, float]:
    before = _memory_mb()
    seconds = method(source, target)
    return seconds, _memory_mb() - before


def _memory_mb() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", type=Path, default=None, help="a folder on the disk to measure; default temporary")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-export-", dir=given.dir))
    source = folder / "catalog.db"
    try:
        make_catalog(source, given.songs)
        print(f"catalog of {given.songs:,} songs: {source.stat().st_size / 1e6:,.0f} MB")
        plain = {
            "VACUUM INTO": measured(vacuum_into, source, folder, given.rounds),
            "ATTACH, INSERT SELECT": measured(attach_and_insert, source, folder, given.rounds),
            "fetchall, executemany": measured(fetchall_and_executemany, source, folder, given.rounds),
        }
        ours = {
            "offline": measured(offline, source, folder, given.rounds),
            "online, whole": measured(online_whole, source, folder, given.rounds),
            "online, first of a process": measured(online_unchanged_start, source, folder, given.rounds),
            "online, after 1 % changes": measured(online_changed, source, folder, given.rounds),
        }
        for name, (seconds, memory) in (plain | ours).items():
            print(f"{name:<38} {seconds:>8.2f} s  {memory:>7,.0f} MB")
        changed, vacuum, loop = ours["online, after 1 % changes"], plain["VACUUM INTO"], plain["fetchall, executemany"]
        attach = plain["ATTACH, INSERT SELECT"]
        print(f"after 1 % changes / VACUUM INTO        {changed[0] / vacuum[0]:>8.2f}    aim: at most 2")
        print(f"whole / VACUUM INTO                    {ours['online, whole'][0] / vacuum[0]:>8.2f}")
        print(f"executemany / after 1 % changes        {loop[0] / changed[0]:>8.2f}    aim: at least 10")
        print(f"its memory / that of executemany       {changed[1] / loop[1]:>8.3f}    aim: under 0.1")
        print(f"offline / ATTACH, INSERT SELECT        {ours['offline'][0] / attach[0]:>8.2f}    aim: at most 2")
        print("parts of an export after changes")
        parts(source)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
