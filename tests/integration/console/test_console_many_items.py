"""Jobs of thousands of items: what is long is done a little at a time, and survives a kill."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from common.bus import Bus
from common.contracts.names import ItemState, Stage
from common.contracts.status import ItemStatus
from common.contracts.streams import WORK
from common.contracts.work import SongDownload
from common.settings import Settings
from common.work.planner import Planner
from tests.support.console import ConsoleProcess, working
from tests.support.ledger import lose_ledger

MANY = 2300


@pytest.fixture
async def wire(settings: Settings, console: ConsoleProcess) -> AsyncIterator[Bus]:
    """The bus as a worker sees it: the console has made its streams."""
    bus = await Bus.connect(settings, service="test", instance="one")
    yield bus
    await bus.close()


async def test_a_console_killed_while_it_cancels_a_large_job_cancels_all_of_it(
    console: ConsoleProcess, wire: Bus
) -> None:
    console.ok("POST", "/api/jobs", json={"job_type": "download_only", "sources": ["local"]})
    songs = (
        SongDownload(job_id=1, source="local", song_id=number, remote_id=f"{number}", name=f"song {number}")
        for number in range(1, MANY + 1)
    )
    await Planner(wire).put(songs, cause="test", job_id=1, trace="t")
    await console.until("/api/jobs/1", lambda job: bool(job["totals"]["queued"] == MANY))
    answer = console.command(1, "cancel")
    assert answer["state"] == "canceled"
    console.kill()
    assert answer["totals"]["canceled"] < MANY, "it answers before all are told"
    assert (await wire.js.stream_info(WORK)).state.messages == 0, "but nothing of it can start"
    console.start()
    job = await console.until("/api/jobs/1", lambda job: bool(job["totals"]["canceled"] == MANY))
    assert job["totals"]["queued"] == 0


async def test_items_of_a_worker_that_died_are_counted_found_and_told_as_interrupted(
    console: ConsoleProcess, wire: Bus
) -> None:
    console.ok("POST", "/api/jobs", json={"job_type": "download_only", "sources": ["local"]})
    for number, state in enumerate((ItemState.RUNNING, ItemState.SUCCEEDED), start=1):
        status = ItemStatus(
            job_id=1,
            stage=Stage.DOWNLOAD,
            lane="local",
            key=str(number),
            title="song",
            state=state,
            worker="ghost",
        )
        await wire.publish(status.subject, status, msg_id=f"ghost-{number}")
    # Nothing is heard of it for so long that it counts as lost.
    job = await console.until("/api/jobs/1", lambda job: bool(job["totals"]["interrupted"] == 1))
    assert (job["totals"]["running"], job["total"] - job["totals"]["queued"]) == (0, 2)
    download = next(stage for stage in job["stages"] if stage["stage"] == "download")
    assert download["waits_for"]["code"] == "no-worker"
    (found,) = console.ok("GET", "/api/jobs/1/items", params={"state": "interrupted"})["items"]
    assert (found["key"], found["state"], found["waits_for"]["code"]) == ("1", "interrupted", "worker-lost")
    assert console.ok("GET", "/api/jobs/1/items", params={"state": "running"})["items"] == []


async def test_what_failed_can_be_tried_again_after_the_ledger_was_lost(
    console: ConsoleProcess, wire: Bus, settings: Settings
) -> None:
    console.ok("POST", "/api/jobs", json={"job_type": "download_only", "sources": ["local"]})
    async with working(wire, settings, ["good", "bad one", "bad two"]) as workers:
        await console.until_state(1, "completed_with_errors")
        console.kill()
        lose_ledger(console)
        console.start()
        job = await console.until("/api/jobs", lambda page: page["items"] != [] and page["items"][0]["total"] == 3)
        assert job["items"][0]["sources"] == ["local"]
        workers.mended = True
        answer = console.ok("POST", "/api/jobs/1/commands", json={"command_type": "retry_failed"})
        assert answer["state"] == "running"
        await console.until_state(1, "completed")
    assert sorted(workers.done) == ["bad one", "bad two", "good"]
