"""A song that nobody had is asked for again when a source is added, or one that refused access is mended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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
    feed = tmp_path / "list.m3u"
    feed.write_text(f"#EXTM3U\n#EXTINF:2,Singer - Night Song\n{jamendo.url}/gone.mp3\n")
    given = {name.upper(): str(value) for name, value in jamendo.settings().items() if name != "jamendo_albums"}
    running = Stack(
        tmp_path,
        nats_server,
        **given,
        FEEDS=str(feed),
        SOURCES="feed",
        ALLOW_PRIVATE_HOSTS=f"127.0.0.1:{jamendo.port}",
    )
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
