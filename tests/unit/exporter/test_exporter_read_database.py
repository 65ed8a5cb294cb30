"""The read database always holds what a whole export would make, and says what changed."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from common.catalog import ids
from common.contracts.facts import BackendDefined, Fact, SongDescribed
from common.contracts.names import BackendKind
from exporter.adapters.database import close_catalog, move_aside, open_catalog
from exporter.adapters.export import export_snapshot
from exporter.adapters.read_database import ReadDatabase, Reflected, name_catalog
from exporter.errors import SnapshotError
from exporter.service.projection import Projection, read_batch
from mirror.format.digest import content_of
from mirror.format.schema import TABLES
from tests.support.catalog_facts import PLATFORM, Log, playlist, pool, song, stored

Groups = dict[tuple[str, Any], list[tuple[Any, ...]]]


class Catalog:
    """A catalog database as the exporter keeps it, and facts that reach it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "catalog.db"
        self.log = Log()
        self._connection: Connection | None = None
        self._applied = 0
        self.open()

    def open(self) -> None:
        self._connection = open_catalog(self.path)
        self._projection = Projection(self._connection)
        name_catalog(self._connection)

    def write(self, *facts: Fact) -> None:
        self.log.write(*facts)
        self.apply(self.log.all[self._applied :])
        self._applied = len(self.log.all)

    def apply(self, messages: Sequence[Any]) -> None:
        if messages:
            self._projection.apply(read_batch(messages))

    def sql(self, statement: str) -> None:
        assert self._connection is not None
        self._connection.exec_driver_sql(statement)

    def close(self) -> None:
        if self._connection is not None:
            close_catalog(self._connection)
            self._connection = None


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    one = Catalog(tmp_path)
    yield one
    one.close()


def reader(catalog: Catalog, name: str = "read") -> ReadDatabase:
    return ReadDatabase(folder=catalog.path.parent / name, catalog=catalog.path)


def groups(database: Path) -> Groups:
    found: Groups = {}
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        for name, table in TABLES.items():
            for row in connection.execute(f"SELECT * FROM {name} ORDER BY {', '.join(table.order)}"):
                found.setdefault((name, row[table.group_index]), []).append(row)
    return found


def random_facts(chance: random.Random, number: int) -> list[Fact]:
    """A few facts about few things, so that they meet again and again."""
    songs, lists = [f"s{n}" for n in range(12)], [f"p{n}" for n in range(5)]
    found: list[Fact] = []
    for _ in range(chance.randint(1, 6)):
        key = chance.choice(songs)
        match chance.randrange(9):
            case 0 | 1:
                found.append(song(key, name=f"name {chance.randrange(3)}", singers=("夜曲", "it's")))
            case 2:
                found.append(song(key, removed=True))
            case 3 | 4:
                backend = chance.choice(["library", "objects", "cold"])
                locator = chance.choice([f"qq/周 杰伦/{key}#1?.mp3", f"qq/plain name/{key}.mp3"])
                found.append(stored(key, backend, locator=locator, removed=chance.random() < 0.2))
            case 5:
                members = chance.choices(songs, k=chance.randrange(8))
                header: dict[str, Any] = {"cover_url": chance.choice(["https://c", None]), "description": "d\0e"}
                found += playlist(chance.choice(lists), members, version=number, **header)
            case 6:
                found.append(
                    playlist(chance.choice(lists), [])[0].model_copy(update={"removed": True, "version": number})
                )
            case 7:
                members = chance.sample(lists, k=chance.randrange(len(lists)))
                kind = chance.choice(["toplist", "toplist", "category"])
                found.append(pool(chance.choice("xy"), members, pool_kind=kind, removed=chance.random() < 0.2))
            case 8:
                url = chance.choice([None, "https://one.example/m/", "https://two.example"])
                found.append(
                    BackendDefined(
                        backend=chance.choice(["objects", "cold"]), kind=BackendKind.OBJECT_STORAGE, public_base_url=url
                    )
                )
    return found


@pytest.mark.parametrize("seed", range(4))
def test_random_histories_incremental_whole_and_offline_are_the_same(
    catalog: Catalog, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    read = reader(catalog)
    history: list[tuple[Reflected, Groups]] = []
    for number in range(1, 26):
        catalog.write(*random_facts(chance, number))
        reflected = read.update()
        made = groups(read.path)
        assert content_of(read.path) == reflected.content
        whole = export_snapshot(catalog.path, tmp_path / "offline")
        assert whole["snapshot_id"] == reflected.content.snapshot_id
        assert groups(tmp_path / "offline" / "catalog_read.db") == made
        if history:
            last, before = history[-1]
            assert reflected.lineage == last.lineage
            assert reflected.revision == last.revision + (made != before)
        history.append((reflected, made))
    for reflected, before in history:
        changed = list(read.lineage.changes(after=reflected.revision))
        assert changed == sorted(changed)
        after = {**before, **{key: made[key] for key in changed if key in made}}
        assert {key: rows for key, rows in after.items() if key in made or key not in changed} == made
        found = read.lineage.find(reflected.content.snapshot_id)
        assert found is not None
        assert found.revision >= reflected.revision
    assert history[-1][0].revision > 10

    shuffled = catalog.log.compacted()
    chance.shuffle(shuffled)
    other = Catalog(tmp_path / "other")
    for message in shuffled:
        other.apply([message])
    again = reader(other).update()
    other.close()
    assert again.content == history[-1][0].content
    assert again.lineage != history[-1][0].lineage


def test_only_real_changes_count(catalog: Catalog) -> None:
    catalog.write(*[song(key) for key in "abc"], *[stored(key) for key in "abc"], *playlist("p", "abc"))
    read = reader(catalog)
    first = read.update()
    catalog.write(song("a"), stored("b"), *playlist("p", "abc"))
    same = read.update()
    assert (same.revision, same.generated_at) == (first.revision, first.generated_at)
    assert same.sequence == len(catalog.log.all)
    catalog.write(SongDescribed(song_id=ids.song_id(PLATFORM, "b"), name="B"))
    second = read.update()
    assert second.revision == first.revision + 1
    assert list(read.lineage.changes(after=first.revision)) == [("catalog_tracks", ids.song_id(PLATFORM, "b"))]


def test_a_song_that_comes_or_goes_changes_the_playlists_that_hold_it_and_no_others(catalog: Catalog) -> None:
    held, free = (ids.playlist_id(PLATFORM, key) for key in ("held", "free"))
    catalog.write(*[song(key) for key in "ab"], *playlist("held", "abc"), *playlist("free", "ab"))
    read = reader(catalog)
    first = read.update()
    assert len(groups(read.path)["catalog_playlist_tracks", held]) == 2
    catalog.write(song("c"))
    second = read.update()
    assert ("catalog_playlist_tracks", held) in read.lineage.changes(after=first.revision)
    assert len(groups(read.path)["catalog_playlist_tracks", held]) == 3
    catalog.write(song("c", removed=True))
    read.update()
    changed = list(read.lineage.changes(after=second.revision))
    assert changed == [("catalog_playlist_tracks", held), ("catalog_tracks", ids.song_id(PLATFORM, "c"))]
    assert len(groups(read.path)["catalog_playlist_tracks", free]) == 2


def test_what_was_there_before_is_known_by_its_newest_revision(catalog: Catalog) -> None:
    read = reader(catalog)
    catalog.write(song("a", name="one"))
    one = read.update()
    catalog.write(song("a", name="two"))
    read.update(after=one.generated_at)
    catalog.write(song("a", name="one"))
    again = read.update()
    assert again.content == one.content
    assert again.revision == 3
    found = read.lineage.find(one.content.snapshot_id)
    assert found is not None
    assert found.revision == 3


def _rebuilt(catalog: Catalog, read: ReadDatabase) -> None:
    catalog.close()
    assert move_aside(catalog.path)
    catalog.open()
    catalog.apply(catalog.log.compacted())


def _another_stream(catalog: Catalog, read: ReadDatabase) -> None:
    catalog.sql("UPDATE projection_state SET stream_created = '2030-01-01T00:00:00+00:00'")


def _without_changes(catalog: Catalog, read: ReadDatabase) -> None:
    catalog.sql("UPDATE projection_state SET sequence = 1")


def _rows_damaged(catalog: Catalog, read: ReadDatabase) -> None:
    data = bytearray(read.path.read_bytes())
    place = data.index(b"Song a")
    data[place : place + 4] = b"Sang"
    read.path.write_bytes(data)


def _rows_cut(catalog: Catalog, read: ReadDatabase) -> None:
    read.path.write_bytes(read.path.read_bytes()[:5000])


def _rows_gone(catalog: Catalog, read: ReadDatabase) -> None:
    read.path.unlink()


def _history_gone(catalog: Catalog, read: ReadDatabase) -> None:
    read.lineage.path.unlink()


def _history_no_database(catalog: Catalog, read: ReadDatabase) -> None:
    read.lineage.path.write_bytes(b"no database " * 1000)


def _history_cut(catalog: Catalog, read: ReadDatabase) -> None:
    read.lineage.path.write_bytes(read.lineage.path.read_bytes()[:9000])


def _rows_of_another_time(catalog: Catalog, read: ReadDatabase) -> None:
    kept = read.path.read_bytes()
    catalog.write(song("b", name="changed"))
    read.update()
    catalog.write(song("b"))
    read.update()
    read.path.write_bytes(kept)


SPOILS = [
    _rebuilt,
    _another_stream,
    _without_changes,
    _rows_damaged,
    _rows_cut,
    _rows_gone,
    _history_gone,
    _history_no_database,
    _history_cut,
    _rows_of_another_time,
]


@pytest.mark.parametrize("spoil", SPOILS)
def test_what_cannot_be_trusted_is_made_again_whole_and_begins_a_new_lineage(catalog: Catalog, spoil: Any) -> None:
    catalog.write(*[song(key) for key in "abc"], *playlist("p", "abc"))
    catalog.write(song("d"))
    before = reader(catalog).update()
    spoil(catalog, reader(catalog))
    read = reader(catalog)
    made = read.update()
    assert made.content == before.content
    assert made.lineage != before.lineage
    assert made.revision == 1
    found = read.lineage.find(made.content.snapshot_id)
    assert found is not None
    assert found.lineage == made.lineage
    assert list(read.lineage.changes(after=1)) == []
    catalog.write(song("e"))
    assert read.update().revision == 2


def test_a_catalog_that_does_not_say_what_changed_is_exported_all_the_same(tmp_path: Path, catalog: Catalog) -> None:
    catalog.write(song("a"), song("b"))
    catalog.sql("DROP TABLE catalog_changes")
    read = reader(catalog)
    first = read.update()
    catalog.sql("UPDATE songs SET name = 'other'")
    second = read.update()
    assert first.content != second.content
    assert second.content.snapshot_id == export_snapshot(catalog.path, tmp_path / "offline")["snapshot_id"]


def test_text_that_no_snapshot_may_hold_is_mended_whole_and_after_changes(catalog: Catalog, tmp_path: Path) -> None:
    catalog.write(song("a", name="N\0L"), song("b"))
    read = reader(catalog)
    first = read.update()
    catalog.write(song("b", name="\0b"), stored("b", locator="x\0y/é.mp3"))
    second = read.update()
    assert second.revision == first.revision + 1
    assert {row[3] for rows in groups(read.path).values() for row in rows if len(row) == 8} == {"NL", "b"}
    assert second.content.snapshot_id == export_snapshot(catalog.path, tmp_path / "offline")["snapshot_id"]


def test_nothing_is_left_of_what_was_withdrawn(catalog: Catalog) -> None:
    catalog.write(song("a"), song("b", name="a secret name"))
    read = reader(catalog)
    read.update()
    assert b"a secret name" in read.path.read_bytes()
    catalog.write(song("b", removed=True))
    read.update()
    assert b"a secret name" not in read.path.read_bytes()


def test_the_copy_is_the_database_alone_and_complete(catalog: Catalog, tmp_path: Path) -> None:
    catalog.write(song("a"), *playlist("p", "a"))
    read = reader(catalog)
    reflected = read.update()
    digest = read.copy(tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_bytes() == read.path.read_bytes()
    assert digest.startswith("sha256:")
    shutil.rmtree(read.path.parent)
    assert content_of(tmp_path / "copy.db") == reflected.content
    with closing(sqlite3.connect(tmp_path / "copy.db")) as connection:
        assert {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")} == set(
            TABLES
        )


def test_a_catalog_that_is_none_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_bytes(b"")
    with pytest.raises(SnapshotError, match="not a catalog"):
        ReadDatabase(folder=tmp_path / "read", catalog=tmp_path / "catalog.db").update()
