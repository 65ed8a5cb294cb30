"""The last search of each song, alone and shared, in SQLite and in PostgreSQL."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import update

from common.contracts.status import Reason
from common.errors import PermanentError
from downloader.adapters import matches
from downloader.adapters.matches import MatchDatabase
from downloader.adapters.rejects import RejectDatabase
from downloader.adapters.tables import song_searches
from downloader.ports import Asked, Judged, Searched
from sources.port import Found, Licence
from tests.support.postgres import PostgresServer, location

ASKED = [Asked(source="jamendo", why="Never tried; counts 0.5.", results=1, accepted=1, verified=False)]


def judged(remote_id: str = "1", **values: object) -> Judged:
    given: dict[str, object] = {"source": "archive", "name": "Name", "singers": ("Singer",), **values}
    found = Found(remote_id=remote_id, licence=Licence(name="CC BY 4.0"), **given)  # type: ignore[arg-type]
    return Judged(found=found, verdict="review", score=50, reasons=[Reason(code="title-agrees", message="Agrees.")])


@pytest.fixture
def copies(tmp_path: Path, database_url: str) -> Iterator[list[MatchDatabase]]:
    place = location("downloader", tmp_path / "state" / "downloader.db", database_url)
    databases = [RejectDatabase(place), RejectDatabase(place)]
    yield [MatchDatabase(one.database) for one in databases]
    for one in databases:
        one.close()


def test_what_one_copy_found_another_tells(copies: list[MatchDatabase]) -> None:
    one, other = copies
    one.keep(7, [judged("1"), judged("2")], ASKED, job_id=3)
    told = json.loads(json.dumps(other.tell({"song_id": 7})))
    assert [(item["source"], item["remote_id"], item["verdict"]) for item in told["items"]] == [
        ("archive", "1", "review"),
        ("archive", "2", "review"),
    ]
    assert told["items"][0]["reasons"] == [{"code": "title-agrees", "message": "Agrees."}]
    assert told["items"][0]["licence"] == "CC BY 4.0"
    assert told["search"]["asked"][0]["why"] == "Never tried; counts 0.5."
    last = other.last(7, job_id=3)
    assert last.asked == ASKED
    assert last.found == [judged("1").found, judged("2").found], "to be judged again"
    assert other.last(7, job_id=4).asked == [], "another job begins anew"
    other.keep(7, [judged("3")], [], job_id=4)
    assert [item["remote_id"] for item in one.get(7)] == ["3"]
    assert other.tell({"song_id": 8}) == {"song_id": 8, "items": [], "search": None}


@pytest.mark.parametrize("song_id", [None, "7", True, -1, 2**63])
def test_a_question_without_a_song_is_refused(copies: list[MatchDatabase], song_id: object) -> None:
    with pytest.raises(PermanentError):
        copies[0].tell({"song_id": song_id})


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x" * 2_000_000, "\u202e", "'; DROP TABLE song_matches; --"])
def test_no_text_fails_a_song_or_bursts_an_answer(copies: list[MatchDatabase], text: str) -> None:
    results = [judged(str(number), name=text, singers=(text,) * 100, album=text) for number in range(20)]
    copies[0].keep(7, results, ASKED, job_id=3)
    assert len(json.dumps(copies[0].tell({"song_id": 7})).encode()) < 1024**2, "more than one message of the bus"
    copies[0].keep(7, [judged(text)], ASKED, job_id=3)
    copies[0].keep(7, [judged(duration_seconds=float("nan"))], ASKED, job_id=3)
    assert [item["duration_seconds"] for item in copies[0].get(7)] == [None]


def test_many_threads_of_two_copies_keep_one_search_for_each_song(copies: list[MatchDatabase]) -> None:
    def keep(number: int) -> None:
        copies[number % 2].keep(number // 4, [judged("1"), judged("2")], ASKED, job_id=3)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(keep, range(80)))
    for song_id in range(20):
        assert [item["remote_id"] for item in copies[0].get(song_id)] == ["1", "2"]


def test_what_a_newer_copy_kept_fails_no_song(copies: list[MatchDatabase]) -> None:
    copies[0].keep(7, [judged()], ASKED, job_id=3)
    with copies[1]._engine.begin() as connection:
        connection.execute(update(song_searches).values(asked=[{"source": "a", "why": "b", "later": 1}]))
    assert copies[0].last(7, job_id=3) == Searched()


def test_old_searches_are_forgotten(copies: list[MatchDatabase], monkeypatch: pytest.MonkeyPatch) -> None:
    copies[0].keep(7, [judged()], ASKED, job_id=3)
    copies[0].prune()
    assert copies[0].get(7)
    later = time.time() + matches._KEEP_SECONDS + 1
    monkeypatch.setattr(time, "time", lambda: later)
    copies[0].prune()
    assert copies[0].tell({"song_id": 7}) == {"song_id": 7, "items": [], "search": None}


def test_a_server_that_is_away_fails_no_song(postgres_of_its_own: PostgresServer, tmp_path: Path) -> None:
    database = RejectDatabase(location("downloader", tmp_path / "unused", postgres_of_its_own.url()))
    copy = MatchDatabase(database.database)
    copy.keep(7, [judged()], ASKED, job_id=3)
    postgres_of_its_own.kill()
    copy.keep(7, [judged("2")], ASKED, job_id=3)
    assert copy.last(7, job_id=3) == Searched()
    postgres_of_its_own.start()
    assert [item["remote_id"] for item in copy.get(7)] == ["1"]
    database.close()
