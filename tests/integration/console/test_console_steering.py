"""Steering jobs: what failed is tried again as a whole, and one job is served before another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.bus import Bus
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
