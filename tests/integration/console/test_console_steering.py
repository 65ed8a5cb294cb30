"""Steering jobs: what failed is tried again as a whole, and one job is served before another."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from common.bus import Bus
from common.contracts.envelope import now
from common.contracts.status import Heartbeat
from common.contracts.streams import WORK
from common.settings import Settings
from tests.support.console import ConsoleProcess, working
from tests.support.jobs import read_jobs
from tests.support.nats import NatsServer


@pytest.fixture
async def wire(settings: Settings, console: ConsoleProcess) -> AsyncIterator[Bus]:
    """The bus as a worker sees it: the console has made its streams."""
    bus = await Bus.connect(settings, service="test", instance="one")
    yield bus
    await bus.close()


async def test_all_that_failed_for_one_reason_is_tried_again(
    console: ConsoleProcess, wire: Bus, settings: Settings
) -> None:
    console.ok("POST", "/api/jobs", json={"job_type": "download_only"})
    songs = [*(f"bad {number}" for number in range(30)), "broken one", "good"]
    async with working(wire, settings, songs) as workers:
        await console.until_state(1, "completed_with_errors")
        body = {"command_type": "retry_failed", "error_code": "not-audio"}
        assert console.ok("POST", "/api/jobs/1/commands", json=body)["state"] == "running"
        ended = await console.until_state(1, "completed_with_errors")
        assert ended["totals"]["failed"] == 31
        assert all(workers.started.count(name) == 2 for name in songs if name.startswith("bad"))
        assert (workers.started.count("broken one"), workers.started.count("good")) == (1, 1)
        # All of them, after the cause is mended.
        workers.mended = True
        console.ok("POST", "/api/jobs/1/commands", json={"command_type": "retry_failed"})
        ended = await console.until_state(1, "completed")
        assert (ended["totals"]["failed"], ended["totals"]["succeeded"]) == (0, 32)
        nothing = console.http.post("/api/jobs/1/commands", json={"command_type": "retry_failed"})
        assert (nothing.status_code, nothing.json()["code"]) == (409, "nothing-failed")


async def test_a_retry_of_all_goes_on_after_the_console_was_killed(
    console: ConsoleProcess, wire: Bus, settings: Settings
) -> None:
    console.ok("POST", "/api/jobs", json={"job_type": "download_only"})
    songs = [f"bad {number}" for number in range(1500)]
    async with working(wire, settings, songs) as workers:
        await console.until_state(1, "completed_with_errors", seconds=60)
        workers.mended = True
        console.ok("POST", "/api/jobs/1/commands", json={"command_type": "retry_failed"})
        console.kill()
        console.start()
        ended = await console.until_state(1, "completed", seconds=60)
        assert ended["totals"]["succeeded"] == len(songs)
        assert sorted(workers.done) == sorted(songs), "each of them once"


async def test_a_job_of_higher_priority_is_served_first(console: ConsoleProcess, wire: Bus, settings: Settings) -> None:
    for source in ("local", "feed"):
        console.ok("POST", "/api/jobs", json={"job_type": "download_only", "sources": [source]})
    job = console.ok("POST", "/api/jobs/2/commands", json={"command_type": "set_priority", "priority": 3})
    assert job["priority"] == 3
    (first, second) = (await read_jobs(wire)).jobs
    assert (first.priority, second.priority) == (0, 3)
    console.kill()
    console.start()
    assert console.ok("GET", "/api/jobs/2")["priority"] == 3
    rows = [
        ({"command_type": "set_priority"}, "priority-missing"),
        ({"command_type": "pause", "priority": 1}, "priority-not-taken"),
        ({"command_type": "pause", "target_item_id": 1}, "item-not-taken"),
        ({"command_type": "resume", "error_code": "not-audio"}, "error-code-not-taken"),
        ({"command_type": "set_priority", "priority": 9}, "invalid-request"),
    ]
    for body, code in rows:
        refused = console.http.post("/api/jobs/1/commands", json=body)
        assert (refused.status_code, refused.json()["code"]) == (422, code)


async def test_a_source_is_not_asked_for_more_at_once_than_its_limit_over_all_workers(
    tmp_path: Path, nats_server: NatsServer, settings: Settings
) -> None:
    console = ConsoleProcess(tmp_path, nats_server, SOURCE_LIMITS="local=1, feed=7", SOURCE_MAX_IN_FLIGHT="5")
    console.start()
    bus = await Bus.connect(settings, service="test", instance="one")
    try:
        console.ok("POST", "/api/jobs", json={"job_type": "download_only"})
        limits = {}
        for lane in (await read_jobs(bus)).jobs[0].lanes:
            limits[lane.name] = (await bus.js.consumer_info(WORK, lane.consumer)).config.max_ack_pending
        assert limits == {"job": 5, "local": 1, "feed": 7}
        async with working(bus, settings, ["slow one", "slow two"]) as one, working(bus, settings, []) as two:
            await console.until("/api/jobs/1", lambda job: bool(job["totals"]["running"]))
            await asyncio.sleep(1.0)
            assert len(one.started + two.started) == 1, "four slots are free, but the source takes one at a time"
            one.gate.set()
            two.gate.set()
            await console.until_state(1, "completed")
    finally:
        await bus.close()
        console.close()


async def test_a_limit_holds_over_all_jobs_and_who_waits_for_a_turn_says_so(
    tmp_path: Path, nats_server: NatsServer, settings: Settings
) -> None:
    console = ConsoleProcess(tmp_path, nats_server, SOURCE_LIMITS="local=1", LEASE_SECONDS="60")
    console.start()
    bus = await Bus.connect(settings, service="test", instance="one")
    try:
        console.ok("POST", "/api/jobs", json={"job_type": "download_only"})
        async with working(bus, settings, ["slow one", "slow two"]) as workers:
            await console.until("/api/jobs/1", lambda job: bool(job["totals"]["running"]))
            console.ok("POST", "/api/jobs", json={"job_type": "download_only", "download_sources": ["local"]})
            waiting = await console.until(
                "/api/jobs/2", lambda job: bool(job["totals"]["queued"]) and job["waits_for"] is not None
            )
            assert waiting["waits_for"]["code"] == "source-limit"
            assert len(workers.started) == 1
            workers.gate.set()
            await console.until_state(1, "completed")
            await console.until_state(2, "completed")
            assert sorted(workers.done) == ["slow one", "slow one", "slow two", "slow two"]
    finally:
        await bus.close()
        console.close()


async def test_a_worker_that_said_goodbye_holds_up_no_pause(
    tmp_path: Path, nats_server: NatsServer, settings: Settings
) -> None:
    console = ConsoleProcess(tmp_path, nats_server, LEASE_SECONDS="60")
    console.start()
    bus = await Bus.connect(settings, service="test", instance="one")
    try:
        console.ok("POST", "/api/jobs", json={"job_type": "download_only"})
        async with working(bus, settings, ["slow one"]) as workers:
            await console.until("/api/jobs/1", lambda job: bool(job["totals"]["running"]))
            beat = Heartbeat(service="downloader", instance="other", started_at=now(), ready=True, concurrency=2)
            await bus.send(beat.subject, beat, id="hello")
            await console.until("/api/dashboard", lambda board: len(names(board)) == 2)
            await registered(console, "other", "idle")
            last = beat.model_copy(update={"leaving": True})
            await bus.send(last.subject, last, id="goodbye")
            await console.until("/api/dashboard", lambda board: names(board) == ["download-1"])
            console.command(1, "pause")
            workers.gate.set()
            await console.until_state(1, "paused", seconds=10)
        await registered(console, "other", "ended")
    finally:
        await bus.close()
        console.close()


def names(board: dict[str, Any]) -> list[str]:
    return [worker["worker_name"] for worker in board["workers"] if worker["service"] == "downloader"]


async def registered(console: ConsoleProcess, instance: str, status: str) -> None:
    async with asyncio.timeout(10):
        with sqlite3.connect(console.root / "state" / "ops.db") as ledger:
            while (instance, status) not in ledger.execute("SELECT instance, status FROM job_workers").fetchall():
                await asyncio.sleep(0.1)
