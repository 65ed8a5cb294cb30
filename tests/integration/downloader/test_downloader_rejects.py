"""The memory of refused content, alone and shared, in SQLite and in PostgreSQL."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.contracts.status import Reason
from common.errors import DatabaseDown
from downloader.adapters.rejects import RejectDatabase
from tests.support.postgres import PostgresServer, location

WEB_PAGE = Reason(code="not-audio", message="It is a web page.")


def until_known(copy: RejectDatabase, sha256: str) -> Reason:
    deadline = time.monotonic() + 10
    while (found := copy.get(sha256)) is None:
        assert time.monotonic() < deadline, "what another copy refused was never heard of"
        time.sleep(0.05)
    return found


def test_what_one_copy_refuses_all_copies_know(tmp_path: Path, database_url: str) -> None:
    place = location("downloader", tmp_path / "state" / "downloader.db", database_url)
    one, other = RejectDatabase(place), RejectDatabase(place)
    assert one.get("aa") is None and other.get("aa") is None
    one.put("aa", WEB_PAGE)
    assert one.get("aa") == WEB_PAGE == until_known(other, "aa")
    other.put("aa", Reason(code="too-short", message="It is shorter than the song."))
    assert one.get("aa") == other.get("aa") == Reason(code="too-short", message="It is shorter than the song.")
    one.close()
    other.close()
    again = RejectDatabase(place)
    assert again.get("aa") is not None
    again.close()


def test_many_threads_of_two_copies_lose_nothing(tmp_path: Path, database_url: str) -> None:
    place = location("downloader", tmp_path / "state" / "downloader.db", database_url)
    copies = [RejectDatabase(place), RejectDatabase(place)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: copies[number % 2].put(f"{number:064}", WEB_PAGE), range(200)))
    for number in range(200):
        assert until_known(copies[0], f"{number:064}") == until_known(copies[1], f"{number:064}") == WEB_PAGE
    for copy in copies:
        copy.close()


def test_a_server_that_is_away_holds_and_forgets_nothing(postgres_of_its_own: PostgresServer, tmp_path: Path) -> None:
    copy = RejectDatabase(location("downloader", tmp_path / "unused", postgres_of_its_own.url()))
    copy.put("aa", WEB_PAGE)
    postgres_of_its_own.kill()
    with pytest.raises(DatabaseDown):
        copy.get("aa")
    with pytest.raises(DatabaseDown):
        copy.put("bb", WEB_PAGE)
    postgres_of_its_own.start()
    assert copy.get("aa") == WEB_PAGE
    assert copy.get("bb") is None
    copy.close()
