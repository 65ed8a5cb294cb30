"""The search index of the example catalog: the best first, every page once, complete or not there."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from public_catalog.index_build import build
from public_catalog.pool import Pool
from public_catalog.search import Index, Kind, Scan
from public_catalog.words import asked
from tests.support.public_catalog import Given, GivenList, make_snapshot

SONGS = [
    Given(song_id=1, name="Moonlight"),
    Given(song_id=2, name="Moon River", singers="Andy"),
    Given(song_id=3, name="Moon"),
    Given(song_id=4, name="Sun", singers="Keith Moon"),
    Given(song_id=5, name="MOON!"),
    Given(song_id=6, name="River", singers="Moon"),
    Given(song_id=7, name="月亮代表我的心", singers="邓丽君"),
    Given(song_id=8, name="月亮"),
    Given(song_id=9, name="Summer"),
    *(Given(song_id=100 + number, name=f"Song {number}", singers="夜空") for number in range(60)),
]
PLAYLISTS = [
    GivenList(playlist_id=1, name="Moon songs", songs=[5, 6, 4], plays=5),
    GivenList(playlist_id=2, name="Evening", songs=[5, 4, 159], plays=900),
    GivenList(playlist_id=3, name="Moon songs", songs=[5, 5, 5, 2], plays=70),
]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("catalog") / "snapshot"
    make_snapshot(folder, SONGS, PLAYLISTS)
    return folder / "catalog_read.db"


@pytest.fixture(scope="module")
def index(catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    path = tmp_path_factory.mktemp("cache") / "index.db"
    build(catalog, path)
    index = Index(path, connections=1)
    yield index
    index.close()


def found(index: Index | Scan, text: str, *, kind: Kind = "song", limit: int = 50) -> list[int]:
    words = asked(text)
    assert words is not None
    return index.find(kind, words, after=None, limit=limit).ids


def test_the_title_itself_comes_first_then_titles_with_it_then_the_rest(index: Index) -> None:
    # 5 and 3 are the title (5 is in more playlists), 2 has the word in it, 4 and 6 by the singer, 1 only begins so.
    assert found(index, "moon") == [5, 3, 2, 4, 6, 1]
    assert found(index, "moon river") == [2, 6]
    assert found(index, "月亮") == [8, 7]
    assert found(index, "邓丽 月亮") == [7]
    assert found(index, "summ") == [9]
    assert found(index, "nothing like it") == []


def test_playlists_are_found_those_played_most_first(index: Index) -> None:
    assert found(index, "moon", kind="playlist") == [3, 1]
    assert index.playlists_of(5, limit=10) == [2, 3, 1]
    assert index.playlists_of(1, limit=10) == []


@pytest.mark.parametrize("text", ["夜空", "song", "moon", "s"])
@pytest.mark.parametrize("limit", [1, 2, 7])
def test_pages_give_every_result_once_in_the_same_order(index: Index, text: str, limit: int) -> None:
    whole, words = found(index, text, limit=1000), asked(text)
    assert words is not None
    ids: list[int] = []
    after: str | None = None
    while True:
        hits = index.find("song", words, after=after, limit=limit)
        ids += hits.ids
        after = hits.after
        if after is None:
            break
    assert ids == whole
    assert len(set(ids)) == len(ids) > 2


@pytest.mark.parametrize("after", ["", "x", "3.1", "0", "0.-1", "1.1 OR 1", "٣.١", "0." + "9" * 30])
def test_a_place_that_no_page_gave_is_refused(index: Index, after: str) -> None:
    words = asked("moon")
    assert words is not None
    with pytest.raises(ValueError, match="no page"):
        index.find("song", words, after=after, limit=5)


def test_without_an_index_the_catalog_itself_is_read(catalog: Path) -> None:
    pool = Pool(catalog, size=1)
    scan = Scan(pool)
    assert found(scan, "moon river") == [2, 6]
    assert found(scan, "月亮") == [7, 8]
    assert found(scan, "son_ 1") == []
    pool.close()


def test_an_index_is_there_when_it_is_complete_and_made_once(catalog: Path, tmp_path: Path) -> None:
    path = tmp_path / "cache" / "index.db"
    path.parent.mkdir()
    (path.parent / "older.db.building").write_bytes(b"left by one that was killed")
    numbers: list[int] = []

    def one() -> None:
        build(catalog, path)
        numbers.append(path.stat().st_ino)

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(numbers) == 3
    assert len(set(numbers)) == 1
    assert {entry.name for entry in path.parent.iterdir()} == {"index.db", "building.lock"}


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"SQLite format 3\0" + b"\1" * 5000)
    with pytest.raises(sqlite3.Error):
        build(broken, tmp_path / "cache" / "index.db")
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == ["building.lock"]
    (tmp_path / "other.db").touch()
    with pytest.raises(sqlite3.Error):
        Index(tmp_path / "other.db", connections=1)
