"""What a person's choice becomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from common.contracts.envelope import now
from common.contracts.facts import AudioFormat, FileStored, SongListed, SongPinned
from common.contracts.names import ItemState, JobState, JobType, Stage
from common.contracts.status import ItemStatus
from console.errors import InvalidRequest, Refused
from console.ports import Item, Items, Job, JobDraft, Runs, Wish
from console.service.songs import MAX_BANNED, Action, Songs, chosen

NOTHING = SongPinned(song_id=1)
SOURCES = ("archive", "jamendo")


def choose(before: SongPinned, action: Action, source: str = "archive", remote_id: str = "a:1") -> SongPinned:
    return chosen(before, action, source=source, remote_id=remote_id, by="console")


def test_a_recording_is_pinned_and_let_go() -> None:
    pinned = choose(NOTHING, "pin")
    assert (pinned.match_source, pinned.match_remote_id, pinned.by) == ("archive", "a:1", "console")
    free = choose(pinned, "unpin")
    assert (free.match_source, free.match_remote_id) == (None, None)


def test_a_banned_recording_is_no_longer_pinned_and_a_pinned_one_no_longer_banned() -> None:
    banned = choose(choose(NOTHING, "pin"), "ban")
    assert (banned.match_source, banned.banned) == (None, ("archive:a:1",))
    other = choose(banned, "ban", "jamendo", "7")
    assert other.banned == ("archive:a:1", "jamendo:7")
    assert choose(other, "pin").banned == ("jamendo:7",)
    assert choose(other, "unban").banned == ("jamendo:7",)


def test_words_and_singers_that_a_person_gave_stay() -> None:
    named = SongPinned(song_id=1, name="Right name", singers=("A",), revision=4)
    assert choose(named, "ban").name == "Right name"


@pytest.mark.parametrize("action", ["unpin", "unban"])
def test_what_is_so_already_is_no_new_choice(action: Action) -> None:
    assert choose(NOTHING, action) is NOTHING
    pinned = choose(NOTHING, "pin")
    assert choose(pinned, "pin") is pinned


def test_bans_are_bounded() -> None:
    full = SongPinned(song_id=1, banned=tuple(f"archive:{number}" for number in range(MAX_BANNED)))
    with pytest.raises(InvalidRequest):
        choose(full, "ban")


class Catalog:
    """The facts of one song."""

    def __init__(self, *stored: tuple[str, str] | None) -> None:
        self.files = [one for one in stored if one is not None]
        self.choice = NOTHING
        self.said = 0

    async def listed(self, song_id: int) -> SongListed | None:
        return SongListed(song_id=song_id, platform="feed", remote_id="own", name="Name")

    async def copies(self, song_id: int) -> list[FileStored]:
        return [
            FileStored(
                backend=backend,
                song_id=song_id,
                asset_id=1,
                locator="a.flac",
                sha256="a" * 64,
                size=1,
                format=AudioFormat(ext="flac", mime="audio/flac"),
                candidate_source=source,
                candidate_remote_id=None if source == "feed" else remote_id,
            )
            for backend, (source, remote_id) in zip(("library", "local"), self.files, strict=False)
        ]

    async def pinned(self, song_id: int) -> SongPinned:
        return self.choice

    async def pin(self, choice: SongPinned) -> None:
        self.choice = choice
        self.said += 1


class Ledger:
    """One job with the song's item, and the commands that were given for it."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self.refusal = refusal
        self.wishes: list[Wish] = []

    def newest(self, *, states: object, before: object, limit: int) -> list[Job]:
        draft = JobDraft(job_type=JobType.FULL, sources=("feed",), stages=(Stage.DOWNLOAD,))
        return [Job(job_id=4, state=JobState.COMPLETED, draft=draft, trace="t", created_at=now())]

    def newest_of(self, subjects: Sequence[str]) -> Item | None:
        status = ItemStatus(job_id=4, stage=Stage.DOWNLOAD, lane="feed", key="1", title="Name", state=ItemState.FAILED)
        return Item(item_id=9, subject=status.subject, status=status) if status.subject in subjects else None

    async def command(self, job_id: int, wish: Wish) -> Job:
        if self.refusal is not None:
            raise self.refusal
        self.wishes.append(wish)
        return self.newest(states=(), before=None, limit=1)[0]


async def decide(catalog: Catalog, ledger: Ledger, action: Action, source: str, remote_id: str) -> int | None:
    songs = Songs(facts=catalog, runs=cast(Runs, ledger), items=cast(Items, ledger), control=ledger, sources=SOURCES)
    told = await songs.choose(1, action, source=source, remote_id=remote_id, by="console")
    retried: int | None = told["retried_in_job"]
    assert (retried == 4) is bool(ledger.wishes)
    return retried


@pytest.mark.parametrize(
    ("stored", "action", "which", "fetched"),
    [
        (None, "pin", ("archive", "1"), True),
        (("archive", "1"), "ban", ("archive", "1"), True),
        (("archive", "1"), "pin", ("jamendo", "2"), True),
        (("feed", "own"), "ban", ("feed", "own"), True),
        # The file that is there is right, whatever else is decided.
        (("archive", "1"), "pin", ("archive", "1"), False),
        (("archive", "1"), "ban", ("jamendo", "2"), False),
        (("archive", "1"), "unban", ("jamendo", "2"), False),
        (("feed", "own"), "pin", ("feed", "own"), False),
    ],
)
async def test_a_song_is_fetched_again_where_its_file_is_not_what_was_chosen(
    stored: tuple[str, str] | None, action: Action, which: tuple[str, str], fetched: bool
) -> None:
    assert (await decide(Catalog(stored), Ledger(), action, *which) == 4) is fetched


async def test_a_choice_that_was_kept_but_not_carried_out_is_by_saying_it_again() -> None:
    catalog = Catalog(("archive", "1"))
    assert (
        await decide(catalog, Ledger(Refused("It was canceled.", code="job-canceled")), "pin", "jamendo", "2") is None
    )
    assert catalog.choice.match_source == "jamendo"
    assert await decide(catalog, Ledger(), "pin", "jamendo", "2") == 4
    assert catalog.said == 1, "it is no new choice"


async def test_of_two_files_the_chosen_one_is_shown_and_the_other_one_is_asked_to_end() -> None:
    catalog, ledger = Catalog(("jamendo", "2"), ("feed", "own")), Ledger()
    assert await decide(catalog, ledger, "ban", "jamendo", "2") == 4
    songs = Songs(facts=catalog, runs=cast(Runs, ledger), items=cast(Items, ledger), control=ledger, sources=SOURCES)
    stored = (await songs.view(1))["stored"]
    assert (stored["backend"], stored["source"], stored["as_chosen"]) == ("local", "feed", True)


@pytest.mark.parametrize(
    ("source", "remote_id", "code"),
    [
        ("nosuch", "1", "unknown-source"),
        ("archive", "a\0b", "remote-id-invalid"),
        ("archive", "\ud800", "remote-id-invalid"),
        ("archive", "x" * 1001, "remote-id-invalid"),
    ],
)
@pytest.mark.parametrize("action", ["pin", "ban"])
async def test_what_no_source_can_have_is_refused(action: Action, source: str, remote_id: str, code: str) -> None:
    catalog = Catalog(("archive", "1"))
    with pytest.raises(InvalidRequest) as refused:
        await decide(catalog, Ledger(), action, source, remote_id)
    assert refused.value.code == code
    assert catalog.said == 0


async def test_what_is_stored_can_be_banned_whatever_its_source_calls_it_and_old_choices_taken_back() -> None:
    assert await decide(Catalog(("former", "a\nb")), Ledger(), "ban", "former", "a\nb") == 4
    catalog = Catalog(("archive", "1"))
    catalog.choice = SongPinned(song_id=1, banned=("nosuch:1",))
    await decide(catalog, Ledger(), "unban", "nosuch", "1")
    assert catalog.choice.banned == ()
