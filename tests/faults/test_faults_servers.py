"""A server of a feed that is away: its songs wait, the others go on, and it goes on by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.audio import make_audio
from tests.support.http_server import Behavior, ScriptedServer
from tests.support.nats import NatsServer
from tests.support.stack import Stack, free_port


@pytest.fixture
def start(tmp_path: Path, nats_server: NatsServer) -> Iterator[Callable[..., Stack]]:
    """Start a stack with settings; it ends with the test."""
    stacks: list[Stack] = []

    def begin(**environment: str) -> Stack:
        stack = Stack(tmp_path, nats_server, **environment)
        stacks.append(stack)
        stack.start_all("console", "collector", "downloader")
        return stack

    yield begin
    for stack in stacks:
        stack.stop()


def test_songs_of_a_server_that_is_down_wait_and_are_fetched_when_it_is_back(
    tmp_path: Path, start: Callable[..., Stack]
) -> None:
    songs = [
        make_audio(
            tmp_path / "web" / f"{number}.wav", ext="wav", seconds=0.3, title=f"Song {number}", frequency=200 + number
        )
        for number in range(24)
    ]
    away = free_port()
    web = ScriptedServer()
    try:
        lines = [f"http://127.0.0.1:{away}/{song.name}" for song in songs[:20]]
        lines += [serve(web, song) for song in songs[20:]]
        feed = tmp_path / "list.m3u"
        feed.write_text("#EXTM3U\n" + "\n".join(lines) + "\n")
        stack = start(
            FEEDS=str(feed),
            SOURCES="feed",
            ALLOW_PRIVATE_HOSTS=f"127.0.0.1:{port_of(web)},127.0.0.1:{away}",
            RETRY_DELAY_SECONDS="6",
            DOWNLOAD_CONCURRENCY="2",
        )
        job = stack.job("full", sources=["feed"])
        stack.until(lambda: len(stack.files()) == 4, seconds=30, what="the songs of the server that answers")
        stack.until(lambda: bool(waits(stack)), seconds=30, what="the other server to be left alone")
        held = [item for item in stack.items(job, stage="download") if not item["tries"]]
        assert sum(item["state"] == "queued" for item in held) >= 12, "most of them lost no try"
        told = {item["reason"]["message"] for item in held if item["next_try_at"]}
        assert told and all(f"Waiting for 127.0.0.1:{away}" in message for message in told)
        # A downloader that starts anew knows of it, and asks for nothing.
        stack.kill("downloader")
        stack.start("downloader")
        back = ScriptedServer(port=away)
        try:
            for song in songs[:20]:
                serve(back, song)
            assert stack.wait_job(job, seconds=100) == "completed"
        finally:
            back.stop()
        assert len(stack.files()) == 24
        assert waits(stack) == []
    finally:
        web.stop()


def serve(web: ScriptedServer, song: Path) -> str:
    """Offer a file; return its URL."""
    return web.serve(f"/{song.name}", Behavior(body=song.read_bytes(), content_type="audio/wav"))


def port_of(web: ScriptedServer) -> int:
    port = urlsplit(web.url("/")).port
    assert port is not None
    return port


def waits(stack: Stack) -> list[dict[str, object]]:
    """The servers that are left alone now, as the dashboard shows them."""
    found: list[dict[str, object]] = stack.http.get("/api/dashboard").json()["waits"]
    return found


def test_a_pause_that_a_server_asks_for_is_kept_over_a_restart(tmp_path: Path, start: Callable[..., Stack]) -> None:
    song = make_audio(tmp_path / "web" / "song.wav", ext="wav", seconds=0.3, title="Song")
    web = ScriptedServer()
    try:
        web.serve(
            "/song.wav",
            Behavior(status=503, headers={"Retry-After": "12"}),
            Behavior(body=song.read_bytes(), content_type="audio/wav"),
        )
        feed = tmp_path / "list.m3u"
        feed.write_text(f"#EXTM3U\n{web.url('/song.wav')}\n")
        stack = start(FEEDS=str(feed), SOURCES="feed", ALLOW_PRIVATE_HOSTS=f"127.0.0.1:{port_of(web)}")
        job = stack.job("full", sources=["feed"])
        stack.until(lambda: bool(waits(stack)), seconds=30, what="the server's pause to be shown")
        stack.kill("downloader")
        stack.kill("console")
        stack.start("console")
        stack.start("downloader")
        assert stack.wait_job(job, seconds=60) == "completed"
        first, second = web.requests_to("/song.wav")
        assert second.at - first.at >= 11.5
        (item,) = stack.items(job, stage="download")
        assert item["tries"] == 0
    finally:
        web.stop()
