"""Settings that reach running services: no restart, and no item interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.bus import Bus
from common.bus.settings_follower import SETTINGS_SUBJECT
from common.contracts.settings import LiveSettings
from common.settings import Settings
from tests.support.audio import make_audio
from tests.support.http_server import Behavior, ScriptedServer
from tests.support.nats import NatsServer
from tests.support.stack import Stack

SONGS = 26


@pytest.fixture
def web() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.stop()


@pytest.fixture
def stack(tmp_path: Path, nats_server: NatsServer, web: ScriptedServer) -> Iterator[Stack]:
    """Three services on one env file, and a feed whose songs each take about two seconds."""
    lines = []
    for number in range(SONGS):
        song = make_audio(
            tmp_path / "web" / f"{number}.wav", ext="wav", seconds=0.3, title=f"Song {number}", frequency=200 + number
        )
        body = song.read_bytes()
        behavior = Behavior(body=body, content_type="audio/wav", chunk=len(body) // 20, pause=0.1)
        lines.append(web.serve(f"/{song.name}", behavior))
    feed = tmp_path / "list.m3u"
    feed.write_text("#EXTM3U\n" + "\n".join(lines) + "\n")
    write(tmp_path, DOWNLOAD_CONCURRENCY="2")
    running = Stack(
        tmp_path, nats_server, FEEDS=str(feed), SOURCES="feed,local", ALLOW_PRIVATE_HOSTS=f"127.0.0.1:{web.port}"
    )
    running.start_all("console", "collector", "downloader")
    yield running
    running.stop()


def write(directory: Path, **settings: str) -> None:
    """Replace the env file as an editor does."""
    target, new = directory / "music-cloud.env", directory / "music-cloud.env.new"
    new.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    new.replace(target)


def downloader(stack: Stack) -> dict[str, Any]:
    workers = stack.http.get("/api/dashboard").json()["workers"]
    return next((one for one in workers if one["service"] == "downloader"), {"items": [], "concurrency": 0})


def in_hand(stack: Stack) -> int:
    return len(downloader(stack)["items"])


def test_concurrency_is_raised_and_lowered_while_a_job_runs(tmp_path: Path, stack: Stack, web: ScriptedServer) -> None:
    job = stack.job("full", sources=["feed"])
    stack.until(lambda: in_hand(stack) == 2, seconds=30, what="two songs in hand")
    begun = stack.http.get("/api/config").json()

    # More than the threads that it began with.
    write(tmp_path, DOWNLOAD_CONCURRENCY="9")
    stack.until(lambda: in_hand(stack) == 9, seconds=10, what="nine songs in hand")
    held = {item["title"] for item in downloader(stack)["items"]}

    write(tmp_path, DOWNLOAD_CONCURRENCY="1")
    stack.until(lambda: downloader(stack)["concurrency"] == 1, seconds=10, what="one slot")
    stack.until(lambda: in_hand(stack) == 1, seconds=15, what="one song in hand")
    done = {item["title"] for item in stack.items(job, stage="download") if item["state"] == "succeeded"}
    assert len(held & done) >= 8, "what was in hand was finished"

    write(tmp_path, DOWNLOAD_CONCURRENCY="12")
    assert stack.wait_job(job, seconds=60) == "completed"
    items = stack.items(job, stage="download")
    assert len(items) == SONGS
    assert {(item["state"], item["tries"]) for item in items} == {("succeeded", 0)}
    assert [len(web.requests_to(f"/{number}.wav")) for number in range(SONGS)] == [1] * SONGS, "none began anew"
    now = stack.http.get("/api/config").json()
    assert now["current"]["id"] == begun["current"]["id"] + 3
    assert {one["settings_revision"] for one in now["workers"]} == {now["current"]["id"]}
    kept = stack.http.get(f"/api/jobs/{job}").json()["config"]
    assert kept["download_concurrency"] == "2", "the job keeps what it was started with"


def test_another_order_of_sources_is_used_for_the_next_song(tmp_path: Path, stack: Stack) -> None:
    job = stack.job("full", sources=["feed"])
    stack.until(lambda: stack.items(job, stage="download", state="succeeded") != [], seconds=30, what="a song")

    def order(**settings: str) -> None:
        write(tmp_path, DOWNLOAD_CONCURRENCY="8", **settings)
        current = stack.http.get("/api/config").json()["current"]["id"]

        def runs() -> bool:
            state = stack.http.get("/api/config").json()
            told = {one["service"]: one["settings_revision"] for one in state["workers"]}
            return bool(state["current"]["id"] > current and told["downloader"] == state["current"]["id"])

        stack.until(runs, seconds=15, what="the downloader to run the new version")

    chosen = stack.items(job, stage="download", state="succeeded")[0]["id"]

    def item() -> dict[str, Any]:
        return next(one for one in stack.items(job, stage="download") if one["id"] == chosen)

    def again() -> dict[str, Any]:
        before = item()["ended_at"]
        stack.http.post(
            f"/api/jobs/{job}/commands", json={"command_type": "force_retry_item", "target_item_id": chosen}
        )
        stack.until(lambda: item()["ended_at"] not in (None, before), seconds=30, what="the item to end again")
        return item()

    order(DOWNLOAD_SOURCES="local")
    failed = again()
    assert (failed["state"], failed["reason"]["code"]) == ("failed", "no-candidate"), "its own source is not listed"
    order(DOWNLOAD_SOURCES="local,feed")
    assert again()["state"] == "succeeded"
    order(DOWNLOAD_SOURCES="netease")
    refused = {one["service"]: one["refused"] for one in stack.http.get("/api/config").json()["workers"]}
    assert "not in SOURCES: feed, local" in str(refused["downloader"]["DOWNLOAD_SOURCES"])
    assert again()["state"] == "succeeded", "the order before stays"


async def limit_of(bus: Bus, job: int) -> int | None:
    info = await bus.js.consumer_info("WORK", f"j{job}-download-feed")
    limit: int | None = info.config.max_ack_pending
    return limit


async def test_a_lower_rate_limit_reaches_the_consumer_of_a_running_job(
    tmp_path: Path, stack: Stack, settings: Settings
) -> None:
    bus = await Bus.connect(settings, service="test", instance="one")
    write(tmp_path, DOWNLOAD_CONCURRENCY="8")
    job = stack.job("full", sources=["feed"])
    await asyncio.to_thread(stack.until, lambda: in_hand(stack) == 8, seconds=30, what="eight songs in hand")
    assert await limit_of(bus, job) == 64

    write(tmp_path, DOWNLOAD_CONCURRENCY="8", SOURCE_LIMITS="feed=2")
    await asyncio.to_thread(stack.until, lambda: in_hand(stack) == 2, seconds=20, what="two songs in hand")
    assert await limit_of(bus, job) == 2

    write(tmp_path, DOWNLOAD_CONCURRENCY="8", SOURCE_MAX_IN_FLIGHT="32")
    await asyncio.to_thread(stack.until, lambda: in_hand(stack) == 8, seconds=20, what="eight songs in hand again")
    assert await limit_of(bus, job) == 32
    assert await asyncio.to_thread(stack.wait_job, job, seconds=60) == "completed"
    assert {item["tries"] for item in stack.items(job)} == {0}
    await bus.close()


async def test_what_cannot_be_is_refused_by_the_service_and_shown(
    tmp_path: Path, stack: Stack, settings: Settings
) -> None:
    bus = await Bus.connect(settings, service="test", instance="one")
    values = {"DOWNLOAD_CONCURRENCY": "0", "LOG_LEVEL": "shout", "SOURCE_LIMITS": "feed"}
    await bus.publish(SETTINGS_SUBJECT, LiveSettings(revision=77, values=values), msg_id="bad")

    def refused() -> dict[str, Any]:
        found = stack.http.get("/api/config").json()["workers"]
        return {one["service"]: one["refused"] for one in found if one["settings_revision"] == 77}

    await asyncio.to_thread(stack.until, lambda: len(refused()) == 3, seconds=15, what="all services to have read it")
    assert refused()["downloader"].keys() == {"DOWNLOAD_CONCURRENCY", "LOG_LEVEL"}
    assert refused()["console"].keys() == {"SOURCE_LIMITS", "LOG_LEVEL"}
    assert downloader(stack)["concurrency"] == 2
    log = (stack.logs / "downloader.log").read_text()
    assert "an announced setting is refused; the old value stays" in log
    # Bytes that are no settings of ours change nothing either.
    await bus.js.publish(SETTINGS_SUBJECT, b"{")
    await asyncio.to_thread(
        stack.until,
        lambda: "the announced settings cannot be read" in (stack.logs / "downloader.log").read_text(),
        seconds=10,
        what="a line in the log",
    )
    write(tmp_path, DOWNLOAD_CONCURRENCY="3")
    await asyncio.to_thread(stack.until, lambda: downloader(stack)["concurrency"] == 3, seconds=15, what="three slots")
    await bus.close()


def test_the_environment_wins_and_what_needs_a_restart_is_named(tmp_path: Path, stack: Stack) -> None:
    stack.start("downloader", "second", DOWNLOAD_CONCURRENCY="5")

    def workers() -> dict[str, dict[str, Any]]:
        found = stack.http.get("/api/dashboard").json()["workers"]
        return {one["instance"]: one for one in found}

    stack.until(lambda: "second" in workers(), seconds=20, what="the second downloader")
    write(tmp_path, DOWNLOAD_CONCURRENCY="7", MAX_REDIRECTS="3", FEEDS="elsewhere.m3u", WEB_PORT="1")
    stack.until(lambda: workers()["downloader"]["concurrency"] == 7, seconds=15, what="seven slots")
    state = stack.http.get("/api/config").json()
    assert workers()["second"]["concurrency"] == 5
    of = {one["worker_name"]: one for one in state["workers"]}
    assert (of["download-1"]["from_environment"], of["download-1"]["restart_for"]) == ([], ["MAX_REDIRECTS"])
    assert of["download-2"]["from_environment"] == ["DOWNLOAD_CONCURRENCY"]
    # These the environment of the console sets as well.
    assert state["current"]["overridden"] == ["FEEDS", "WEB_PORT"]
    assert of["console-1"]["restart_for"] == []
    page = stack.http.get("/config").text
    assert "set by its environment, which wins" in page
