"""The work loop on a real server: every way in which an item can go, and that nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from common.bus import Bus, JobsFollower
from common.contracts.names import ItemState, JobState, JobType, Stage
from common.contracts.status import DeadLetter, ItemStatus
from common.contracts.streams import DEAD, STATUS, WORK
from common.contracts.work import SongDownload
from common.errors import DependencyDown, PermanentError, TransientError
from common.settings import Settings
from common.work import Handler, ItemContext, Outcome, Planner, WorkLoop, skipped, succeeded
from common.work.pull import Puller
from tests.support.jobs import make_job, read_jobs, set_state, write_jobs
from tests.support.nats import NatsServer

Start = Callable[[Handler], Awaitable[WorkLoop]]


def download(number: int, *, job_id: int = 1, source: str = "local") -> SongDownload:
    return SongDownload(job_id=job_id, source=source, song_id=number, remote_id=f"{number}.flac", name=f"song {number}")


async def status_of(bus: Bus, item: SongDownload) -> ItemStatus | None:
    envelope = await bus.last_message(STATUS, item.status_subject, ItemStatus)
    return envelope.data if envelope else None


async def until(condition: Callable[[], Awaitable[bool]], *, seconds: float = 20.0) -> None:
    """Poll until it holds, or fail."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.05)


async def until_state(bus: Bus, item: SongDownload, state: ItemState) -> ItemStatus:
    async def reached() -> bool:
        status = await status_of(bus, item)
        return status is not None and status.state is state

    await until(reached)
    status = await status_of(bus, item)
    assert status is not None
    return status


async def left_in_work(bus: Bus) -> int:
    return (await bus.js.stream_info(WORK)).state.messages


@pytest.fixture
async def start(bus: Bus, settings: Settings) -> AsyncIterator[Start]:
    """Start work loops that end with the test."""
    stop = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def begin(handler: Handler) -> WorkLoop:
        jobs = JobsFollower(bus)
        await jobs.start()
        loop = WorkLoop(bus=bus, jobs=jobs, handlers={Stage.DOWNLOAD: handler}, settings=settings, concurrency=4)
        tasks.append(asyncio.create_task(loop.run(stop)))
        return loop

    yield begin
    stop.set()
    await asyncio.gather(*tasks)


async def test_items_are_done_once_and_leave_the_queue(bus: Bus, start: Start) -> None:
    done: Counter[int] = Counter()

    async def handler(item: SongDownload, _: ItemContext) -> Outcome:
        done[item.song_id] += 1
        return succeeded(bytes=1) if item.song_id else skipped("already-stored", "It is stored.")

    await make_job(bus, job_type=JobType.DOWNLOAD_ONLY)
    items = [download(number) for number in range(50)]
    assert await Planner(bus).put(items, cause="test", job_id=1) == 50
    assert await Planner(bus).put(items, cause="test again", job_id=1) == 0
    await start(handler)

    async def empty() -> bool:
        return await left_in_work(bus) == 0

    await until(empty)
    assert done == Counter(range(50))
    last = await until_state(bus, items[1], ItemState.SUCCEEDED)
    assert (last.result, last.tries, last.worker) == ({"bytes": 1}, 0, "one")
    first = await until_state(bus, items[0], ItemState.SKIPPED)
    assert first.reason is not None
    assert first.reason.code == "already-stored"


async def test_an_item_that_ended_is_not_done_again_in_its_job(bus: Bus, start: Start) -> None:
    done: Counter[int] = Counter()

    async def handler(item: SongDownload, _: ItemContext) -> Outcome:
        done[item.song_id] += 1
        return succeeded()

    await make_job(bus, job_type=JobType.DOWNLOAD_ONLY)
    item = download(1)
    await Planner(bus).put([item], cause="one", job_id=1)
    await start(handler)
    await until_state(bus, item, ItemState.SUCCEEDED)
    # A second planner that did not know better, and a message that a server forgot to drop.
    await Planner(bus).put([item], cause="two", job_id=1)
    await bus.publish(item.subject, item, msg_id="three", job_id=1)

    async def empty() -> bool:
        return await left_in_work(bus) == 0

    await until(empty)
    assert done[1] == 1


async def test_a_transient_error_costs_a_try_and_is_tried_again(bus: Bus, start: Start) -> None:
    tries: list[int] = []

    async def handler(_: SongDownload, context: ItemContext) -> Outcome:
        tries.append(context.tries)
        if len(tries) < 3:
            raise TransientError("The server hung up.", code="hung-up")
        return succeeded()

    await make_job(bus, job_type=JobType.DOWNLOAD_ONLY)
    item = download(1)
    await Planner(bus).put([item], cause="test", job_id=1)
    await start(handler)

    status = await until_state(bus, item, ItemState.SUCCEEDED)
    assert tries == [0, 1, 2]
    assert status.reason is None


async def test_tries_that_are_used_up_park_the_item_with_its_reason_and_itself(bus: Bus, start: Start) -> None:
    async def handler(_: SongDownload, __: ItemContext) -> Outcome:
        raise TransientError("The server hung up.", code="hung-up")

    await make_job(bus, job_type=JobType.DOWNLOAD_ONLY)
    item = download(1)
    await Planner(bus).put([item], cause="test", job_id=1)
    await start(handler)

    status = await until_state(bus, item, ItemState.FAILED)
    assert status.tries == status.max_tries == 5
    assert status.reason is not None
    assert status.reason.code == "hung-up"
    letter = await bus.last_message(DEAD, f"dead.{item.subject}", DeadLetter)
    assert letter is not None
    assert letter.data.reason.code == "hung-up"


@pytest.mark.parametrize(
    ("error", "code"),
    [(PermanentError("This is not audio.", code="not-audio"), "not-audio"), (ZeroDivisionError(), "internal-error")],
)
async def test_what_cannot_work_is_parked_and_the_rest_goes_on(
    bus: Bus, start: Start, error: Exception, code: str
) -> None:
    async def handler(item: SongDownload, _: ItemContext) -> Outcome:
        if item.song_id == 1:
            raise error
        return succeeded()

    await make_job(bus, job_type=JobType.DOWNLOAD_ONLY)
    await Planner(bus).put([download(1), download(2)], cause="test", job_id=1)
    await start(handler)

    await until_state(bus, download(2), ItemState.SUCCEEDED)
    status = await until_state(bus, download(1), ItemState.FAILED)
    assert status.reason is not None
    assert status.reason.code == code


async def test_a_dependency_that_is_down_holds_its_lane_only_and_costs_no_try(bus: Bus, start: Start) -> None:
    down = True

    async def handler(item: SongDownload, _: ItemContext) -> Outcome:
        if item.source == "feed" and down:
            raise DependencyDown("The feed's server is away.", code="source-down", retry_after=0.3)
        return succeeded()

    await make_job(bus, job_type=JobType.DOWNLOAD_ONLY, sources=("local", "feed"))
    held = [download(number, source="feed") for number in range(100, 140)]
    await Planner(bus).put(held, cause="test", job_id=1)
    await Planner(bus).put([download(number) for number in range(40)], cause="test", job_id=1)
    loop = await start(handler)

    for number in range(40):
        await until_state(bus, download(number), ItemState.SUCCEEDED)

    async def shown() -> bool:
        return bool(loop.holds)

    await until(shown)
    assert {(hold.lane, hold.reason.code) for hold in loop.holds} == {("feed", "source-down")}
    down = False
    for item in held:
        status = await until_state(bus, item, ItemState.SUCCEEDED)
        assert status.tries == 0

    async def open_again() -> bool:
        return not loop.holds

    await until(open_again)


async def test_nothing_of_a_paused_job_starts_and_resume_goes_on(bus: Bus, start: Start) -> None:
    started: list[int] = []
    release = asyncio.Event()

    async def handler(item: SongDownload, _: ItemContext) -> Outcome:
        started.append(item.song_id)
        await release.wait()
        return succeeded()

    await make_job(bus, job_type=JobType.DOWNLOAD_ONLY)
    await Planner(bus).put([download(number) for number in range(20)], cause="test", job_id=1)
    loop = await start(handler)

    async def full() -> bool:
        return len(started) == 4

    await until(full)
    await set_state(bus, 1, JobState.PAUSE_REQUESTED)
    release.set()

    async def let_go() -> bool:
        return not loop.items

    await until(let_go)
    assert len(started) == 4
    await set_state(bus, 1, JobState.RUNNING)

    async def all_done() -> bool:
        return await left_in_work(bus) == 0

    await until(all_done)
    assert sorted(started) == list(range(20))


async def test_cancel_reaches_an_item_in_flight_at_once(bus: Bus, start: Start, settings: Settings) -> None:
    settings.lease_seconds = type(settings).model_fields["lease_seconds"].default
    told = asyncio.Event()
    running = asyncio.Event()

    async def handler(_: SongDownload, context: ItemContext) -> Outcome:
        running.set()
        number = 0
        while not context.canceled.is_set():
            number += 1
            context.progress(number)
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.02)
        told.set()
        return succeeded()

    job = await make_job(bus, job_type=JobType.DOWNLOAD_ONLY, ack_wait=settings.lease_seconds)
    await Planner(bus).put([download(1)], cause="test", job_id=1)
    await start(handler)
    await asyncio.wait_for(running.wait(), 10)
    await write_jobs(bus, [])
    for lane in job.lanes:
        await bus.js.purge_stream(WORK, subject=lane.filter)
        await bus.js.delete_consumer(WORK, lane.consumer)

    await asyncio.wait_for(told.wait(), 2)
    assert await left_in_work(bus) == 0


async def test_an_item_without_progress_is_interrupted_and_taken_again(
    bus: Bus, settings: Settings, start: Start
) -> None:
    settings.stall_seconds = 1.0
    calls = 0

    async def handler(_: SongDownload, __: ItemContext) -> Outcome:
        nonlocal calls
        calls += 1
        if calls == 1:
            await asyncio.Event().wait()
        return succeeded()

    await make_job(bus, job_type=JobType.DOWNLOAD_ONLY)
    await Planner(bus).put([download(1)], cause="test", job_id=1)
    await start(handler)

    status = await until_state(bus, download(1), ItemState.SUCCEEDED)
    assert calls == 2
    assert status.interruptions == 1


async def test_progress_keeps_an_item_longer_than_its_lease(bus: Bus, settings: Settings, start: Start) -> None:
    settings.stall_seconds = 1.5
    settings.lease_seconds = 1.5
    calls = 0

    async def handler(_: SongDownload, context: ItemContext) -> Outcome:
        nonlocal calls
        calls += 1
        for step in range(40):
            context.progress(step)
            await asyncio.sleep(0.1)
        return succeeded()

    await make_job(bus, job_type=JobType.DOWNLOAD_ONLY, ack_wait=1.5)
    await Planner(bus).put([download(1)], cause="test", job_id=1)
    await start(handler)

    await until_state(bus, download(1), ItemState.SUCCEEDED)
    assert calls == 1


async def test_a_worker_that_is_stopped_gives_its_items_back_at_once(bus: Bus, settings: Settings) -> None:
    job_running = asyncio.Event()

    async def endless(_: SongDownload, __: ItemContext) -> Outcome:
        job_running.set()
        await asyncio.Event().wait()
        return succeeded()

    async def quick(_: SongDownload, __: ItemContext) -> Outcome:
        return succeeded()

    await make_job(bus, job_type=JobType.DOWNLOAD_ONLY, ack_wait=60)
    await Planner(bus).put([download(1)], cause="test", job_id=1)
    jobs = JobsFollower(bus)
    await jobs.start()
    for handler in (endless, quick):
        stop = asyncio.Event()
        loop = WorkLoop(bus=bus, jobs=jobs, handlers={Stage.DOWNLOAD: handler}, settings=settings, concurrency=1)
        task = asyncio.create_task(loop.run(stop))
        if handler is endless:
            await asyncio.wait_for(job_running.wait(), 10)
        else:
            await until_state(bus, download(1), ItemState.SUCCEEDED)
        stop.set()
        await asyncio.wait_for(task, 5)
        if handler is endless:
            status = await until_state(bus, download(1), ItemState.INTERRUPTED)
            assert status.reason is not None
            assert status.reason.code == "worker-stopped"


async def test_a_payload_that_is_not_ours_goes_to_dead_and_the_rest_goes_on(bus: Bus, start: Start) -> None:
    async def handler(_: SongDownload, __: ItemContext) -> Outcome:
        return succeeded()

    await make_job(bus, job_type=JobType.DOWNLOAD_ONLY)
    for number, payload in enumerate([b"\xff\x00 not json", b"[1, 2]", b'{"type": "song.download.requested"}']):
        await bus.nc.request(f"song.download.requested.1.local.{900 + number}", payload, timeout=5)
    forged = download(5)
    await bus.publish("song.download.requested.1.local.6", forged, msg_id="forged")
    await Planner(bus).put([download(1)], cause="test", job_id=1)
    await start(handler)

    await until_state(bus, download(1), ItemState.SUCCEEDED)

    async def empty() -> bool:
        return await left_in_work(bus) == 0

    await until(empty)
    for number in (900, 901, 902, 6):
        letter = await bus.last_message(DEAD, f"dead.song.download.requested.1.local.{number}", DeadLetter)
        assert letter is not None
        assert letter.data.reason.code == "undecodable"
    assert await status_of(bus, forged) is None


async def test_a_killed_server_loses_no_item(bus: Bus, nats_server: NatsServer, start: Start) -> None:
    done: Counter[int] = Counter()

    async def handler(item: SongDownload, _: ItemContext) -> Outcome:
        await asyncio.sleep(0.01)
        done[item.song_id] += 1
        return succeeded()

    await make_job(bus, job_type=JobType.DOWNLOAD_ONLY)
    items = [download(number) for number in range(300)]
    await Planner(bus).put(items, cause="test", job_id=1)
    await start(handler)

    async def under_way() -> bool:
        return len(done) > 50

    await until(under_way)
    nats_server.kill()
    await asyncio.to_thread(nats_server.restart)

    async def all_done() -> bool:
        return len(done) == 300

    await until(all_done, seconds=60)
    for item in items:
        await until_state(bus, item, ItemState.SUCCEEDED)


async def test_jobs_share_a_worker_fairly(bus: Bus, start: Start) -> None:
    order: list[int] = []

    async def handler(item: SongDownload, _: ItemContext) -> Outcome:
        order.append(item.job_id)
        return succeeded()

    for job_id in (1, 2):
        await make_job(bus, job_id=job_id, job_type=JobType.DOWNLOAD_ONLY)
    await Planner(bus).put([download(n, job_id=1) for n in range(200)], cause="test", job_id=1)
    await Planner(bus).put([download(n, job_id=2) for n in range(20)], cause="test", job_id=2)
    await start(handler)

    async def second_done() -> bool:
        return order.count(2) == 20

    await until(second_done)
    last_of_second = max(at for at, job_id in enumerate(order) if job_id == 2)
    assert last_of_second < 80, "the short job had to wait for the long one"
    assert len((await read_jobs(bus)).jobs) == 2


async def test_a_lane_that_is_full_keeps_no_slot_from_the_others(bus: Bus, settings: Settings) -> None:
    started: list[int] = []

    async def handler(item: SongDownload, _: ItemContext) -> Outcome:
        started.append(item.song_id)
        return succeeded()

    job = await make_job(bus, job_type=JobType.DOWNLOAD_ONLY, sources=("feed", "local"), ack_wait=60, max_ack_pending=1)
    limited = tuple(lane.model_copy(update={"share": 1}) if lane.name == "feed" else lane for lane in job.lanes)
    await write_jobs(bus, [job.model_copy(update={"lanes": limited})])
    await Planner(bus).put([download(number, source="feed") for number in (101, 102)], cause="test", job_id=1)
    elsewhere = await Puller.open(bus, lease=60)
    (feed,) = [lane for lane in limited if lane.name == "feed" and lane.stage is Stage.DOWNLOAD]
    assert await elsewhere.take(feed.consumer, wait=2) is not None
    jobs, stop = JobsFollower(bus), asyncio.Event()
    await jobs.start()
    loop = WorkLoop(bus=bus, jobs=jobs, handlers={Stage.DOWNLOAD: handler}, settings=settings, concurrency=1)
    running = asyncio.create_task(loop.run(stop))
    try:
        for number in range(1, 6):
            await Planner(bus).put([download(number)], cause="test", job_id=1)

            async def begun(number: int = number) -> bool:
                return number in started

            await until(begun, seconds=1.5)
    finally:
        stop.set()
        await running
    assert started == [1, 2, 3, 4, 5]


async def test_nothing_starts_in_a_lane_that_is_closed(bus: Bus, start: Start) -> None:
    started: list[int] = []

    async def handler(item: SongDownload, _: ItemContext) -> Outcome:
        started.append(item.song_id)
        return succeeded()

    job = await make_job(bus, job_type=JobType.DOWNLOAD_ONLY, sources=("feed", "local"))

    async def share(count: int) -> None:
        lanes = tuple(lane.model_copy(update={"share": count}) if lane.name == "feed" else lane for lane in job.lanes)
        await write_jobs(bus, [job.model_copy(update={"lanes": lanes})])

    await share(0)
    await start(handler)
    await Planner(bus).put([download(1, source="feed")], cause="test", job_id=1)
    await Planner(bus).put([download(number) for number in range(2, 30)], cause="test", job_id=1)
    await until_state(bus, download(29), ItemState.SUCCEEDED)
    assert 1 not in started
    await share(3)
    await until_state(bus, download(1, source="feed"), ItemState.SUCCEEDED)


async def test_a_process_too_busy_to_keep_its_lease_does_not_disturb_itself(
    bus: Bus, settings: Settings, start: Start
) -> None:
    """The item is delivered again, to another slot of the same process: it is in hand, and stays there."""
    started: list[int] = []

    async def handler(item: SongDownload, context: ItemContext) -> Outcome:
        started.append(item.song_id)
        for step in range(3):
            time.sleep(2.0)  # nothing else of this process runs meanwhile
            context.progress(step + 1)
            await asyncio.sleep(0.7)
        return succeeded()

    await make_job(bus, job_type=JobType.DOWNLOAD_ONLY, ack_wait=1.0)
    item = download(1)
    await Planner(bus).put([item], cause="test", job_id=1)
    await start(handler)
    status = await until_state(bus, item, ItemState.SUCCEEDED)
    assert (started, status.interruptions, status.tries) == ([1], 0, 0)

    async def empty() -> bool:
        return await left_in_work(bus) == 0

    await until(empty)
