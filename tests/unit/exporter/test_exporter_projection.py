"""The rows of the catalog are a function of the last facts alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.bus.connection import Stored
from common.catalog import ids
from common.catalog.tables import metadata
from common.contracts.facts import (
    BackendDefined,
    Fact,
    FileTags,
    SongDescribed,
    SongPinned,
)
from common.contracts.names import BackendKind
from exporter.adapters.database import close_catalog, open_catalog
from exporter.adapters.export import export_snapshot
from exporter.service.projection import Projection, read_batch
from tests.support.catalog_facts import PLATFORM, Log, message, playlist, pool, rows, song, stored
from tests.support.catalog_histories import steps

TABLES = tuple(metadata.tables)


@contextmanager
def projecting(database: Path) -> Iterator[Projection]:
    connection = open_catalog(database)
    try:
        yield Projection(connection, library_root="/library")
    finally:
        close_catalog(connection)


def project(database: Path, messages: Sequence[Stored], *, batch: int = 1000) -> dict[str, list[tuple[Any, ...]]]:
    with projecting(database) as projection:
        for start in range(0, len(messages), batch):
            projection.apply(read_batch(messages[start : start + batch]))
    return rows(database, TABLES)


def problems(database: Path) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in rows(database, ["projection_problems"])["projection_problems"]]


def test_facts_become_rows(tmp_path: Path) -> None:
    log = Log()
    log.write(song("a", singers=("周杰伦", "B"), album="葉惠美", duration_seconds=200.5, metadata={"year": 2003}))
    log.write(stored("a"), stored("a", "objects", locator="feed/周 杰伦/a.mp3"))
    log.write(BackendDefined(backend="objects", kind=BackendKind.OBJECT_STORAGE, public_base_url="https://cdn/x"))
    log.write(*playlist("p", ["a", "a"], cover_url="https://c", play_count=7), pool("top", ["p"]))

    found = project(tmp_path / "catalog.db", log.all)

    a, p = ids.song_id(PLATFORM, "a"), ids.playlist_id(PLATFORM, "p")
    (row,) = found["songs"]
    assert row[:7] == (a, PLATFORM, "a", "Song a", "周杰伦, B", "mp3", 1000)
    assert json.loads(row[7]) == {"album": "葉惠美", "duration_seconds": 200.5, "bitrate": 320_000, "year": 2003}
    assert found["playlists"] == [(p, PLATFORM, "p", "Playlist p", None, "https://c", 7, 2)]
    assert found["playlist_songs"] == [(p, a, 0), (p, a, 1)]
    assert [row[1:] for row in found["storage_backends"] if row[1] == "library"] == [
        ("library", "filesystem", "/library", None)
    ]
    assert {(row[3], row[4], row[5]) for row in found["file_locations"]} == {
        ("feed/somebody/a.mp3", "active", 1),
        ("feed/周 杰伦/a.mp3", "active", 0),
    }
    assert found["pool_playlists"] == [(ids.pool_id(PLATFORM, "top"), p)]


def test_precedence_is_pinned_described_stored_listed(tmp_path: Path) -> None:
    log, a = Log(), ids.song_id(PLATFORM, "a")
    names = []
    database = tmp_path / "catalog.db"
    log.write(song("a", name="listed", ext="flac", size=5))
    log.write(stored("a", tags=FileTags(title="stored", artists=("S",))))
    log.write(SongDescribed(song_id=a, name="described", singers=("D",)))
    log.write(SongPinned(song_id=a, name="pinned"))
    log.write(SongPinned(song_id=a, removed=True), SongDescribed(song_id=a, removed=True))
    log.write(stored("a", removed=True))
    with projecting(database) as projection:
        for number, one in enumerate(log.all):
            projection.apply(read_batch([one]))
            if number != 4:
                names.append(rows(database, ["songs"])["songs"][0][3:7])
    assert names == [
        ("listed", None, "flac", 5),
        ("stored", "S", "mp3", 1000),
        ("described", "D", "mp3", 1000),
        ("pinned", "D", "mp3", 1000),
        ("stored", "S", "mp3", 1000),
        ("listed", None, "flac", 5),
    ]


def test_a_set_of_pages_applies_only_whole(tmp_path: Path) -> None:
    log = Log()
    log.write(*playlist("p", list("abcdefghij"), page_size=2))
    database = tmp_path / "live.db"
    first = project(database, log.all)
    assert len(first["playlist_songs"]) == 10

    *others, head = playlist("p", list("xyz"), version=2, page_size=2)
    log.write(*others)
    assert project(database, log.all[-len(others) :])["playlist_songs"] == first["playlist_songs"]

    log.write(head)
    shrunk = project(database, log.all[-1:])
    assert [row[1:] for row in sorted(shrunk["playlist_songs"], key=lambda row: row[2])] == [
        (ids.song_id(PLATFORM, name), index) for index, name in enumerate("xyz")
    ]
    assert shrunk == project(tmp_path / "replay.db", log.compacted())


def test_an_older_revision_is_ignored(tmp_path: Path) -> None:
    log = Log()
    log.raw(song("a").subject, message(song("a", name="new", revision=7)))
    log.raw(song("a").subject, message(song("a", name="old", revision=3)))
    assert project(tmp_path / "a.db", log.all)["songs"][0][3] == "new"
    assert problems(tmp_path / "a.db") == []


def test_an_id_with_two_keys_keeps_the_first(tmp_path: Path) -> None:
    log = Log()
    log.write(song("a"), song("b", song_id=ids.song_id(PLATFORM, "a")))
    found = project(tmp_path / "a.db", log.all)
    assert [row[2] for row in found["songs"]] == ["a"]
    assert problems(tmp_path / "a.db") == [(song("a").subject, "id-collision")]


def test_two_ids_with_one_key_do_not_depend_on_the_order(tmp_path: Path) -> None:
    old, new = song("a", song_id=17, name="adopted"), song("a", name="derived")
    histories: list[list[Fact]] = [[old, new], [new, old], [old, new, song("b"), old, new]]
    for number, history in enumerate(histories):
        for batch in (1, 100):
            log = Log()
            log.write(*history)
            database = tmp_path / f"{number}-{batch}.db"
            kept = [row[0] for row in project(database, log.all, batch=batch)["songs"] if row[2] == "a"]
            assert kept == [17]
            assert problems(database) == [(new.subject, "key-taken")]

            log.write(old.model_copy(update={"removed": True}))
            kept = [row[0] for row in project(database, log.all[-1:])["songs"] if row[2] == "a"]
            assert kept == [new.song_id], "the one that waited takes its place"
            assert problems(database) == []


@pytest.mark.parametrize(
    ("subject", "payload"),
    [
        ("song.listed.1", b"junk"),
        ("song.listed.1", b"{}"),
        ("song.listed.1", b"\xff\xfe"),
        ("nobody.knows.1", b"{}"),
        ("song.listed.1", message(song("a"))),
        (song("a", size=2**70).subject, message(song("a", size=2**70))),
        (song("a").subject, message(song("a")).replace(b'"version":1', b'"version":9')),
        (song("a").subject, message(stored("a"))),
        (
            "playlist.collected.feed.5.0",
            message(playlist("p", ["a"])[0].model_copy(update={"playlist_id": 5, "header": None})),
        ),
    ],
)
def test_what_is_not_ours_is_set_aside_with_its_reason(tmp_path: Path, subject: str, payload: bytes) -> None:
    log = Log()
    log.raw(subject, payload)
    log.write(song("b"))
    batch = read_batch(log.all)
    assert [one.subject for one in batch.unreadable] == [subject]
    assert len(batch.unreadable[0].reason) > 5
    found = project(tmp_path / "a.db", log.all)
    assert [row[2] for row in found["songs"]] == ["b"]
    assert problems(tmp_path / "a.db") == [(subject, "undecodable")]


def test_hostile_text_is_kept_readable(tmp_path: Path) -> None:
    log = Log()
    log.write(
        song(
            "a",
            metadata={"far": float("inf"), "deep": [[[{}]]], "half": "\0"},
            name="x\0y" + "\u202e" + "'; DROP TABLE songs; --",
            singers=("",),
        )
    )
    (row,) = project(tmp_path / "a.db", log.all)["songs"]
    assert row[3] == "xy\u202e'; DROP TABLE songs; --"


def test_nothing_of_a_batch_is_kept_when_it_fails(tmp_path: Path) -> None:
    log = Log()
    log.write(song("a"))
    with projecting(tmp_path / "a.db") as projection:
        batch = read_batch(log.all)
        batch.pools.add("not a number")  # type: ignore[arg-type]
        with pytest.raises(Exception, match="mismatch"):
            projection.apply(batch)
        assert projection.position().sequence == 0
        projection.apply(read_batch(log.all))
        assert projection.position().sequence == 1


# ---- the property ---------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=st.lists(steps(), max_size=30), batch=st.integers(1, 12), order=st.randoms(use_true_random=False))
def test_live_replay_and_any_order_give_the_same_rows_and_digest(
    tmp_path_factory: pytest.TempPathFactory, history: list[list[Fact]], batch: int, order: Any
) -> None:
    folder = tmp_path_factory.mktemp("history")
    log = Log()
    for facts in history:
        log.write(*facts)
    live = project(folder / "live.db", log.all, batch=batch)

    replayed = project(folder / "replay.db", log.compacted(), batch=batch)
    shuffled = log.compacted()
    order.shuffle(shuffled)
    other = project(folder / "shuffled.db", shuffled, batch=batch)

    assert replayed == live
    assert other == live
    digests = {
        export_snapshot(folder / f"{name}.db", folder / name)["snapshot_id"] for name in ("live", "replay", "shuffled")
    }
    assert len(digests) == 1
