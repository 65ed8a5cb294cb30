"""The record: what it says follows from the last facts alone, whatever the order they came in."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from collector.adapters.apply import CATALOG_KEY, STATUS_KEY, Writer
from collector.adapters.database import FILE_NAME, open_record
from collector.adapters.record import DatabaseRecord
from collector.ports import Givers
from collector.service.listing import OWNER_KEY
from collector.service.wanted import is_missing
from common.bus.connection import Stored
from common.catalog.ids import asset_id
from common.contracts.envelope import Message, encode, wrap
from common.contracts.facts import (
    AudioFormat,
    Fact,
    FileStored,
    PlaylistCollected,
    PlaylistHeader,
    PoolDefined,
    SongListed,
    SongPinned,
)
from common.contracts.names import BackendKind, ItemState, Stage
from common.contracts.status import ItemStatus, Reason
from common.contracts.work import SongDownload
from common.database import Database
from common.errors import ConfigurationError
from tests.support.postgres import location


@pytest.fixture
def database(tmp_path: Path, database_url: str) -> Iterator[Database]:
    opened = open_record(location("collector", tmp_path / FILE_NAME, database_url))
    yield opened
    opened.close()


class Stream:
    """Gives messages their sequences."""

    def __init__(self, database: Database) -> None:
        self.writer = Writer(database.engine)
        self.record = DatabaseRecord(database.engine)
        self.sequence = 0

    def messages(self, facts: Sequence[Message]) -> list[Stored]:
        found = []
        for fact in facts:
            self.sequence += 1
            data = encode(wrap(fact, id="x", producer="test"))
            assert isinstance(fact, (Fact, ItemStatus))
            found.append(Stored(subject=fact.subject, sequence=self.sequence, data=data))
        return found

    def apply(self, *facts: Fact) -> None:
        self.writer.apply_catalog(self.messages(facts), "stream")

    def wanted(self, platforms: Sequence[str] = ("local",)) -> list[int]:
        return [item.song_id for item in self.record.wanted(1, platforms, after=-1, limit=100)]


@pytest.fixture
def stream(database: Database) -> Stream:
    return Stream(database)


def listed(
    song_id: int, *, fingerprint: str | None = "f", revision: int = 1, name: str = "x", **more: object
) -> SongListed:
    return SongListed(
        song_id=song_id,
        platform="local",
        remote_id=f"{song_id}.mp3",
        name=name,
        fingerprint=fingerprint,
        revision=revision,
        metadata={OWNER_KEY: 5},
        **more,
    )


def page(
    number: int, songs: Sequence[int], *, pages: int = 1, version: int = 1, playlist_id: int = 5, **more: object
) -> PlaylistCollected:
    return PlaylistCollected(
        playlist_id=playlist_id,
        platform="local",
        remote_id=f"{playlist_id}/",
        version=version,
        page=number,
        pages=pages,
        header=PlaylistHeader(name="Mix", song_count=len(songs)) if number == 0 else None,
        fingerprint="p" if number == 0 else None,
        entries=tuple((number * 500 + index, song) for index, song in enumerate(songs)),
        **more,
    )


def pool(*playlist_ids: int, revision: int = 1) -> PoolDefined:
    return PoolDefined(
        pool_id=3,
        platform="local",
        pool_kind="folder",
        external_id="folder",
        name="Folder",
        playlist_ids=playlist_ids,
        revision=revision,
    )


def stored(song_id: int, *, backend: str = "library", revision: int = 1, **more: object) -> FileStored:
    kind = BackendKind.OBJECT_STORAGE if backend == "objects" else BackendKind.FILESYSTEM
    values: dict[str, object] = {"sha256": "a" * 64, **more}
    return FileStored(
        backend=backend,
        backend_kind=kind,
        song_id=song_id,
        asset_id=asset_id(song_id, "main"),
        locator="x",
        size=1,
        format=AudioFormat(ext="mp3", mime="audio/mpeg"),
        revision=revision,
        **values,
    )


def failed(
    song: SongListed, *, state: ItemState = ItemState.FAILED, permanent: bool = True, givers: tuple[str, ...] = ()
) -> ItemStatus:
    request = SongDownload(
        job_id=1,
        source="local",
        song_id=song.song_id,
        remote_id=song.remote_id,
        name=song.name,
        fingerprint=song.fingerprint,
        givers=givers,
    )
    return ItemStatus(
        job_id=1,
        stage=Stage.DOWNLOAD,
        lane="local",
        key=request.key,
        title="x",
        state=state,
        permanent=permanent,
        reason=Reason(code="not-audio", message="No."),
        request=request.model_dump(mode="json", exclude_defaults=True),
    )


def test_wanted_is_listed_less_stored_less_given_up(stream: Stream) -> None:
    stream.apply(*(listed(song) for song in range(1, 9)), page(0, range(1, 8)), pool(5))
    stream.apply(stored(1), stored(2, backend="objects"), stored(3, removed=True), stored(4, listing_fingerprint="old"))
    stream.apply(listed(7, revision=2, removed=True))
    assert stream.wanted() == [2, 3, 4, 5, 6]
    assert stream.wanted(["feed"]) == []
    stream.writer.apply_status(stream.messages([failed(listed(5)), failed(listed(6), permanent=False)]), "status")
    assert stream.wanted() == [2, 3, 4, 6]
    stream.apply(listed(5, fingerprint="new", revision=2))
    assert stream.wanted() == [2, 3, 4, 5, 6]
    stream.writer.apply_status(stream.messages([failed(listed(5, fingerprint="new"))]), "status")
    assert stream.wanted() == [2, 3, 4, 6]
    stream.writer.apply_status(stream.messages([failed(listed(5), state=ItemState.SUCCEEDED)]), "status")
    assert stream.wanted() == [2, 3, 4, 5, 6]


def test_only_current_playlists_count(stream: Stream) -> None:
    stream.apply(listed(1), listed(2), page(0, [1]), page(0, [2], playlist_id=6))
    assert stream.wanted() == [1, 2]  # a platform without pools: an adopted library
    stream.apply(pool(5))
    assert stream.wanted() == [1]
    assert [item.playlist_id for item in stream.record.playlists_to_sync(1, ["local"])] == [5]
    stream.apply(pool(5, 6, revision=2), page(0, [1], version=2, revision=2, removed=True))
    assert stream.wanted() == [2]


def test_pages_beyond_the_set_are_ignored(stream: Stream) -> None:
    stream.apply(listed(1), listed(600), page(1, [600], pages=2), page(0, [1], pages=2), pool(5))
    assert stream.wanted() == [1, 600]
    stream.apply(page(0, [1], version=2, revision=2))
    assert stream.wanted() == [1]
    known = stream.record.playlist(5)
    assert known is not None and known.whole and known.top_version == 2 and known.entries() == [1]


def test_a_set_that_was_cut_off_is_not_whole(stream: Stream) -> None:
    stream.apply(page(1, [2], pages=2), page(0, [1], pages=2), page(1, [3], pages=2, version=2, revision=2))
    known = stream.record.playlist(5)
    assert known is not None and not known.whole and known.top_version == 2


def test_older_revisions_and_messages_that_are_not_ours_are_ignored(stream: Stream) -> None:
    stream.apply(
        listed(1, revision=3, name="new"),
        page(0, [1], revision=3, version=3),
        pool(5, revision=2),
        stored(1, revision=2),
    )
    stream.apply(listed(1, revision=2, name="old"), page(0, [], revision=2, version=2), pool(revision=1))
    stream.apply(stored(1, revision=1, removed=True))
    stream.apply(listed(1, revision=4, name="newest"), listed(1, revision=3, name="late"))
    foreign = [
        Stored(subject="song.listed.1", sequence=90, data=b"\xff not json"),
        Stored(subject="song.listed.2", sequence=91, data=encode(wrap(listed(1), id="x", producer="t"))),
        Stored(subject="something.else", sequence=92, data=b"{}"),
    ]
    stream.writer.apply_catalog(foreign, "stream")
    assert stream.writer.place(CATALOG_KEY) == (92, "stream")
    assert stream.record.listings([1, 2])[1].name == "newest" and 2 not in stream.record.listings([1, 2])
    known = stream.record.playlist(5)
    assert known is not None and known.top_version == 3 and known.entries() == [1]
    assert stream.wanted() == []


def test_the_record_does_not_depend_on_the_batches(tmp_path: Path, database_url: str) -> None:
    facts = [
        *(listed(song) for song in range(1, 40)),
        *(listed(song, revision=2, name="again") for song in range(1, 40, 3)),
        page(0, range(1, 30)),
        page(0, range(5, 40), version=2, revision=2),
        pool(5),
        *(stored(song) for song in range(1, 20)),
        *(stored(song, revision=2, removed=True) for song in range(1, 10)),
    ]
    answers = []
    for seed in range(4):
        (tmp_path / FILE_NAME).unlink(missing_ok=True)
        database = open_record(location("collector", tmp_path / FILE_NAME, database_url))
        stream = Stream(database)
        messages = stream.messages(facts)
        stream.writer.reset(CATALOG_KEY, "stream")
        chance = random.Random(seed)
        while messages:
            size = chance.randint(1, len(messages))
            stream.writer.apply_catalog(messages[:size], "stream")
            messages = messages[size:]
        answers.append((stream.wanted(), {one: stream.record.listings([one])[one].name for one in range(1, 40)}))
        database.close()
    assert all(answer == answers[0] for answer in answers)
    assert answers[0][0] == [*range(5, 10), *range(20, 40)]


def test_uploads_are_files_that_a_backend_lacks(stream: Stream) -> None:
    stream.apply(stored(1), stored(2), stored(2, backend="objects"), stored(3), stored(3, backend="local"))
    stream.apply(stored(4), stored(4, backend="objects", sha256="b" * 64), stored(5, removed=True))
    first = stream.record.uploads(1, "objects", after=(-1, ""), limit=2)
    rest = stream.record.uploads(1, "objects", after=(first[-1].song_id, first[-1].variant), limit=2)
    assert [(item.song_id, item.from_backend) for item in (*first, *rest)] == [
        (1, "library"),
        (3, "library"),
        (4, "library"),
    ]


def test_given_up_and_facts_are_forgotten_apart(stream: Stream) -> None:
    stream.apply(listed(1), page(0, [1]), pool(5))
    stream.writer.apply_status(stream.messages([failed(listed(1))]), "status")
    stream.writer.reset(STATUS_KEY, "other")
    assert stream.wanted() == [1] and stream.writer.place(STATUS_KEY) == (0, "other")
    stream.writer.reset(CATALOG_KEY, "other")
    assert stream.wanted() == [] and stream.record.playlist(5) is None and stream.record.pools(["local"]) == []


def test_what_no_column_takes_is_taken_all_the_same(stream: Stream) -> None:
    long = "x" * 5000
    stream.apply(listed(1, name=f"a\x00b{long}"), page(0, [1]), pool(5))
    (item,) = stream.record.wanted(1, ["local"], after=-1, limit=10)
    assert item.name in (f"a\x00b{long}", f"a\ufffdb{long}")


def test_a_second_collector_on_the_same_database_is_refused(tmp_path: Path, database_url: str) -> None:
    place = location("collector", tmp_path / FILE_NAME, database_url)
    first = open_record(place)
    with pytest.raises(ConfigurationError) as error:
        open_record(place)
    assert error.value.code == "database-in-use"
    assert ("DATABASE_URL" if database_url else "STATE_DIR") in error.value.message
    assert str(tmp_path) not in error.value.message
    first.close()
    open_record(place).close()


def test_a_file_that_is_no_database_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database" * 1000)
    database = open_record(location("collector", tmp_path / FILE_NAME, ""))
    stream = Stream(database)
    stream.apply(listed(1))
    assert 1 in stream.record.songs([1])
    database.close()


def pinned(song_id: int, match: str | None = None, *, banned: Sequence[str] = (), revision: int = 1) -> SongPinned:
    source, _, remote_id = (match or "").partition(":")
    return SongPinned(
        song_id=song_id,
        match_source=source or None,
        match_remote_id=remote_id or None,
        banned=tuple(banned),
        revision=revision,
    )


def of(candidate: str, song_id: int = 1, **more: Any) -> FileStored:
    source, _, remote_id = candidate.partition(":")
    return stored(song_id, candidate_source=source, candidate_remote_id=remote_id, **more)


@pytest.mark.parametrize(
    ("file", "choice", "asked"),
    [
        (of("archive:1"), pinned(1, "archive:1"), False),
        (of("archive:1"), pinned(1, "jamendo:2"), True),
        (of("archive:1"), pinned(1, banned=["archive:1"]), True),
        (of("archive:1"), pinned(1, banned=["archive:2", "jamendo:1"]), False),
        (stored(1), pinned(1, "local:1.mp3"), False),
        (stored(1), pinned(1, banned=["local:1.mp3"]), True),
        (stored(1), pinned(1), False),
    ],
)
def test_what_a_person_decided_otherwise_is_asked_for_although_it_is_stored(
    stream: Stream, file: FileStored, choice: SongPinned, asked: bool
) -> None:
    stream.apply(listed(1), listed(2), page(0, [1, 2]), pool(5), file, stored(2), choice)
    assert stream.wanted() == ([1] if asked else [])
    assert (stream.record.holdings([1, 2]).get(1) is None) is asked
    stream.apply(choice.model_copy(update={"removed": True, "revision": 2}))
    assert stream.wanted() == []


def test_a_choice_outweighs_that_a_song_was_given_up_but_is_not_tried_in_vain(stream: Stream) -> None:
    song = listed(1)
    gone = failed(song).model_copy(update={"reason": Reason(code="match-gone", message="It is gone.")})
    stream.apply(song, page(0, [1]), pool(5))
    stream.writer.apply_status(stream.messages([failed(song)]), "status")
    assert stream.wanted() == []
    stream.apply(pinned(1, "archive:1"))
    assert stream.wanted() == [1]
    stream.writer.apply_status(stream.messages([gone]), "status")
    assert stream.wanted() == [], "what was chosen is gone"
    stream.apply(pinned(1, banned=["archive:1"], revision=2))
    assert stream.wanted() == [], "nothing else was found"


@pytest.mark.parametrize(
    ("listed_now", "searched", "asked"),
    [
        (["local"], [], False),
        (["local", "a_b"], ["a_b"], False),
        (["local", "feed"], [], False),  # it has no songs but its own
        (["local", "axb"], ["axb"], True),
        (["local", "a_b", "jamendo"], ["a_b", "jamendo"], True),
        (["a_b"], ["a_b"], False),
        ([], [], False),
    ],
)
def test_what_was_given_up_is_asked_for_again_when_another_source_may_have_it(
    stream: Stream, listed_now: list[str], searched: list[str], asked: bool
) -> None:
    song, banned = listed(1), listed(2)
    stream.apply(song, banned, page(0, [1, 2]), pool(5), stored(2), pinned(2, banned=["local:2.mp3"]))
    givers = ("a_b", "local")
    stream.writer.apply_status(stream.messages([failed(song, givers=givers), failed(banned, givers=givers)]), "status")
    now = Givers(listed=frozenset(listed_now), searched=frozenset(searched))
    items = stream.record.wanted(1, ["local"], givers=now, after=-1, limit=10)
    assert [item.song_id for item in items] == ([1, 2] if asked else []), "also what is stored and was banned"
    assert all(item.givers == tuple(sorted(now.of("local"))) for item in items)
    holdings = stream.record.holdings([1, 2], givers=now)
    wish = stream.record.songs([1])[1].wish
    assert is_missing(holdings[1], wish=wish, fingerprint="f", present=False, givers=now.of("local")) is asked
    assert (holdings.get(2) is None) is asked
