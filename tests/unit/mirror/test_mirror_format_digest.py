"""The content digest: what a stranger computes from the page, and the same after any history of changes."""

from __future__ import annotations

import random
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.errors import ContentError
from mirror.format import digest, helper
from mirror.format.digest import ChunkIndex, content_of
from mirror.format.schema import TABLES, Key, Row, create_tables
from tests.support.snapshot_example import FIRST, filled
from tests.support.snapshot_stranger import snapshot_id

BOUNDARIES = {name: table.boundaries(range(-50, 400)) for name, table in TABLES.items()}
WORDS = ["", "a", "it's", "周杰伦", "line\nfeed", "x" * 40, "z" * 300, "\x7f\x01", "é", "e\u0301", "\U0001f3b5"]


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with filled({}) as connection:
        yield connection
    connection.close()


def value(random: random.Random, kind: str) -> Any:
    if random.random() < 0.15:
        return None
    if kind == "text":
        return random.choice(WORDS)
    return random.choice([0, 1, 127, 128, 255, 256, 65535, 65536, -1, -32, -33, -129, 2**32, 2**63 - 1, -(2**63)])


def rows_of(random: random.Random, name: str, key: Key) -> list[Row]:
    table = TABLES[name]
    count = 1 if table.single else random.choice([1, 1, 2, 3, 9])
    return [(key, *(value(random, kind) for kind in table.kinds[1:])) for _ in range(count)]


def keys_of(name: str) -> list[Any]:
    """Few keys, every other one a boundary where the table has boundaries: they come and go often."""
    if name == "catalog_toplists":
        return ["", "a", "b", "c:1", "周"]
    return sorted({*BOUNDARIES[name][:6], *range(-3, 8), 2**40, 2**62})


def apply(
    connection: sqlite3.Connection, tables: dict[str, dict[Any, list[Row]]], name: str, key: Key, rows: list[Row]
) -> None:
    connection.execute(f"DELETE FROM {name} WHERE {TABLES[name].group} = ?", (key,))
    connection.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(TABLES[name].columns))})", rows)
    tables[name][key] = rows


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 12))
def test_after_any_history_the_index_has_the_digest_of_the_same_content_made_anew(seed: int, steps: int) -> None:
    chance = random.Random(seed)
    tables: dict[str, dict[Any, list[Row]]] = {name: {} for name in TABLES}
    changed = filled({})
    index = ChunkIndex(changed)
    index.rebuild()
    for _ in range(steps):
        touched: dict[str, set[Key]] = {}
        for _ in range(chance.choice([0, 1, 1, 3, 30])):
            name = chance.choice(list(TABLES))
            key = chance.choice(keys_of(name))
            apply(changed, tables, name, key, [] if chance.random() < 0.45 else rows_of(chance, name, key))
            touched.setdefault(name, set()).add(key)
        content = index.update(touched)

        rows = {name: [row for group in groups.values() for row in group] for name, groups in tables.items()}
        for listed in rows.values():
            chance.shuffle(listed)
        fresh = filled(rows)
        assert content == content_of(fresh) == index.content()
        assert content.snapshot_id == snapshot_id(rows)
        kept = changed.execute("SELECT * FROM catalog_chunks ORDER BY 1, 2").fetchall()
        ChunkIndex(fresh).rebuild()
        assert kept == fresh.execute("SELECT * FROM catalog_chunks ORDER BY 1, 2").fetchall()
        fresh.close()
    changed.close()


def test_a_change_reads_only_the_chunks_around_it(connection: sqlite3.Connection) -> None:
    rows: list[Row] = [(key, "feed", str(key), "name", None, None, None, None) for key in range(5000)]
    connection.executemany("INSERT INTO catalog_tracks VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    index = ChunkIndex(connection)
    index.rebuild()
    # Unseen: these rows are in chunks that were not named.
    connection.execute("UPDATE catalog_tracks SET name = 'other' WHERE song_id < 2000")
    connection.execute("DELETE FROM catalog_tracks WHERE song_id = 4000")
    seen = index.update({"catalog_tracks": [4000]})
    assert seen.tables["catalog_tracks"].rows == 4999
    assert seen != content_of(connection)
    assert index.update({"catalog_tracks": range(2000)}) == content_of(connection)


@pytest.mark.parametrize("seed", range(4))
def test_many_spans_are_read_as_one_stream_and_cut_where_they_must_be(
    connection: sqlite3.Connection, seed: int
) -> None:
    chance = random.Random(seed)
    tables: dict[str, dict[Any, list[Row]]] = {name: {} for name in TABLES}
    index = ChunkIndex(connection)
    keys = {name: chance.sample(range(-(2**53), 2**53), 3000) for name in TABLES if TABLES[name].mask is not None}
    for name, some in keys.items():
        for key in some[:2000]:
            apply(connection, tables, name, key, rows_of(chance, name, key))
    index.rebuild()
    for share in (0.3, 0.02):
        touched = {name: chance.sample(some, int(len(some) * share)) for name, some in keys.items()}
        for name, some in touched.items():
            for key in some:
                apply(connection, tables, name, key, [] if chance.random() < 0.5 else rows_of(chance, name, key))
        content = index.update(touched)
        rows = {name: [row for group in groups.values() for row in group] for name, groups in tables.items()}
        assert content == content_of(connection)
        assert content.snapshot_id == snapshot_id(rows)


def test_the_index_may_lie_in_another_schema(connection: sqlite3.Connection) -> None:
    connection.execute("ATTACH ':memory:' AS side")
    create_tables(connection, "side")
    connection.execute("INSERT INTO side.catalog_toplists(toplist_id) VALUES ('x')")
    index = ChunkIndex(connection, data="side", index="main")
    assert index.rebuild().tables["catalog_toplists"].rows == 1
    assert connection.execute("SELECT count(*) FROM main.catalog_chunks").fetchone() == (1,)
    assert content_of(connection).tables["catalog_toplists"].rows == 0


@pytest.mark.parametrize("rows", [1, 1023, 1024, 1025, 5000])
def test_a_group_larger_than_what_is_read_at_once_stays_whole(connection: sqlite3.Connection, rows: int) -> None:
    playlist: Any = BOUNDARIES["catalog_playlist_tracks"][3]
    entries: list[Row] = [(playlist, place % 7, place) for place in range(rows)]
    entries += [(playlist - 1, 5, None), (playlist + 1, None, 1)]
    connection.executemany("INSERT INTO catalog_playlist_tracks VALUES (?, ?, ?)", entries)
    assert content_of(connection).snapshot_id == snapshot_id({"catalog_playlist_tracks": entries})


def test_a_large_file_is_read_by_two_processes_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(5)
    rows = {
        name: [
            row
            for key in ([*range(3000)] if name != "catalog_toplists" else ["a", "b"])
            for row in rows_of(chance, name, key)
        ]
        for name in TABLES
    }
    path = tmp_path / "snäp shot?.db"
    with filled(rows) as memory, sqlite3.connect(path) as file:
        memory.backup(file)
    memory.close()
    file.close()
    expected = snapshot_id(rows)
    assert content_of(path).snapshot_id == expected
    monkeypatch.setattr(digest, "WORTH_A_HELPER", 0)
    started: list[Any] = []
    answers = helper._answers

    def seen(*args: Any) -> Any:
        started.append(answers(*args))
        return started[-1]

    monkeypatch.setattr(helper, "_answers", seen)
    assert content_of(path).snapshot_id == expected
    assert sum(map(len, started[0])) > 100, "the helper read a share of it"
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert content_of(str(path)).snapshot_id == expected
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert content_of(path).snapshot_id == expected


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE catalog_tracks SET name = 'a' || char(0) || 'b' WHERE song_id = 12",
        "UPDATE catalog_tracks SET metadata_json = x'41'",
        "UPDATE catalog_tracks SET file_size_bytes = 1.5",
        "UPDATE catalog_tracks SET file_size_bytes = 'many'",
        "UPDATE catalog_tracks SET name = CAST(x'C0AF' AS TEXT)",
        "UPDATE catalog_tracks SET name = CAST(x'EDA080' AS TEXT)",
        "UPDATE catalog_playlist_tracks SET playlist_id = NULL WHERE position = 1",
        "UPDATE catalog_playlist_tracks SET playlist_id = 'x' WHERE position = 1",
        "UPDATE catalog_track_files SET song_id = x'00' WHERE is_primary = 1",
        "UPDATE catalog_track_files SET is_primary = 1e300",
        "DROP TABLE catalog_toplists",
        "ALTER TABLE catalog_toplists DROP COLUMN group_name",
    ],
)
def test_what_is_no_snapshot_is_refused(statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = filled(FIRST)
    connection.execute(statement)
    with pytest.raises(ContentError) as refused:
        content_of(connection)
    assert refused.value.code == "content-invalid"
    path = tmp_path / "bad.db"
    with sqlite3.connect(path) as file:
        connection.backup(file)
    file.close()
    connection.close()
    monkeypatch.setattr(digest, "WORTH_A_HELPER", 0)
    with pytest.raises(ContentError):
        content_of(path)


def test_a_file_that_is_no_database_is_the_callers_to_explain(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"not a database at all" * 200)
    with pytest.raises(sqlite3.DatabaseError):
        content_of(path)
    with pytest.raises(sqlite3.OperationalError):
        content_of(tmp_path / "missing.db")
