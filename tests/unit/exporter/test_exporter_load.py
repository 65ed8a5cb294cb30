"""A catalog that is loaded as a whole is the one that is written batch after batch."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from common.bus.connection import Stored
from common.catalog import ids
from common.catalog.tables import metadata
from common.contracts.facts import Fact
from exporter.adapters.database import attach_beside, close_catalog, detach_beside, interrupt, open_catalog, without_log
from exporter.service import derive
from exporter.service import fact_tables as facts
from exporter.service import load as loading
from exporter.service.load import Load
from exporter.service.projection import Projection, read_batch
from tests.support.catalog_facts import PLATFORM, Log, message, playlist, pool, rows, song, stored
from tests.support.catalog_histories import steps

TABLES = (*metadata.tables, *(name for name in facts.metadata.tables if name != "catalog_changes"))


def batches(messages: Sequence[Stored], size: int) -> list[Sequence[Stored]]:
    return [messages[start : start + size] for start in range(0, len(messages), size)]


def loaded(database: Path, messages: Sequence[Stored], *, batch: int = 1000) -> dict[str, list[tuple[Any, ...]]]:
    connection = open_catalog(database)
    try:
        projection = Projection(connection, library_root="/library")
        attach_beside(connection)
        load = Load(projection)
        for some in batches(messages, batch):
            load.add(read_batch(some))
        with without_log(connection):
            load.finish(lambda step, done, of: None)
        detach_beside(connection)
        assert projection.problems == connection.exec_driver_sql("SELECT count(*) FROM projection_problems").scalar()
    finally:
        close_catalog(connection)
    return rows(database, TABLES)


def written(database: Path, messages: Sequence[Stored], *, batch: int = 1000) -> dict[str, list[tuple[Any, ...]]]:
    connection = open_catalog(database)
    try:
        projection = Projection(connection, library_root="/library")
        for some in batches(messages, batch):
            projection.apply(read_batch(some))
    finally:
        close_catalog(connection)
    return rows(database, TABLES)


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a history of a few facts has several runs and ranges."""
    monkeypatch.setattr(loading, "_FACTS_OF_A_RUN", 5)
    monkeypatch.setattr(derive, "_SONGS_AT_ONCE", 2)
    monkeypatch.setattr(derive, "_PLAYLISTS_AT_ONCE", 1)
    monkeypatch.setattr(facts, "_ROWS_OF_A_STEP", (3, 1))


@pytest.mark.usefixtures("small_steps")
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=st.lists(steps(), min_size=1, max_size=30), size=st.integers(1, 12), compacted=st.booleans())
def test_a_load_gives_the_rows_that_batches_give(
    tmp_path_factory: pytest.TempPathFactory, history: list[list[Fact]], size: int, compacted: bool
) -> None:
    folder = tmp_path_factory.mktemp("history")
    log = Log()
    for some in history:
        log.write(*some)
    messages = log.compacted() if compacted else log.all
    assert loaded(folder / "load.db", messages, batch=size) == written(folder / "live.db", messages, batch=size + 1)


@pytest.mark.usefixtures("small_steps")
def test_it_goes_on_in_batches_where_the_load_ended(tmp_path: Path) -> None:
    log = Log()
    log.write(*(song(name) for name in "abc"), *(stored(name) for name in "abc"), *playlist("p", "abc"))
    before = len(log.all)
    log.write(song("b", removed=True), stored("c", removed=True), *playlist("p", "ca", version=2), pool("top", ["p"]))
    loaded(tmp_path / "load.db", log.all[:before])
    assert written(tmp_path / "load.db", log.all[before:]) == written(tmp_path / "live.db", log.all)


@pytest.mark.usefixtures("small_steps")
def test_what_is_kept_out_is_kept_out_by_a_load_too(tmp_path: Path) -> None:
    log = Log()
    taken = ids.song_id(PLATFORM, "a")
    log.write(song("b", song_id=taken + 1), song("b", song_id=taken + 2), song("b", song_id=7))
    log.write(stored("a"), stored("b", "objects", song_id=7, asset_id=9), stored("c", song_id=8, asset_id=9))
    log.write(song("a"), song("other", song_id=taken), song("c", song_id=8), song("d"))
    log.raw(song("d").subject, message(song("d", name="older")))
    log.raw("song.listed.5", b"junk")
    log.raw(song("e").subject, b"junk")
    log.raw(song("f").subject, b"junk")
    log.write(song("e"), *playlist("p", "ab"), pool("top", ["p"]))
    log.raw("pool.defined.1", b"{}")

    found = loaded(tmp_path / "load.db", log.all, batch=4)

    assert found == written(tmp_path / "live.db", log.all, batch=4) == loaded(tmp_path / "one.db", log.all)
    assert {(row[0], row[1]) for row in found["projection_problems"]} == {
        (song("a").subject, "id-collision"),
        (f"song.listed.{taken + 1}", "key-taken"),
        (f"song.listed.{taken + 2}", "key-taken"),
        ("file.stored.library.8.main", "id-collision"),
        ("song.listed.5", "undecodable"),
        (song("f").subject, "undecodable"),
        ("pool.defined.1", "undecodable"),
    }


def test_every_thing_is_told_as_changed(tmp_path: Path) -> None:
    log = Log()
    log.write(*(song(name) for name in "abc"), stored("a"), *playlist("p", "abc"), pool("top", ["p"]))
    loaded(tmp_path / "load.db", log.all)
    written(tmp_path / "live.db", log.all)
    assert rows(tmp_path / "load.db", ["catalog_changes"]) == rows(tmp_path / "live.db", ["catalog_changes"])


def test_until_it_is_whole_there_is_nothing_of_it(tmp_path: Path) -> None:
    database, log = tmp_path / "catalog.db", Log()
    log.write(*(song(str(number)) for number in range(300)), *(stored(str(number)) for number in range(300)))
    seen = []
    connection = open_catalog(database)
    try:
        projection = Projection(connection)
        attach_beside(connection)
        load = Load(projection)
        load.add(read_batch(log.all))

        def tell(step: str, done: int, of: int) -> None:
            seen.append(step)
            if step == "playlists" or step == "indexes":
                raise InterruptedError

        with pytest.raises(InterruptedError), without_log(connection):
            load.finish(tell)
        assert projection.position().sequence == 0
        detach_beside(connection)
        assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".load")] == []
        tables = rows(database, TABLES)
        assert not any(tables[name] for name in TABLES)
        indexes = {row.name for row in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type='index'")}
        assert {"ix_file_assets_song", "ix_file_locations_asset"} <= indexes
        # What came to nothing is in nobody's way.
        projection.apply(read_batch(log.all))
        assert projection.position().sequence == 600
    finally:
        close_catalog(connection)
    assert "songs" in seen


def test_a_statement_of_it_can_be_interrupted(tmp_path: Path) -> None:
    log = Log()
    log.write(song("a"))
    connection = open_catalog(tmp_path / "catalog.db")
    try:
        projection = Projection(connection)
        attach_beside(connection)
        load = Load(projection)
        load.add(read_batch(log.all))
        raw: Any = connection.connection.driver_connection
        raw.create_function("song_metadata", 8, lambda *values: interrupt(connection))
        with pytest.raises(OperationalError, match="interrupted"), without_log(connection):
            load.finish(lambda step, done, of: None)
        assert projection.position().sequence == 0
    finally:
        close_catalog(connection)


def test_with_a_reader_at_work_it_goes_through_the_log(tmp_path: Path) -> None:
    database, log = tmp_path / "catalog.db", Log()
    log.write(song("a"))
    written(database, [])
    with closing(sqlite3.connect(database, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM songs").fetchone() == (0,)
        assert len(loaded(database, log.all)["songs"]) == 1
        assert reader.execute("SELECT count(*) FROM songs").fetchone() == (0,)
