"""What goes wrong around the work loop: foreign payloads, lost leases, two workers, a stop in the middle."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from common.bus import Bus, JobsFollower
from common.contracts.names import ItemState, JobState, JobType, Stage
from common.contracts.status import DeadLetter, ItemStatus
from common.contracts.streams import DEAD, STATUS, WORK
from common.contracts.work import SongDownload, WorkItem
from common.errors import BusUnavailable
from common.settings import Settings
from common.work import Handler, ItemContext, Outcome, Planner, WorkLoop, gate, succeeded
from common.work.journal import Journal, Record
from common.work.pull import Puller
from tests.support.jobs import make_job, set_state
from tests.support.nats import NatsServer

Start = Callable[..., Awaitable[WorkLoop]]


def download(number: int) -> SongDownload:
    return SongDownload(job_id=1, source="local", song_id=number, remote_id=f"{number}.flac", name=f"song {number}")


async def until(condition: Callable[[], Awaitable[bool]], *, seconds: float = 20.0) -> None:
    """Poll until it holds, or fail."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.05)


async def until_state(bus: Bus, item: SongDownload, state: ItemState) -> ItemStatus:
    found: list[ItemStatus] = []

    async def reached() -> bool:
        envelope = await bus.last_message(STATUS, item.status_subject, ItemStatus)
        if envelope is not None and envelope.data.state is state:
            found.append(envelope.data)
        return bool(found)

    await until(reached)
    return found[0]


@pytest.fixture
async def start(bus: Bus, settings: Settings) -> AsyncIterator[Start]:
    """Start work loops that end with the test; one that fails, fails it."""
    stop = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def begin(handler: Handler, *, concurrency: int = 4) -> WorkLoop:
        jobs = JobsFollower(bus)
        await jobs.start()
        loop = WorkLoop(
            bus=bus, jobs=jobs, handlers={Stage.DOWNLOAD: handler}, settings=settings, concurrency=concurrency
        )
        tasks.append(asyncio.create_task(loop.run(stop)))
        return loop

    yield begin
    stop.set()
    await asyncio.gather(*tasks)


async def well(_: SongDownload, __: ItemContext) -> Outcome:
    return succeeded()


@pytest.mark.parametrize("payload", [b"\xff not ours", b"[" * 100_000, b'{"type": "item.status"}'])
async def test_a_status_that_is_not_ours_stops_neither_planning_nor_the_item(
    bus: Bus, start: Start, payload: bytes
) -> None:
    await make_job(bus, job_type=JobType.DOWNLOAD_ONLY)
    await bus.nc.request(download(1).status_subject, payload, timeout=5)
    await Planner(bus).put([download(1), download(2)], cause="test", job_id=1)
    await start(well)

    await until_state(bus, download(2), ItemState.SUCCEEDED)

    async def empty() -> bool:
        return (await bus.js.stream_info(WORK)).state.messages == 0

    await until(empty)
    stored = await bus.last(STATUS, download(1).status_subject)
    assert stored is not None
    assert stored.data != payload


@pytest.mark.parametrize("payload", [b"[" * 100_000, b"x" * 1_000_000])
async def test_a_huge_or_deep_payload_goes_to_dead_and_the_rest_goes_on(bus: Bus, start: Start, payload: bytes) -> None:
    await make_job(bus, job_type=JobType.DOWNLOAD_ONLY)
    await bus.nc.request("song.download.requested.1.local.900", payload, timeout=5)
    await Planner(bus).put([download(1)], cause="test", job_id=1)
    await start(well)

    await until_state(bus, download(1), ItemState.SUCCEEDED)
    found: list[DeadLetter] = []

    async def dead() -> bool:
        letter = await bus.last_message(DEAD, "dead.song.download.requested.1.local.900", DeadLetter)
        found.extend([letter.data] if letter else [])
        return bool(found)

    await until(dead)
    assert found[0].reason.code == "undecodable"


async def test_a_worker_does_not_overwrite_what_was_told_since(bus: Bus, start: Start) -> None:
    running, release = asyncio.Event(), asyncio.Event()

    async def handler(_: SongDownload, __: ItemContext) -> Outcome:
        running.set()
        await release.wait()
        return succeeded()

    await make_job(bus, job_type=JobType.DOWNLOAD_ONLY)
    await Planner(bus).put([download(1)], cause="test", job_id=1)
    await start(handler)
    await asyncio.wait_for(running.wait(), 10)
    status = await until_state(bus, download(1), ItemState.RUNNING)
    canceled = status.model_copy(update={"state": ItemState.CANCELED})
    await bus.publish(status.subject, canceled, msg_id="a person canceled it")
    release.set()

    async def gone() -> bool:  # redelivered, found ended, and acked
        return (await bus.js.stream_info(WORK)).state.messages == 0

    await until(gone)
    await until_state(bus, download(1), ItemState.CANCELED)


async def test_a_pause_seen_between_delivery_and_start_keeps_the_item(
    bus: Bus, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a heartbeat may have told that the pause was seen, nothing starts: the state is asked last."""
    loops: list[WorkLoop] = []
    started: list[int] = []
    read = Journal.read

    async def slow_read(self: Journal, item: WorkItem) -> Record:
        record = await read(self, item)
        await set_state(bus, 1, JobState.PAUSE_REQUESTED)
        jobs = loops[0]._jobs

        async def seen() -> bool:
            job = jobs.state.job(1)
            return job is not None and job.state is JobState.PAUSE_REQUESTED

        await until(seen)
        return record

    async def handler(item: SongDownload, _: ItemContext) -> Outcome:
        started.append(item.song_id)
        return succeeded()

    monkeypatch.setattr(Journal, "read", slow_read)
    await make_job(bus, job_type=JobType.DOWNLOAD_ONLY)
    loops.append(await start(handler, concurrency=1))
    await Planner(bus).put([download(1)], cause="test", job_id=1)

    async def given_back() -> bool:
        return loops[0].items_total == 1

    await until(given_back)
    assert started == []
    assert (await bus.js.stream_info(WORK)).state.messages == 1


async def test_nothing_starts_by_an_answer_that_has_grown_old(
    bus: Bus, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that stood still between its look at the job state and the start looks again."""
    monkeypatch.setattr(gate, "GATE_SECONDS", 0.3)
    started: list[int] = []
    write = Journal.write

    async def slow_write(self: Journal, record: Record, **changes: Any) -> Record:
        written = await write(self, record, **changes)
        if changes["state"] is ItemState.RUNNING and not written.status.interruptions:
            await set_state(bus, 1, JobState.PAUSE_REQUESTED)
            await asyncio.sleep(0.5)
        return written

    async def handler(item: SongDownload, _: ItemContext) -> Outcome:
        started.append(item.song_id)
        return succeeded()

    monkeypatch.setattr(Journal, "write", slow_write)
    await make_job(bus, job_type=JobType.DOWNLOAD_ONLY)
    await Planner(bus).put([download(1)], cause="test", job_id=1)
    await start(handler)
    status = await until_state(bus, download(1), ItemState.INTERRUPTED)
    assert (started, status.reason and status.reason.code) == ([], "worker-silent")
    await set_state(bus, 1, JobState.RUNNING)
    await until_state(bus, download(1), ItemState.SUCCEEDED)
    assert started == [1]


async def test_a_worker_that_comes_back_to_a_paused_job_gives_back_what_it_holds(bus: Bus, start: Start) -> None:
    """``paused`` is said while an item is out only when its worker was lost."""
    starts, stopped = 0, asyncio.Event()

    async def handler(_: SongDownload, context: ItemContext) -> Outcome:
        nonlocal starts
        starts += 1
        if starts == 1:
            try:
                await asyncio.Event().wait()
            finally:
                assert context.canceled.is_set()
                stopped.set()
        return succeeded()

    await make_job(bus, job_type=JobType.DOWNLOAD_ONLY, ack_wait=60)
    await Planner(bus).put([download(1)], cause="test", job_id=1)
    await start(handler)
    await until_state(bus, download(1), ItemState.RUNNING)
    await set_state(bus, 1, JobState.PAUSE_REQUESTED)
    await asyncio.sleep(0.3)
    assert not stopped.is_set(), "what runs is finished while the pause is only asked for"
    await set_state(bus, 1, JobState.PAUSED)
    await asyncio.wait_for(stopped.wait(), 2)
    status = await until_state(bus, download(1), ItemState.INTERRUPTED)
    assert status.reason is not None
    assert status.reason.code == "worker-silent"
    await set_state(bus, 1, JobState.RUNNING)
    await until_state(bus, download(1), ItemState.SUCCEEDED)
    assert starts == 2


async def test_a_handler_that_is_cancelled_from_inside_ends_its_try_and_not_the_worker(bus: Bus, start: Start) -> None:
    calls = 0

    async def handler(_: SongDownload, __: ItemContext) -> Outcome:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise asyncio.CancelledError
        return succeeded()

    await make_job(bus, job_type=JobType.DOWNLOAD_ONLY)
    await Planner(bus).put([download(1)], cause="test", job_id=1)
    await start(handler, concurrency=1)

    status = await until_state(bus, download(1), ItemState.SUCCEEDED)
    assert status.tries == 1


async def test_a_handler_that_misses_the_bus_gives_its_item_back_at_once(bus: Bus, start: Start) -> None:
    calls = 0

    async def handler(_: SongDownload, __: ItemContext) -> Outcome:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise BusUnavailable("no answer in time")
        return succeeded()

    await make_job(bus, job_type=JobType.DOWNLOAD_ONLY, ack_wait=60)
    await Planner(bus).put([download(1)], cause="test", job_id=1)
    await start(handler)

    status = await until_state(bus, download(1), ItemState.SUCCEEDED)
    assert (status.tries, status.interruptions) == (0, 0)


async def test_a_lane_that_does_not_answer_while_its_job_runs_interrupts_nothing(
    bus: Bus, start: Start, settings: Settings
) -> None:
    """So it looks while a cluster elects a leader; a canceled job is known from the job state."""
    running = asyncio.Event()
    told: list[bool] = []

    async def handler(_: SongDownload, context: ItemContext) -> Outcome:
        running.set()
        await asyncio.sleep(settings.lease_seconds * 0.8)
        told.append(context.canceled.is_set())
        return succeeded()

    job = await make_job(bus, job_type=JobType.DOWNLOAD_ONLY)
    await Planner(bus).put([download(1)], cause="test", job_id=1)
    await start(handler)
    await asyncio.wait_for(running.wait(), 10)
    for lane in job.lanes:
        await bus.js.delete_consumer(WORK, lane.consumer)

    await until_state(bus, download(1), ItemState.SUCCEEDED)
    assert told == [False]


async def test_a_stop_leaves_no_short_item_to_its_lease(bus: Bus, settings: Settings) -> None:
    done: Counter[int] = Counter()

    async def handler(item: SongDownload, _: ItemContext) -> Outcome:
        done[item.song_id] += 1
        return succeeded()

    job = await make_job(bus, job_type=JobType.DOWNLOAD_ONLY, ack_wait=60)
    await Planner(bus).put([download(number) for number in range(400)], cause="test", job_id=1)
    jobs = JobsFollower(bus)
    await jobs.start()
    stop = asyncio.Event()
    loop = WorkLoop(bus=bus, jobs=jobs, handlers={Stage.DOWNLOAD: handler}, settings=settings, concurrency=8)
    task = asyncio.create_task(loop.run(stop))

    async def under_way() -> bool:
        return len(done) > 50

    await until(under_way)
    began = time.monotonic()
    stop.set()
    await task
    assert time.monotonic() - began < 2
    consumer = next(lane.consumer for lane in job.lanes if lane.stage is Stage.DOWNLOAD)
    info = await bus.js.consumer_info(WORK, consumer)
    assert info.num_ack_pending == 0
    assert info.num_pending == 400 - len(done)


async def test_a_message_that_lay_too_long_in_a_slot_is_not_taken(bus: Bus) -> None:
    job = await make_job(bus, job_type=JobType.DOWNLOAD_ONLY, ack_wait=60)
    await Planner(bus).put([download(1), download(2)], cause="test", job_id=1)
    lane = next(lane for lane in job.lanes if lane.stage is Stage.DOWNLOAD)
    puller = await Puller.open(bus, lease=0.4)
    subject = f"$JS.API.CONSUMER.MSG.NEXT.WORK.{lane.consumer}"
    await bus.nc.publish(subject, b"1", reply=f"{puller._inbox}.late")

    async def arrived() -> bool:
        return puller._subscription.pending_msgs == 1

    await until(arrived)
    await asyncio.sleep(0.3)
    message = await puller.take(lane.consumer)
    assert message is not None
    assert message.subject == download(2).subject
    assert await puller.close() == []


WORKER = """
import asyncio, os, sys
from common.bus import Bus, JobsFollower
from common.contracts.names import Stage
from common.settings import Settings
from common.work import WorkLoop, succeeded

async def main():
    settings = Settings(lease_seconds=3)
    bus = await Bus.connect(settings, service="test", instance="stopped")
    jobs = JobsFollower(bus)
    await jobs.start()

    async def handler(item, context):
        print("started", flush=True)
        for step in range(600):
            context.progress(step)
            try:
                await asyncio.sleep(0.1)
            except asyncio.CancelledError:
                print("told to stop", flush=True)
                raise
        return succeeded()

    loop = WorkLoop(bus=bus, jobs=jobs, handlers={Stage.DOWNLOAD: handler}, settings=settings, concurrency=1)
    await loop.run(asyncio.Event())

asyncio.run(main())
"""


async def test_a_worker_that_stood_still_past_its_lease_stops_and_disturbs_nobody(
    bus: Bus, nats_server: NatsServer, tmp_path: Path, start: Start
) -> None:
    await make_job(bus, job_type=JobType.DOWNLOAD_ONLY)
    await Planner(bus).put([download(1)], cause="test", job_id=1)
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER],
        env={**os.environ, **nats_server.settings, "ROOT_DIR": str(tmp_path / "data")},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    starts, release = 0, asyncio.Event()

    async def handler(_: SongDownload, context: ItemContext) -> Outcome:
        nonlocal starts
        starts += 1
        step = 0
        while not release.is_set():
            step += 1
            context.progress(step)
            await asyncio.sleep(0.1)
        return succeeded()

    try:
        assert await asyncio.to_thread(process.stdout.readline) == "started\n"
        process.send_signal(signal.SIGSTOP)
        await start(handler)

        async def taken_over() -> bool:
            return starts == 1

        await until(taken_over)
        process.send_signal(signal.SIGCONT)
        async with asyncio.timeout(10):
            assert await asyncio.to_thread(process.stdout.readline) == "told to stop\n"
    finally:
        process.kill()
        process.communicate()
    status = await until_state(bus, download(1), ItemState.RUNNING)
    assert (status.worker, status.interruptions) == ("one", 1)
    release.set()
    await until_state(bus, download(1), ItemState.SUCCEEDED)
    assert starts == 1


async def test_a_lane_without_its_consumer_does_not_starve_the_others(bus: Bus, start: Start) -> None:
    """The server answers nothing at all for a consumer that does not exist."""
    jobs = [await make_job(bus, job_id=number, job_type=JobType.DOWNLOAD_ONLY) for number in (1, 2)]
    for lane in jobs[1].lanes:
        await bus.js.delete_consumer(WORK, lane.consumer)
    await Planner(bus).put([download(number) for number in range(200)], cause="test", job_id=1)
    loop = await start(well, concurrency=2)

    async def all_done() -> bool:
        return loop.items_total == 200

    await until(all_done, seconds=10)
