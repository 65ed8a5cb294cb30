"""Moving in: an older installation, adopted where it is, keeps its ids and downloads only its gaps."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from common.bus.connection import Bus, Stored
from common.bus.replay import Replay
from common.catalog.ids import song_id
from common.contracts.facts import PlaylistCollected, PoolDefined, SongListed
from common.contracts.names import JobType, Stage
from common.contracts.streams import CATALOG
from exporter.adapters.database import close_catalog, open_catalog
from exporter.init_db import init_db
from exporter.offline import export_snapshot
from exporter.service.projection import Projection, read_batch
from sources.local import POOL
from tests.support.audio import make_audio
from tests.support.collecting import Collecting
from tests.support.nats import NatsServer
from tests.support.older import BACKEND_ID, OlderInstallation, make_older

SONGS = 50_000
_COMPARED = {
    "songs": "id, platform, remote_song_id, name, singers, ext, file_size_bytes",
    "playlists": "id, platform, remote_playlist_id, name, description, cover_url, play_count",
    "playlist_songs": "playlist_id, song_id, position",
    "playlist_pools": "id, platform, pool_kind, external_id, name, url, metadata_json",
    "pool_playlists": "pool_id, playlist_id",
    "storage_backends": "id, name, backend_type",
}


class Moving:
    """The command, as its owner runs it."""

    def __init__(self, server: NatsServer, root: Path, older: OlderInstallation) -> None:
        self.older = older
        self.root = root
        self.reports = root / "reports"
        inherited = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG", "TMPDIR"}}
        self.environment = {
            **inherited,
            **server.settings,
            "ROOT_DIR": str(root / "data"),
            "LIBRARY_DIR": str(older.library),
        }

    def start(self, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "cli", "--json", "adopt", "--db", str(self.older.database)]
        return subprocess.Popen(
            [*command, "--library", str(self.older.library), "--report", str(self.reports), *options],
            env=self.environment,
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    async def run(self, *options: str, code: int = 0) -> dict[str, Any]:
        process = self.start(*options)
        out, err = await asyncio.to_thread(process.communicate)
        assert process.returncode == code, err
        assert "Traceback" not in err
        return json.loads(out) if code == 0 else {"error": err}


@pytest.fixture
def moving(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> Moving:
    return Moving(nats_server, tmp_path, make_older(tmp_path / "older", songs=1100))


async def last_sequence(bus: Bus) -> int:
    return (await bus.js.stream_info(CATALOG)).state.last_seq


async def catalog_of(bus: Bus, database: Path) -> Path:
    """What the exporter makes of CATALOG."""
    replay, connection = Replay(bus, stream=CATALOG, consumer="test-catalog"), open_catalog(database)
    try:
        projection = Projection(connection, library_root="/library")
        batch: list[Stored]
        async for batch in replay.batches(after=0, max_wait=0.05, max_messages=5000):
            if batch:
                projection.apply(read_batch(batch))
            elif replay.pending == 0:
                break
        assert projection.problems == 0
    finally:
        close_catalog(connection)
    return database


def differing(catalog: Path, older: OlderInstallation) -> dict[str, list[Any]]:
    """Rows of either database that the other has not, table by table."""
    found: dict[str, list[Any]] = {}
    with closing(sqlite3.connect(catalog)) as connection:
        connection.execute("ATTACH ? AS old", (str(older.database),))
        for table, columns in _COMPARED.items():
            for one, other in (("main", "old"), ("old", "main")):
                found[f"{table} of {one}"] = connection.execute(
                    f"SELECT {columns} FROM {one}.{table} EXCEPT SELECT {columns} FROM {other}.{table} LIMIT 3"
                ).fetchall()
        connection.execute("CREATE TEMP TABLE taken (id INTEGER PRIMARY KEY)")
        connection.executemany("INSERT INTO taken VALUES (?)", [(id,) for id in older.taken])
        wanted = "IN (SELECT id FROM temp.taken)"
        for table, columns, condition in (
            ("file_assets", "id, song_id, quality_label, ext, file_size_bytes", f"song_id {wanted}"),
            (
                "file_locations",
                "id, file_asset_id, backend_id, status, is_primary",
                f"file_asset_id - 1000000 {wanted}",
            ),
        ):
            found[f"{table} of main"] = connection.execute(
                f"SELECT {columns} FROM main.{table} EXCEPT SELECT {columns} FROM old.{table} WHERE {condition} LIMIT 3"
            ).fetchall()
            found[f"{table} of old"] = connection.execute(
                f"SELECT {columns} FROM old.{table} WHERE {condition} EXCEPT SELECT {columns} FROM main.{table} LIMIT 3"
            ).fetchall()
    return {table: rows for table, rows in found.items() if rows}


def report_of(told: dict[str, Any]) -> Counter[str]:
    with Path(told["report"]).open(encoding="utf-8-sig", newline="") as file:
        return Counter(row["reason"] for row in csv.DictReader(file))


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.timeout(600)
async def test_fifty_thousand_songs_move_in(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> None:
    older = make_older(tmp_path / "older", songs=SONGS)
    moving = Moving(nats_server, tmp_path, older)
    before = stamps(older.database.parent)
    expected = {**older.left, "unknown-file": older.unknown}

    # A dry run tells all, and changes nothing.
    told = await moving.run("--dry-run")
    assert told["not_taken"] == expected
    assert told["taken"]["files"] == len(older.taken)
    assert report_of(told) == expected
    assert await last_sequence(bus) == 0

    # Killed in the middle, and run again, it goes on where it was.
    process = moving.start()
    deadline = time.monotonic() + 60
    while (reached := await last_sequence(bus)) < SONGS // 3:
        assert process.poll() is None and time.monotonic() < deadline, process.stderr and process.stderr.read()
        await asyncio.sleep(0.02)
    process.kill()
    await asyncio.to_thread(process.communicate)
    again = await moving.run()
    assert again["not_taken"] == expected
    assert again["already_there"]["files"] >= reached - 10
    assert again["taken"]["songs"] + again["already_there"].get("songs", 0) == SONGS

    # Twice changes nothing; neither did any of it touch what is the older system's.
    end = await last_sequence(bus)
    third = await moving.run()
    assert await last_sequence(bus) == end
    assert third["taken"] == {}
    assert third["already_there"]["songs"] == SONGS
    assert stamps(older.database.parent) == before

    # The exporter shows the rows and ids that the older database has.
    catalog = await catalog_of(bus, tmp_path / "catalog.db")
    assert differing(catalog, older) == {}
    with closing(sqlite3.connect(catalog)) as connection:
        said = dict(connection.execute("SELECT id, metadata_json FROM songs"))
    with closing(sqlite3.connect(older.database)) as connection:
        assert all(
            json.loads(said[id]) == json.loads(text)
            for id, text in connection.execute("SELECT id, metadata_json FROM songs")
        )
    assert export_snapshot(catalog, tmp_path / "snapshot")["file_count"] == len(older.taken)

    # A later job asks for the gaps and for nothing else.
    collecting = Collecting(bus, nats_server, tmp_path / "collecting")
    async with collecting.running():
        job = await collecting.job(JobType.DOWNLOAD_ONLY, stages=(Stage.DOWNLOAD,), sources=("qq",))
        assert await collecting.asked(job) == sorted(f"r{id}" for id in older.wanted)


def file_row(
    connection: sqlite3.Connection, *, song: int, asset: int, locator: str, size: int | None, **more: Any
) -> None:
    """One more file in the older database."""
    values = {"backend": BACKEND_ID, "status": "active", "quality": "320k", **more}
    connection.execute("INSERT INTO file_assets VALUES (?,?,?,'mp3',?)", (asset, song, values["quality"], size))
    connection.execute(
        "INSERT INTO file_locations VALUES (?,?,?,?,?,1)", (asset, asset, values["backend"], locator, values["status"])
    )


async def test_rows_that_years_left_behind_are_told_one_by_one(moving: Moving, bus: Bus) -> None:
    older = moving.older
    with closing(older.connect()) as connection:
        run = connection.execute
        # Odd types, missing values, the same thing twice, and references to nothing.
        run("INSERT INTO songs VALUES (90001, 'qq', 12345, 2024, NULL, '.FLAC', 'large', 'not json')")
        run("INSERT INTO songs VALUES (90002, 'qq', 'r1', 'the first again', NULL, NULL, NULL, NULL)")
        run("INSERT INTO songs VALUES (90003, '网易云', 'x', 'no such platform', NULL, NULL, NULL, NULL)")
        run("INSERT INTO songs VALUES (-4, 'qq', 'minus', 'n', NULL, NULL, NULL, NULL)")
        run("INSERT INTO songs VALUES (90005, 'QQ', 'upper', x'ff41', x'4142', NULL, -1, '[1]')")
        run("INSERT INTO playlists VALUES (9001, 'qq', 'p1', 'the first again', NULL, NULL, NULL, NULL)")
        run("INSERT INTO playlists VALUES (9002, 'qq', 'unnumbered', 'U', NULL, NULL, 'many', NULL)")
        for song, position in ((90001, None), (90002, None), (777_777, None), (90001, 1), (90001, 1)):
            run("INSERT INTO playlist_songs VALUES (9002, ?, ?)", (song, position))
        run("INSERT INTO pool_playlists VALUES (5, 9001), (5, 123456)")
        run(
            "INSERT INTO storage_backends VALUES (8, 'objects', 'object_storage', NULL, '{\"public_base_url\":\"https://c\"}')"
        )
        file_row(connection, song=555_555, asset=70_001, locator="qq/nobody.mp3", size=4)
        file_row(connection, song=2, asset=70_002, locator="copy", size=4, backend=8)
        file_row(connection, song=3, asset=70_003, locator="given-up.mp3", size=4, status="missing")
        file_row(connection, song=90_001, asset=70_004, locator="a//b.mp3", size=4)
        file_row(connection, song=90_001, asset=70_005, locator="found 3.mp3", size=None)
        file_row(connection, song=4, asset=70_006, locator="found 4.mp3", size=9, quality="lossless")
        run("INSERT INTO file_locations VALUES (70007, 1000005, 3, 'found 5.mp3', 'active', 0)")

    told = await moving.run()

    expected = Counter(older.left) + Counter(
        {
            "unknown-file": older.unknown - 3,
            "duplicate-song": 1,
            "duplicate-playlist": 1,
            "key-unusable": 1,
            "id-unusable": 1,
            "dangling-entry": 1,
            "dangling-pool-entry": 1,
            "dangling-file": 1,
            "object-copy": 1,
            "inactive": 1,
            "locator-invalid": 1,
            "second-location": 1,
        }
    )
    assert told["not_taken"] == dict(expected) == dict(report_of(told))
    catalog = await catalog_of(bus, moving.root / "catalog.db")
    with closing(sqlite3.connect(catalog)) as connection:
        song = connection.execute("SELECT * FROM songs WHERE id = 90001").fetchone()
        assert song[:5] == (90001, "qq", "12345", "2024", None)
        assert connection.execute("SELECT platform, name, singers FROM songs WHERE id = 90005").fetchone() == (
            "qq",
            "\ufffdA",
            "AB",
        )
        entries = "SELECT position, song_id FROM playlist_songs WHERE playlist_id = 9002 ORDER BY position"
        assert [song for _, song in connection.execute(entries)] == [90001, 90001, 1]
        assert {row[0] for row in connection.execute("SELECT song_id FROM file_assets WHERE id IN (70005, 70006)")} == {
            90001,
            4,
        }
        assert connection.execute("SELECT id FROM file_assets WHERE song_id = 4 ORDER BY id").fetchall() == [
            (70_006,),
            (1_000_004,),
        ]
        assert connection.execute("SELECT id, config_json FROM storage_backends WHERE name = 'objects'").fetchone() == (
            8,
            '{"public_base_url":"https://c"}',
        )
    assert (await moving.run())["taken"] == {}


async def test_a_database_without_the_newer_tables_and_columns(moving: Moving, bus: Bus) -> None:
    older = moving.older
    older.database.unlink()
    with closing(older.connect()) as connection:
        connection.executescript(
            "CREATE TABLE playlists (id INTEGER PRIMARY KEY, platform, remote_playlist_id, name);"
            "CREATE TABLE songs (id INTEGER PRIMARY KEY, platform, remote_song_id, name);"
            "CREATE TABLE playlist_songs (playlist_id, song_id);"
            "INSERT INTO songs VALUES (5, 'qq', 'a', 'A'), (6, 'qq', 'b', 'B');"
            "INSERT INTO playlists VALUES (9, 'qq', 'p', 'P');"
            "INSERT INTO playlist_songs VALUES (9, 6), (9, 5);"
        )
    assert export_snapshot(older.database, moving.root / "old-snapshot")["track_count"] == 2

    told = await moving.run()

    assert told["taken"] == {"songs": 2, "playlists": 1}
    catalog = await catalog_of(bus, moving.root / "catalog.db")
    with closing(sqlite3.connect(catalog)) as connection:
        assert connection.execute("SELECT song_id FROM playlist_songs ORDER BY position").fetchall() == [(6,), (5,)]
    init_db(older.database, older.library)
    with closing(older.connect()) as connection:
        assert connection.execute("SELECT count(*) FROM songs").fetchone() == (2,)


async def test_a_database_in_use_with_a_write_ahead_log_is_read_and_not_written(moving: Moving, bus: Bus) -> None:
    older = moving.older
    with closing(older.connect()) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("INSERT INTO songs VALUES (80001, 'qq', 'in the log', 'L', NULL, NULL, NULL, NULL)")
        before = stamps(older.database.parent)
        told = await moving.run("--verify", "full")
        assert stamps(older.database.parent) == before
    assert told["taken"]["songs"] == 1101
    catalog = await catalog_of(bus, moving.root / "catalog.db")
    with closing(sqlite3.connect(catalog)) as connection:
        assert connection.execute("SELECT name FROM songs WHERE id = 80001").fetchone() == ("L",)
        assert connection.execute("SELECT count(DISTINCT sha256) > 1000 FROM fact_files").fetchone() == (1,)


async def test_digests_are_added_to_what_was_adopted_by_size(moving: Moving, bus: Bus) -> None:
    await moving.run()
    first = await moving.run("--verify", "full")
    end = await last_sequence(bus)
    second = await moving.run("--verify", "full")
    assert (
        list(first["notes"].values())[-1:] == [len(moving.older.taken)]
        or len(moving.older.taken) in first["notes"].values()
    )
    assert await last_sequence(bus) == end
    assert second["taken"] == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("nothing there", "is not a file"),
        ("not a database", "cannot be read as a database"),
        ("not a catalog", "its table"),
        ("library gone", "cannot be read"),
        ("unknown folder", "ADOPTED_LIBRARIES"),
    ],
)
async def test_what_cannot_be_adopted_is_refused_in_one_sentence(
    moving: Moving, bus: Bus, change: str, words: str
) -> None:
    older = moving.older
    if change == "nothing there":
        older.database.unlink()
    elif change == "not a database":
        older.database.write_bytes(b"this is no database" * 500)
    elif change == "not a catalog":
        older.database.unlink()
        sqlite3.connect(older.database).execute("CREATE TABLE songs (id)").connection.close()
    elif change == "library gone":
        older.library.rename(older.library.with_name("elsewhere"))
    else:
        moving.environment["LIBRARY_DIR"] = str(moving.root / "another")
    assert words in (await moving.run(code=2))["error"]
    assert await last_sequence(bus) == 0


async def test_a_folder_beside_the_library_is_a_backend_of_its_own(moving: Moving, bus: Bus) -> None:
    moving.environment["LIBRARY_DIR"] = str(moving.root / "another")
    moving.environment["ADOPTED_LIBRARIES"] = f"older={moving.older.library}"
    await moving.run()
    catalog = await catalog_of(bus, moving.root / "catalog.db")
    with closing(sqlite3.connect(catalog)) as connection:
        assert connection.execute("SELECT id, name FROM storage_backends").fetchall() == [(BACKEND_ID, "older")]
        assert connection.execute("SELECT DISTINCT backend_id FROM file_locations").fetchall() == [(BACKEND_ID,)]


async def test_collecting_an_adopted_playlist_again_keeps_its_ids(
    nats_server: NatsServer, bus: Bus, tmp_path: Path
) -> None:
    media = tmp_path / "media"
    for name in ("Abba/one.wav", "Abba/two.wav", "Abba/new.wav"):
        make_audio(media / name, ext="wav", seconds=0.1)
    collecting = Collecting(bus, nats_server, tmp_path / "collecting")
    older = make_older(tmp_path / "older", songs=1, platform="other")
    with closing(older.connect()) as connection:
        run = connection.execute
        run("INSERT INTO songs VALUES (11, 'local', 'Abba/one.wav', 'One', 'Abba', 'wav', 10, NULL)")
        run("INSERT INTO songs VALUES (12, 'local', 'Abba/two.wav', 'Two', 'Abba', 'wav', 10, NULL)")
        run("INSERT INTO playlists VALUES (21, 'local', 'Abba/', 'Abba', NULL, NULL, NULL, NULL)")
        run("INSERT INTO playlist_songs VALUES (21, 11, 0), (21, 12, 1)")
        run("INSERT INTO playlist_pools VALUES (31, 'local', 'folder', ?, 'Media', NULL, NULL)", (POOL,))
        run("INSERT INTO pool_playlists VALUES (31, 21)")
        file_row(connection, song=11, asset=41, locator="one.wav", size=3)
    (older.library / "one.wav").write_bytes(b"abc")
    await Moving(nats_server, tmp_path, older).run()

    for _ in range(2):
        async with collecting.running(local_media_import_path=media):
            job = await collecting.job(stages=(Stage.COLLECT,), sources=("local",))
        songs = {
            song.remote_id: song.song_id for song in await collecting.facts(SongListed) if song.platform == "local"
        }
        assert songs == {
            "Abba/one.wav": 11,
            "Abba/two.wav": 12,
            "Abba/new.wav": song_id("local", "Abba/new.wav"),
        }
        assert [pool.pool_id for pool in await collecting.facts(PoolDefined) if pool.platform == "local"] == [31]
        lists = {page.playlist_id for page in await collecting.facts(PlaylistCollected) if page.platform == "local"}
        assert lists == {21}
        assert await collecting.asked(job) == ["Abba/new.wav", "Abba/two.wav"]
        # The record is lost, and made again from the bus.
        shutil.rmtree(tmp_path / "collecting" / "data")

    # Meanwhile a job is under way: what it does and what adopting does must not meet.
    refused = await Moving(nats_server, tmp_path, older).run(code=2)
    assert "A job is under way" in refused["error"]
