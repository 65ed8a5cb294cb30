"""A song that nobody had is asked for again when a source is added, or one that refused access is mended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.lost_song import stack_of_a_lost_song
from tests.support.nats import NatsServer
from tests.support.source_apis import JamendoApi, Reply
from tests.support.stack import Stack

MOMENTS = 60


@pytest.fixture
def jamendo() -> Iterator[JamendoApi]:
    api = JamendoApi()
    api.songs = [api.entry(1, name="Night Song", artist_name="Singer", duration=2)]
    yield api
    api.close()


@pytest.fixture
def stack(tmp_path: Path, nats_server: NatsServer, jamendo: JamendoApi) -> Iterator[Stack]:
    running = stack_of_a_lost_song(tmp_path, nats_server, jamendo, SOURCES="feed")
    yield running
    running.stop()


def test_what_was_given_up_is_had_when_a_source_is_added_and_its_credential_mended(
    stack: Stack, jamendo: JamendoApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def downloads() -> list[dict[str, Any]]:
        job = stack.job("full", sources=["feed"])
        stack.wait_job(job, seconds=MOMENTS)
        return stack.items(job, stage="download")

    stack.start_all("console", "collector", "downloader")
    (item,) = downloads()
    assert item["state"] == "failed"
    stack.until(lambda: downloads() == [], seconds=MOMENTS, what="the song to be given up")

    for service in ("console", "collector", "downloader"):
        stack.kill(service)
    stack.environment["SOURCES"] = "feed,jamendo"
    answer = jamendo.answer
    monkeypatch.setattr(
        jamendo, "answer", lambda path, query: Reply(status=401) if "/tracks" in path else answer(path, query)
    )
    stack.start_all("console", "collector", "downloader")
    for _ in range(2):
        (item,) = downloads()
        assert item["state"] == "failed"
        assert "JAMENDO_CLIENT_ID" in item["reason"]["message"], "what to mend"

    monkeypatch.undo()
    (item,) = downloads()
    assert (item["state"], item["result"]["found_at"]) == ("succeeded", "jamendo")
    assert downloads() == []
