"""A song that its feed has lost is found at another source; a person bans that recording, and chooses again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.resolver_stats import STATISTICS_FILE, ResolverStatsRepository
from tests.support.lost_song import stack_of_a_lost_song
from tests.support.nats import NatsServer
from tests.support.source_apis import JamendoApi
from tests.support.stack import Stack

MOMENTS = 60


@pytest.fixture
def jamendo() -> Iterator[JamendoApi]:
    api = JamendoApi()
    api.songs = [
        api.entry(1, name="Night Song", artist_name="Singer", duration=2),
        api.entry(2, name="Night Song (Remix)", artist_name="Singer", duration=2),
    ]
    yield api
    api.close()


@pytest.fixture
def stack(tmp_path: Path, nats_server: NatsServer, jamendo: JamendoApi) -> Iterator[Stack]:
    running = stack_of_a_lost_song(tmp_path, nats_server, jamendo, RESOLVER_WARMUP_ATTEMPTS="1")
    # From another time: an origin and a candidate that are no longer in use.
    numbers = ResolverStatsRepository(running.root / "state" / STATISTICS_FILE)
    for _ in range(3):
        numbers.record_fallback_result("qq", "kuwo", succeeded=True)
    numbers.record_fallback_result("feed", "kuwo", succeeded=False)
    numbers.close()
    running.start_all("console", "collector", "downloader")
    yield running
    running.stop()


def test_what_one_source_lost_another_has_and_people_have_the_last_word(stack: Stack) -> None:
    job = stack.job("full", sources=["feed"])
    assert stack.wait_job(job, seconds=MOMENTS) == "completed"
    (item,) = stack.items(job, stage="download")
    assert (item["state"], item["result"]["found_at"]) == ("succeeded", "jamendo")
    assert len(stack.files()) == 1

    def song() -> dict[str, Any]:
        shown: dict[str, Any] = stack.http.get(f"/api/songs/{item['key']}").json()
        return shown

    def choose(action: str, remote_id: str, ends: str) -> None:
        before = stack.items(job, stage="download")[0]["ended_at"]
        told = stack.http.post(
            f"/api/songs/{item['key']}/choice", json={"action": action, "source": "jamendo", "remote_id": remote_id}
        )
        assert (told.status_code, told.json()["retried_in_job"]) == (202, job), told.text
        stack.until(
            lambda: stack.items(job, stage="download")[0]["ended_at"] not in (None, before),
            seconds=MOMENTS,
            what="the song to be asked for again",
        )
        assert stack.items(job, stage="download")[0]["state"] == ends

    assert (song()["stored"]["source"], song()["stored"]["remote_id"]) == ("jamendo", "1")
    told = stack.http.get(f"/api/songs/{item['key']}/matches").text
    assert "items" in told, told
    matches = {one["remote_id"]: one for one in stack.http.get(f"/api/songs/{item['key']}/matches").json()["items"]}
    assert matches["1"]["verdict"] == "accepted"
    assert matches["2"]["verdict"] == "refused"
    assert "version-differs" in {reason["code"] for reason in matches["2"]["reasons"]}
    standing = stack.http.get("/api/resolver", params={"origin": "feed"}).json()["sources"]
    assert [(one["source"], one["counts"]["attempts"], one["counts"]["successes"]) for one in standing] == [
        ("jamendo", 1, 1)
    ]

    all_pairs = {
        (table["origin"], one["source"]): (one["counts"]["successes"], one["counts"]["attempts"])
        for table in stack.http.get("/api/resolver").json()["items"]
        for one in (*table["sources"], *table["others"])
        if one["counts"]["attempts"]
    }
    assert all_pairs == {("feed", "jamendo"): (1, 1), ("feed", "kuwo"): (0, 1), ("qq", "kuwo"): (3, 3)}
    page = re.sub(r"<[^>]+>", " ", stack.http.get("/resolver", headers={"Accept": "text/html"}).text)
    assert [words.split()[0] for words in page.split("Songs of ")[1:]] == ["feed", "jamendo", "qq"]
    assert "kuwo" in page.split("Songs of ")[1] and "kuwo" in page.split("Songs of ")[3]
    assert "No source of this name is in use" in page.split("Songs of ")[3]

    choose("ban", "1", "failed")
    assert song()["choice"]["banned"] == [{"source": "jamendo", "remote_id": "1"}]
    assert len(stack.files()) == 1, "what is there stays until there is something better"
    choose("pin", "2", "succeeded")
    shown = song()
    assert shown["stored"]["remote_id"] == "2"
    assert shown["choice"]["match"] == {"source": "jamendo", "remote_id": "2"}
    page = stack.http.get(f"/songs/{item['key']}", headers={"Accept": "text/html"}).text
    assert "Night Song (Remix)" in page and "Allow again" in page
    assert "jamendo" in stack.http.get("/resolver", headers={"Accept": "text/html"}).text

    again = stack.job("full", sources=["feed"])
    assert stack.wait_job(again, seconds=MOMENTS) == "completed"
    assert song()["stored"]["remote_id"] == "2", "a choice stays"


def test_questions_that_cannot_be_answered_say_why(stack: Stack) -> None:
    assert stack.http.get("/api/songs/123").status_code == 404
    wrong = stack.http.post("/api/songs/123/choice", json={"action": "pin", "source": "Not a name", "remote_id": "1"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid-request")
    assert stack.http.get("/api/resolver", params={"origin": "../x"}).status_code == 422
    stack.kill("downloader")
    away = stack.http.get("/api/songs/123/matches")
    assert (away.status_code, away.json()["code"]) == (503, "no-downloader")
    assert "No downloader" in stack.http.get("/resolver", headers={"Accept": "text/html"}).text
