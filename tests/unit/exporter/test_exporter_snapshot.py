"""A snapshot from any catalog database: right rows, complete or not at all, the source untouched."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from common.catalog.read_model import CANONICAL_ORDER, DATABASE_FILE, MANIFEST_FILE, metadata
from exporter.adapters.export import export_snapshot
from exporter.errors import SnapshotError
from exporter.init_db import init_db
from exporter.offline import main
from exporter.service.manifest import Signing
from mirror.errors import SignatureError
from mirror.format.digest import content_of
from mirror.format.keys import SigningKey
from mirror.format.manifest import parse, verify

OLD_SCHEMA = """
CREATE TABLE playlists (id INTEGER PRIMARY KEY, platform TEXT, remote_playlist_id TEXT, name TEXT, cover_url TEXT);
CREATE TABLE songs (id INTEGER PRIMARY KEY, platform TEXT NOT NULL, remote_song_id TEXT NOT NULL, name TEXT, ext TEXT);
CREATE TABLE playlist_songs (playlist_id INTEGER, song_id INTEGER, position INTEGER);
"""


def older_database(path: Path, *, songs: int = 3) -> Path:
    """A database of the older system: no newer tables, some columns missing, names of every script."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(OLD_SCHEMA)
        names = ("夜曲", "Ночь", "أغنية", 'it\'s "quoted"\n', "🎵")
        connection.executemany(
            "INSERT INTO songs VALUES (?, 'qq', ?, ?, 'mp3')",
            [(number * 7, f"r{number}", names[number % len(names)]) for number in range(1, songs + 1)],
        )
        connection.execute("INSERT INTO playlists VALUES (3, 'qq', '26', '热歌榜', 'https://c')")
        connection.executemany(
            "INSERT INTO playlist_songs VALUES (3, ?, ?)", [(n * 7, songs - n) for n in range(1, songs + 1)]
        )
        connection.commit()
    return path


def full_database(path: Path) -> Path:
    init_db(path, path.parent / "library")
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            """
            INSERT INTO songs VALUES (1, 'qq', 'a', 'A', 'S', 'mp3', 10, '{}'),
                (2, 'qq', 'b', 'B', NULL, NULL, NULL, NULL);
            INSERT INTO playlists VALUES (5, 'qq', 'x', 'X', 'd', 'https://c', 9, 2), (4, 'qq', 'y', 'Y', '', '', 0, 1),
                                         (6, 'kw', 'x', 'Z', NULL, NULL, NULL, 0);
            INSERT INTO playlist_songs VALUES (5, 2, 0), (5, 1, 1), (4, 1, 0), (4, 99, 1);
            INSERT INTO playlist_pools VALUES (1, 'qq', 'toplist', '26', 'Hot', NULL, NULL),
                                              (2, 'qq', 'category', '27', 'Rock', NULL, NULL),
                                              (3, 'kw', 'toplist', '26', 'Hot too', NULL, NULL);
            INSERT INTO pool_playlists VALUES (1, 5), (1, 4), (2, 5), (3, 6), (1, 77);
            INSERT INTO storage_backends VALUES
                (20, 'cdn', 'object_storage', '', '{"public_base_url": "https://cdn.example/m/"}'),
                (21, 'cold', 'object_storage', NULL, NULL);
            INSERT INTO file_assets VALUES (30, 1, 'high', 'mp3', 10), (31, 99, NULL, 'mp3', 1);
            INSERT INTO file_locations
                SELECT 40, 30, id, 'qq/周 杰伦/a#1?.mp3', 'active', 1 FROM storage_backends WHERE name = 'library';
            INSERT INTO file_locations VALUES (41, 30, 20, 'qq/周 杰伦/a#1?.mp3', 'active', 0),
                (42, 30, 21, 'qq/a.mp3', 'missing', 0), (43, 31, 20, 'gone.mp3', 'active', 1);
            """
        )
        connection.commit()
    return path


def read(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    with closing(sqlite3.connect(f"file:{folder / DATABASE_FILE}?mode=ro", uri=True)) as connection:
        return {
            name: connection.execute(f"SELECT * FROM {name} ORDER BY {', '.join(order)}").fetchall()
            for name, order in CANONICAL_ORDER.items()
        }


def assert_complete(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / MANIFEST_FILE).read_text())
    data = (folder / DATABASE_FILE).read_bytes()
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == manifest["file"]["digest"]
    assert len(data) == manifest["file"]["size"]
    return manifest


def read_at(folder: int, name: str) -> bytes:
    with open(os.open(name, os.O_RDONLY, dir_fd=folder), "rb") as file:
        return file.read()


def test_the_rows_and_counts_of_the_contract(tmp_path: Path) -> None:
    manifest = export_snapshot(full_database(tmp_path / "catalog.db"), tmp_path / "out")
    found = read(tmp_path / "out")
    assert found["catalog_playlists"] == [
        (4, "qq", "y", "Y", "", "", 0, 1),
        (5, "qq", "x", "X", "d", "https://c", 9, 2),
        (6, "kw", "x", "Z", None, None, None, 0),
    ]
    assert found["catalog_tracks"][0] == (1, "qq", "a", "A", "S", "mp3", 10, "{}")
    assert found["catalog_playlist_tracks"] == [(4, 1, 0), (5, 2, 0), (5, 1, 1)]
    encoded = "https://cdn.example/m/qq/%E5%91%A8%20%E6%9D%B0%E4%BC%A6/a%231%3F.mp3"
    locator = "qq/周 杰伦/a#1?.mp3"
    assert found["catalog_track_files"] == [
        (1, "high", "mp3", 10, "filesystem", "library", locator, None, "active", 1),
        (1, "high", "mp3", 10, "object_storage", "cdn", locator, encoded, "active", 0),
    ]
    assert [(row[0], row[1], row[2], row[7]) for row in found["catalog_toplists"]] == [
        ("26", "qq", "Y", "Hot"),
        ("26:x", "qq", "X", "Hot"),
        ("kw:26", "kw", "Z", "Hot too"),
    ]
    counts = {"playlist_count": 3, "track_count": 2, "file_count": 2, "cover_count": 1}
    assert {name: manifest[name] for name in counts} == counts
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", manifest["generated_at"])
    assert assert_complete(tmp_path / "out") == manifest


def test_the_manifest_says_what_the_file_holds_and_can_be_checked(tmp_path: Path) -> None:
    key = SigningKey.generate()
    manifest = export_snapshot(full_database(tmp_path / "catalog.db"), tmp_path / "out", signing=Signing(key=key))
    content = content_of(tmp_path / "out" / DATABASE_FILE)
    assert manifest["snapshot_id"] == content.snapshot_id
    parsed = parse((tmp_path / "out" / MANIFEST_FILE).read_bytes())
    assert parsed.tables == content.tables
    assert parsed.keys == {key.key_id: key.public_key}
    assert verify(parsed, {key.key_id: key.public_key}) == key.key_id
    with pytest.raises(SignatureError):
        verify(parsed, {key.key_id: SigningKey.generate().public_key})


def test_the_command_signs_where_a_key_is_given_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, key = full_database(tmp_path / "catalog.db"), SigningKey.generate()
    out = ["--db", str(source), "--target-dir", str(tmp_path / "out")]
    assert main(out) == 0
    assert "nobody" in capsys.readouterr().out
    assert parse((tmp_path / "out" / MANIFEST_FILE).read_bytes()).signature is None
    for text in (key.to_pem(), key.to_seed() + "\n"):
        (tmp_path / "key").write_text(text)
        assert main([*out, "--key", str(tmp_path / "key")]) == 0
        assert key.key_id in capsys.readouterr().out
        parsed = parse((tmp_path / "out" / MANIFEST_FILE).read_bytes())
        assert verify(parsed, {key.key_id: key.public_key}) == key.key_id
    before = assert_complete(tmp_path / "out")
    for spoiled in (b"no key", b"\xff\xfe", b""):
        (tmp_path / "key").write_bytes(spoiled)
        assert main([*out, "--key", str(tmp_path / "key")]) == 1
        assert capsys.readouterr().err.count("\n") == 1
    assert assert_complete(tmp_path / "out") == before


def test_whatever_a_foreign_database_holds_only_text_and_integers_come_out(tmp_path: Path) -> None:
    source = full_database(tmp_path / "catalog.db")
    with closing(sqlite3.connect(source)) as connection:
        connection.executescript(
            """
            UPDATE songs SET name = CAST(x'4100ff42' AS TEXT), singers = x'e5919800e5', ext = 1.5,
                             file_size_bytes = 'about 7', metadata_json = 3 WHERE id = 1;
            UPDATE playlists SET name = CAST(x'00' AS TEXT), play_count = 1e300, collected_song_count = x'3132',
                                 remote_playlist_id = CAST(x'78ff' AS TEXT), cover_url = x'ff' WHERE id = 5;
            UPDATE playlist_songs SET position = 1.9 WHERE song_id = 1 AND playlist_id = 5;
            UPDATE file_locations SET locator = CAST(x'61206200c3a463' AS TEXT), is_primary = 'no' WHERE id = 41;
            UPDATE playlist_pools SET name = x'00ff', external_id = 26.5 WHERE id = 1;
            UPDATE storage_backends SET name = x'6300646e', config_json = '{"public_base_url": "https://x\\ud800/"}'
            WHERE id = 20;
            """
        )
    manifest = export_snapshot(source, tmp_path / "out")
    found = read(tmp_path / "out")
    for rows in found.values():
        for value in [value for row in rows for value in row]:
            assert value is None or isinstance(value, int) or (isinstance(value, str) and "\0" not in value)
    assert found["catalog_tracks"][0][3:] == ("A\ufffdB", "员\ufffd", "1.5", 0, "3")
    playlist = found["catalog_playlists"][1]
    assert (playlist[2], playlist[3], playlist[5], playlist[6], playlist[7]) == ("x\ufffd", "", "\ufffd", 2**63 - 1, 12)
    assert (5, 1, 1) in found["catalog_playlist_tracks"]
    cdn = next(row for row in found["catalog_track_files"] if row[5] == "cdn")
    assert cdn[6:] == ("a bäc", "https://x?/a%20b%C3%A4c", "active", 0)
    assert {row[0] for row in found["catalog_toplists"]} == {"26.5", "26.5:x\ufffd", "26"}
    assert manifest["snapshot_id"] == content_of(tmp_path / "out" / DATABASE_FILE).snapshot_id


def test_an_older_systems_database(tmp_path: Path) -> None:
    source = older_database(tmp_path / "catalogsync.db")
    before = source.read_bytes()
    manifest = export_snapshot(source, tmp_path / "out")
    found = read(tmp_path / "out")
    assert found["catalog_playlists"] == [(3, "qq", "26", "热歌榜", None, "https://c", None, 3)]
    assert found["catalog_tracks"][0] == (7, "qq", "r1", "Ночь", None, "mp3", None, None)
    assert found["catalog_playlist_tracks"] == [(3, 21, 0), (3, 14, 1), (3, 7, 2)]
    assert found["catalog_track_files"] == found["catalog_toplists"] == []
    assert (manifest["track_count"], manifest["file_count"], manifest["cover_count"]) == (3, 0, 1)
    assert source.read_bytes() == before


def test_same_content_same_id_other_content_other_id(tmp_path: Path) -> None:
    source = older_database(tmp_path / "catalogsync.db")
    first = export_snapshot(source, tmp_path / "out")
    again = export_snapshot(source, tmp_path / "out")
    assert again["snapshot_id"] == first["snapshot_id"]
    assert again["parent"] is None
    with closing(sqlite3.connect(source)) as connection:
        connection.execute("UPDATE songs SET name = 'other' WHERE id = 7")
        connection.commit()
    other = export_snapshot(source, tmp_path / "out")
    assert other["snapshot_id"] != first["snapshot_id"]
    assert other["parent"] == first["snapshot_id"]
    assert (other["playlist_count"], other["track_count"]) == (first["playlist_count"], first["track_count"])


def test_adding_a_playlist_with_a_higher_id_renames_no_toplist(tmp_path: Path) -> None:
    source = full_database(tmp_path / "catalog.db")
    export_snapshot(source, tmp_path / "out")
    before = {row[0] for row in read(tmp_path / "out")["catalog_toplists"]}
    with closing(sqlite3.connect(source)) as connection:
        connection.executescript(
            "INSERT INTO playlists VALUES (8, 'qq', 'new', 'N', '', '', 0, 0); INSERT INTO pool_playlists VALUES (1, 8)"
        )
    export_snapshot(source, tmp_path / "out")
    assert {row[0] for row in read(tmp_path / "out")["catalog_toplists"]} == before | {"26:new"}


@pytest.mark.parametrize("mode", ["delete", "wal-at-rest", "wal-open", "wal-left"])
def test_the_source_is_never_written(tmp_path: Path, mode: str) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    source = older_database(folder / "catalogsync.db")
    writer = sqlite3.connect(source)
    if mode != "delete":
        writer.execute("PRAGMA journal_mode = WAL")
    if mode in ("wal-open", "wal-left"):
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        writer.execute("UPDATE songs SET name = 'in the log' WHERE id = 7")
        writer.commit()
    if mode == "wal-left":
        left = tmp_path / "left"
        left.mkdir()
        for suffix in ("", "-wal"):
            (left / f"catalogsync.db{suffix}").write_bytes((folder / f"catalogsync.db{suffix}").read_bytes())
        source = left / "catalogsync.db"
    if mode != "wal-open":
        writer.close()
    before = {path.name: path.read_bytes() for path in source.parent.iterdir() if not path.name.endswith("-shm")}

    export_snapshot(source, tmp_path / "out")

    after = {path.name: path.read_bytes() for path in source.parent.iterdir() if not path.name.endswith("-shm")}
    writer.close()
    assert after == before
    expected = "in the log" if mode in ("wal-open", "wal-left") else "Ночь"
    assert read(tmp_path / "out")["catalog_tracks"][0][3] == expected


def _missing(path: Path) -> None:
    path.unlink()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("no database " * 100)


def _foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE photos (id INTEGER)")


def _lacking(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE songs RENAME COLUMN remote_song_id TO other")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:6000])


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [_missing, _empty, _text, _foreign, _lacking, _cut, _folder])
def test_a_bad_source_is_one_sentence_and_changes_nothing(
    tmp_path: Path, spoil: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    source = older_database(tmp_path / "catalogsync.db", songs=500)
    out = tmp_path / "out"
    good = export_snapshot(source, out)
    spoil(source)
    assert main(["--db", str(source), "--target-dir", str(out)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("export-snapshot: ")
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    assert assert_complete(out) == good
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_locked_source_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.adapters.filling.WAIT_FOR_LOCK", 0.05)
    source = older_database(tmp_path / "catalogsync.db")
    with closing(sqlite3.connect(source, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SnapshotError, match="locked"):
            export_snapshot(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_target_that_holds_other_things_keeps_them(tmp_path: Path) -> None:
    source = older_database(tmp_path / "catalogsync.db")
    for _ in range(2):
        export_snapshot(source, tmp_path)
        assert_complete(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [DATABASE_FILE, "catalogsync.db", MANIFEST_FILE]


def test_a_target_that_is_a_file_is_refused(tmp_path: Path) -> None:
    source = older_database(tmp_path / "catalogsync.db")
    with pytest.raises(SnapshotError, match="Give a folder"):
        export_snapshot(source, source)


def test_a_full_disk_leaves_the_last_snapshot(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the kernel refuses the write all the same."""
    source = older_database(tmp_path / "catalogsync.db", songs=3)
    out = tmp_path / "out"
    good = export_snapshot(source, out)
    with closing(sqlite3.connect(source)) as connection:
        connection.executemany(
            "INSERT INTO songs VALUES (?, 'qq', ?, ?, 'mp3')", [(n, f"x{n}", "y" * 500) for n in range(1000, 9000)]
        )
        connection.commit()
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000));"
        "from exporter.offline import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "--db", str(source), "--target-dir", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("export-snapshot: The s")
    assert assert_complete(out) == good


def test_kill_9_at_any_time_leaves_a_complete_pair(tmp_path: Path) -> None:
    sources = [older_database(tmp_path / f"{number}.db", songs=20_000 + number) for number in range(2)]
    out = tmp_path / "place" / "out"
    out.parent.mkdir()
    ids = {export_snapshot(source, out)["snapshot_id"] for source in sources}
    code = (
        "import sys; from exporter.adapters.export import export_snapshot\n"
        "print('ready', flush=True)\n"
        "while True:\n    for source in sys.argv[2:]: export_snapshot(source, sys.argv[1])"
    )
    chance = random.Random(5)
    for _ in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(out), *map(str, sources)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        until = time.monotonic() + chance.uniform(0.0, 0.4)
        while time.monotonic() < until:
            # One open folder is one pair, also while another takes its name.
            folder = os.open(out, os.O_RDONLY)
            try:
                pair = read_at(folder, DATABASE_FILE), read_at(folder, MANIFEST_FILE)
            except FileNotFoundError:
                continue  # the old folder was removed while we read it
            finally:
                os.close(folder)
            assert f"sha256:{hashlib.sha256(pair[0]).hexdigest()}" == json.loads(pair[1])["file"]["digest"]
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert assert_complete(out)["snapshot_id"] in ids
    export_snapshot(sources[0], out)
    assert [path.name for path in out.parent.iterdir()] == ["out"], "what killed exports left is swept"


def test_init_db_makes_an_empty_catalog_and_the_statistics(tmp_path: Path) -> None:
    init_db(tmp_path / "state" / "catalog.db", tmp_path / "library")
    init_db(tmp_path / "state" / "catalog.db", tmp_path / "library")
    with closing(sqlite3.connect(tmp_path / "state" / "catalog.db")) as connection:
        (backend,) = connection.execute("SELECT name, backend_type, base_path FROM storage_backends").fetchall()
        assert backend == ("library", "filesystem", str(tmp_path / "library"))
    with closing(sqlite3.connect(tmp_path / "state" / "resolver_stats.db")) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(resolver_source_stats)")]
    assert columns == [
        "origin_source",
        "candidate_source",
        "attempt_count",
        "resolve_success_count",
        "last_attempt_at",
        "last_success_at",
        "created_at",
        "updated_at",
    ]


def test_every_table_has_a_canonical_order() -> None:
    assert set(CANONICAL_ORDER) == set(metadata.tables)
