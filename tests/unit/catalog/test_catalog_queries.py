"""What the example catalog reads of a snapshot, also where that is strange."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from public_catalog import catalog
from public_catalog.errors import BadAddress, NotThere
from public_catalog.pool import MAX_VALUE_BYTES, Pool
from public_catalog.toplists import groups, toplists
from tests.support.public_catalog import Given, GivenList, make_snapshot


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    songs = [Given(song_id=number, name=f"Song {number}") for number in range(1, 8)]
    lists = [
        GivenList(playlist_id=1, name="Hot", songs=[3, 1, 2], group="Charts"),
        GivenList(playlist_id=2, name="Same", group="Charts"),
        GivenList(playlist_id=3, name="Same", group="Charts"),
        GivenList(playlist_id=4, name="Same", group="Another"),
        GivenList(playlist_id=5, name="Same"),
    ]
    make_snapshot(tmp_path / "snapshot", songs, lists)
    return tmp_path / "snapshot" / "catalog_read.db"


def change(database: Path, statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute(statement, values)


def test_each_toplist_is_the_playlist_that_it_came_from(snapshot: Path) -> None:
    with Pool(snapshot, size=1).lend() as connection:
        found = groups(toplists(connection))
        ids = [(name, {one.playlist_id for one in members}) for name, members in found]

    # The first list of a pool is known by the pool's id alone: of those alike, the one with the lowest id.
    assert [name for name, _ in ids] == ["Another", "Charts"]
    assert ids[1] == ("Charts", {1, 2, 3})
    assert ids[0][1] <= {2, 3, 4, 5}


def test_a_playlist_tells_what_the_catalog_lacks_and_counts_from_one(snapshot: Path) -> None:
    change(snapshot, "INSERT INTO catalog_playlist_tracks VALUES (1, 77, 3)")
    with Pool(snapshot, size=1).lend() as connection:
        page = catalog.entries(connection, 1, after=None, limit=3)
        rest = catalog.entries(connection, 1, after=page.after, limit=3)

    assert [(entry.place, entry.song and entry.song.song_id) for entry in page.items] == [(1, 3), (2, 1), (3, 2)]
    assert [(entry.place, entry.song) for entry in rest.items] == [(4, None)]
    assert rest.after is None


@pytest.mark.parametrize("limit", [1, 2, 3, 20])
def test_entries_without_a_position_or_a_song_are_listed_too(snapshot: Path, limit: int) -> None:
    """The order of the format: by position, then by song, nothing before all."""
    given = [(None, None), (None, 1), (None, 2), (-5, None), (-5, 3), (-4, 4), (-4, 5)]
    for position, song_id in reversed(given):
        change(snapshot, "INSERT INTO catalog_playlist_tracks VALUES (5, ?, ?)", song_id, position)

    found, after, first = [], None, True
    with Pool(snapshot, size=1).lend() as connection:
        while first or after is not None:
            page = catalog.entries(connection, 5, after=after, limit=limit)
            found += [(entry.place, entry.song and entry.song.song_id) for entry in page.items]
            after, first = page.after, False

    assert found == [(position and position + 6, song_id) for position, song_id in given]


@pytest.mark.parametrize("after", ["x.1", "1.x", "1", "1.2.3", "None.1", f"{2**63}.1"])
def test_a_place_that_no_page_of_a_playlist_gave_is_refused(snapshot: Path, after: str) -> None:
    with Pool(snapshot, size=1).lend() as connection, pytest.raises(BadAddress):
        catalog.entries(connection, 1, after=after, limit=1)


@pytest.mark.parametrize(
    ("metadata", "album", "seconds"),
    [
        (None, "", None),
        ("", "", None),
        ("{", "", None),
        ("[]", "", None),
        ("[" * 100_000, "", None),
        ('{"album": 7, "duration_seconds": "long"}', "", None),
        ('{"album": "A", "duration_seconds": true}', "A", None),
        ('{"album": "A", "duration_seconds": -1}', "A", None),
        ('{"album": "A", "duration_seconds": NaN}', "A", None),
        ('{"album": "A", "duration_seconds": 1e999}', "A", None),
        ('{"album": "A", "duration_seconds": 61.6}', "A", 62),
    ],
)
def test_metadata_is_used_as_far_as_it_makes_sense(
    snapshot: Path, metadata: str | None, album: str, seconds: int | None
) -> None:
    change(snapshot, "UPDATE catalog_tracks SET metadata_json = ?, name = NULL WHERE song_id = 1", metadata)
    with Pool(snapshot, size=1).lend() as connection:
        song = catalog.song(connection, 1)

    assert (song.name, song.album, song.seconds) == ("Untitled", album, seconds)


def test_values_that_no_catalog_has_do_not_fill_the_memory(snapshot: Path) -> None:
    change(snapshot, "UPDATE catalog_tracks SET name = ? WHERE song_id = 1", "x" * 1_000_000)
    change(snapshot, "UPDATE catalog_tracks SET name = ? WHERE song_id = 2", "x" * (MAX_VALUE_BYTES + 1))
    change(snapshot, "UPDATE catalog_tracks SET name = x'ff00fe', singers = 5 WHERE song_id = 3")
    with Pool(snapshot, size=1).lend() as connection:
        assert len(catalog.song(connection, 1).name) == 500
        assert catalog.song(connection, 3).singers == "5"
        with pytest.raises(sqlite3.Error):
            catalog.song(connection, 2)


@pytest.mark.parametrize("text", ["", "x", "1.5", "--1", "٣", "9223372036854775808", "1" * 5_000, " 1"])
def test_only_numbers_name_things(snapshot: Path, text: str) -> None:
    with pytest.raises(NotThere):
        catalog.number(text)
    with Pool(snapshot, size=1).lend() as connection, pytest.raises(BadAddress):
        catalog.playlists(connection, after=f"{text}.1", limit=1)
