"""What goes wrong around the bus: servers killed, consumers and streams removed, pushes lost, foreign payloads."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from common.bus import Bus, FactWriter, JobsFollower, Replay, Stored, StreamReplaced
from common.bus.consume import consume
from common.bus.jobs import JOBS_SUBJECT
from common.bus.readers import OwnConsumer
from common.bus.streams import ensure_streams
from common.contracts.facts import SongListed
from common.contracts.names import JobState
from common.contracts.readers import Reader
from common.contracts.streams import CATALOG
from common.errors import BusUnavailable, PermanentError
from common.settings import Settings
from tests.support.jobs import make_job, set_state, write_jobs
from tests.support.nats import NatsServer


def song(number: int, name: str = "a song") -> SongListed:
    return SongListed(song_id=number, platform="local", remote_id=f"{number}.flac", name=name)


async def until(condition: Callable[[], bool], *, seconds: float = 20.0) -> None:
    """Poll until it holds, or fail."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.fixture
async def follower(bus: Bus) -> JobsFollower:
    jobs = JobsFollower(bus)
    await jobs.start()
    return jobs


async def test_a_push_that_is_lost_is_made_up_for(bus: Bus, follower: JobsFollower) -> None:
    assert follower._subscription is not None
    await follower._subscription.unsubscribe()
    await make_job(bus, job_id=3)

    await until(lambda: follower.state.revision == 1)


async def test_a_job_state_that_is_not_ours_lets_nothing_start_and_is_got_over(
    bus: Bus, follower: JobsFollower
) -> None:
    await make_job(bus, job_id=3)
    await bus.nc.request(JOBS_SUBJECT, b"\xff", timeout=5)
    with pytest.raises(BusUnavailable):
        await follower.refresh()

    await bus.js.purge_stream("KV_JOBS")
    await make_job(bus, job_id=4)
    await set_state(bus, 4, JobState.PAUSED)
    await until(lambda: follower.state.job(4) is not None)


async def test_the_job_state_is_followed_over_a_killed_server(
    bus: Bus, nats_server: NatsServer, follower: JobsFollower
) -> None:
    await make_job(bus, job_id=3)
    nats_server.kill()
    await until(lambda: bus.nc.is_reconnecting)
    nats_server.restart()
    await set_state(bus, 3, JobState.PAUSED)

    async with asyncio.timeout(10):
        while follower.state.revision != 2:
            await follower.wait_change(0.5)


async def test_a_hook_that_fails_keeps_no_other_from_its_turn(bus: Bus, nats_server: NatsServer) -> None:
    called = asyncio.Event()

    async def failing() -> None:
        raise BusUnavailable("away")

    async def second() -> None:
        called.set()

    bus.on_reconnect(failing)
    bus.on_reconnect(second)
    nats_server.kill()
    nats_server.restart()
    await asyncio.wait_for(called.wait(), 10)
    await FactWriter(bus).publish(song(1), cause="x")


async def test_a_message_larger_than_the_bus_takes_is_parked_with_that_reason(bus: Bus) -> None:
    with pytest.raises(PermanentError) as caught:
        await FactWriter(bus).publish(song(1, "x" * 1_100_000), cause="x")
    assert caught.value.code == "message-too-large"


async def test_replay_that_ends_leaves_nothing_behind(bus: Bus) -> None:
    await FactWriter(bus).publish(song(1), cause="x")
    before = len(bus._reconnected), len(bus.nc._subs)
    for _ in range(3):
        batches: AsyncIterator[list[Stored]] = Replay(bus, consumer="reader").batches(after=0)
        assert await anext(batches)
        await batches.aclose()  # type: ignore[attr-defined]
    assert (len(bus._reconnected), len(bus.nc._subs)) == before


async def test_replay_goes_on_without_gap_or_repeat_when_its_consumer_is_removed(bus: Bus) -> None:
    facts, replay = FactWriter(bus), Replay(bus, consumer="reader")
    await facts.publish_many([song(number) for number in range(500)], cause="all")
    sequences: list[int] = []
    async with asyncio.timeout(60):
        async for batch in replay.batches(after=0, max_messages=100, max_wait=0.2):
            if len(sequences) < 300 <= len(sequences) + len(batch):
                await bus.js.delete_consumer(CATALOG, "reader")
            if len(sequences) < 500 <= len(sequences) + len(batch):  # idle next, with a waiting pull
                await bus.js.delete_consumer(CATALOG, "reader")
                await facts.publish_many([song(number) for number in range(500, 600)], cause="more")
            sequences += [stored.sequence for stored in batch]
            if len(sequences) >= 600:
                break
    assert sequences == list(range(1, 601))


@pytest.mark.parametrize("fill", [1, 20])
async def test_replay_says_that_its_stream_was_made_anew(bus: Bus, fill: int) -> None:
    """Whether the new one is shorter or already longer: reading on would pass facts over."""
    facts, replay = FactWriter(bus), Replay(bus, consumer="reader")
    await facts.publish_many([song(number) for number in range(10)], cause="all")

    async def read() -> None:
        async for batch in replay.batches(after=0, max_wait=0.2):
            if batch and batch[-1].sequence == 10:
                await bus.js.delete_stream(CATALOG)
                await ensure_streams(bus)
                await facts.publish_many([song(number) for number in range(fill)], cause="anew")

    async with asyncio.timeout(20):
        with pytest.raises(StreamReplaced):
            await read()


@pytest.fixture
async def early(settings: Settings) -> AsyncIterator[Bus]:
    """A bus on which no stream has been made yet."""
    connected = await Bus.connect(settings, service="test", instance="early")
    yield connected
    await connected.close()


async def test_replay_waits_for_a_stream_that_is_not_there_yet(early: Bus) -> None:
    seen: list[int] = []

    async def read() -> None:
        async for batch in Replay(early, consumer="reader").batches(after=0, max_wait=0.2):
            seen.extend(stored.sequence for stored in batch)
            if seen:
                return

    reading = asyncio.create_task(read())
    # It has asked for its stream, and was told that there is none.
    await until(lambda: early.nc.stats["in_msgs"] > 0)
    await ensure_streams(early)
    await FactWriter(early).publish(song(1), cause="x")
    await asyncio.wait_for(reading, 20)
    assert seen == [1]


ACTING = Reader(service="test", name="acting", stream=CATALOG, filter="song.listed.*", acks=True)
Consume = Callable[..., Awaitable[None]]


@pytest.fixture
async def consuming() -> AsyncIterator[Consume]:
    """Start a consumer that ends with the test; one that fails, fails it."""
    stop = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def begin(bus: Bus, handle: Callable[[Stored], Awaitable[None]]) -> None:
        running = consume(bus, reader=ACTING, handle=handle, stop=stop, made_by=OwnConsumer(bus, ACTING, ack_wait=2))
        tasks.append(asyncio.create_task(running))

    yield begin
    stop.set()
    await asyncio.wait_for(asyncio.gather(*tasks), 5)


async def test_a_consumer_outlives_failures_a_killed_server_and_its_own_removal(
    bus: Bus, nats_server: NatsServer, consuming: Consume
) -> None:
    handled: Counter[str] = Counter()

    async def handle(stored: Stored) -> None:
        handled[stored.subject] += 1
        if handled[stored.subject] == 1 and stored.subject.endswith("7"):
            raise RuntimeError("not yet")

    facts = FactWriter(bus)
    await consuming(bus, handle)
    await facts.publish_many([song(number) for number in range(300)], cause="all")
    await until(lambda: len(handled) > 100)
    nats_server.kill()
    await until(lambda: bus.nc.is_reconnecting)
    nats_server.restart()
    await facts.publish_many([song(number) for number in range(300, 400)], cause="more")
    await until(lambda: len(handled) == 400, seconds=40)
    await until(lambda: all(handled[f"song.listed.{number}"] >= 2 for number in range(7, 300, 10)))

    await bus.js.delete_consumer(CATALOG, "acting")
    await facts.publish(song(400), cause="last")
    await until(lambda: len(handled) == 401)


async def test_a_consumer_waits_for_a_stream_that_is_not_there_yet(early: Bus, consuming: Consume) -> None:
    handled: list[str] = []

    async def handle(stored: Stored) -> None:
        handled.append(stored.subject)

    await consuming(early, handle)
    await until(lambda: early.nc.stats["in_msgs"] > 0)
    await ensure_streams(early)
    await FactWriter(early).publish(song(1), cause="x")
    await until(lambda: handled == ["song.listed.1"])


async def test_writing_the_job_state_wakes_who_waits(bus: Bus, follower: JobsFollower) -> None:
    told = asyncio.Event()
    follower.on_change = told.set
    waiting = asyncio.create_task(follower.wait_change(10))
    await asyncio.sleep(0)
    await write_jobs(bus, [])

    assert await waiting
    assert told.is_set()
