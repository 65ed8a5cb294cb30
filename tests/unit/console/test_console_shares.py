"""A source's limit over all jobs: how it is divided, whose turn it is, and that it holds at each moment."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from common.contracts.jobs import ActiveJob, JobsState, Lane
from common.contracts.names import JobState, JobType, Stage
from common.contracts.status import CurrentItem, Heartbeat
from console.ports import JobDraft, Reading
from console.service import shares
from console.service.drafts import active_job
from console.service.fleet import Fleet
from console.service.shares import Shares, targets

START = datetime(2026, 1, 1, tzinfo=UTC)


class Queue:
    """Lanes as the bus would tell of them; only feed has a limit of its own."""

    def __init__(self, limit: int) -> None:
        self.limit: int | None = limit
        self.waiting: Counter[str] = Counter()
        self.out: Counter[str] = Counter()
        self.shares: dict[str, int] = {}

    def limit_of(self, name: str) -> int | None:
        return self.limit if name == "feed" else None

    def share(self, lane: Lane, count: int) -> None:
        self.shares[lane.consumer] = count

    async def ensure_lane(self, lane: Lane) -> None:
        assert lane.consumer in self.shares

    async def read_lane(self, lane: Lane) -> Reading:
        return Reading(pending=self.waiting[lane.consumer], unacked=self.out[lane.consumer])


class World:
    """The jobs, one worker that does as the job state says, and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, limit: int) -> None:
        self.at = 1000.0
        monkeypatch.setattr(shares, "time", SimpleNamespace(monotonic=lambda: self.at))
        self.queue, self.fleet = Queue(limit), Fleet(started=0)
        self.shares = Shares(queue=self.queue, fleet=self.fleet)  # type: ignore[arg-type]
        self.jobs: dict[int, tuple[JobState, int]] = {}
        self.state: list[ActiveJob] = []
        self.revision = 0

    def add(self, job_id: int, *, items: int = 100, priority: int = 0, state: JobState = JobState.RUNNING) -> None:
        self.jobs[job_id] = (state, priority)
        self.queue.waiting[consumer(job_id)] = items
        self.sync()

    def sync(self) -> None:
        self.revision += 1
        self.state = self.shares.admit([job(*one) for one in self.jobs.items()])
        self.shares.told(self.revision, self.at)
        for one in self.state:
            assert "download-local" not in {lane.consumer for lane in one.lanes if lane.share is not None}

    async def tick(self, seconds: float = 1.0) -> None:
        self.at += seconds
        if await self.shares.divide():
            self.sync()

    def beat(self, *in_hand: int) -> None:
        """The worker has seen the newest state, and holds one item of each of these jobs."""
        items = [
            CurrentItem(job_id=job_id, stage=Stage.DOWNLOAD, lane="feed", key="1", title="a song", started_at=START)
            for job_id in in_hand
        ]
        for job_id in self.jobs:
            self.queue.out[consumer(job_id)] = in_hand.count(job_id)
        self.fleet.observe(
            Heartbeat(
                service="downloader",
                instance="a",
                started_at=START,
                ready=True,
                concurrency=9,
                jobs_revision=self.revision,
                items=tuple(items),
            ),
            self.at,
        )

    @property
    def granted(self) -> dict[int, Any]:
        return {one.job_id: lane.share for one in self.state for lane in one.lanes if lane.name == "feed"}


def consumer(job_id: int) -> str:
    return f"j{job_id}-download-feed"


def job(job_id: int, how: tuple[JobState, int]) -> ActiveJob:
    draft = JobDraft(
        job_type=JobType.DOWNLOAD_ONLY, stages=(Stage.DOWNLOAD,), sources=("feed", "local"), priority=how[1]
    )
    return active_job(job_id, how[0], draft)


@pytest.mark.parametrize(
    ("limit", "wants", "aim"),
    [
        (8, {"a": 100}, {"a": 8}),
        (8, {"a": 100, "b": 100}, {"a": 4, "b": 4}),
        (8, {"a": 100, "b": 100, "c": 100}, {"a": 3, "b": 3, "c": 2}),
        (8, {"a": 100, "b": 1, "c": 0}, {"a": 7, "b": 1, "c": 0}),
        (8, {"a": 2, "b": 3}, {"a": 2, "b": 3}),
        (2, {"a": 100, "b": 100, "c": 100}, {"a": 1, "b": 1, "c": 0}),
        (1, {"a": 0, "b": 0}, {"a": 0, "b": 0}),
    ],
)
def test_a_limit_is_divided_as_equally_as_needed(limit: int, wants: dict[str, int], aim: dict[str, int]) -> None:
    assert targets(limit, list(wants), wants) == aim


async def test_a_job_alone_has_all_of_it_and_another_gets_half_when_that_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, limit=4)
    world.add(1)
    assert world.granted == {1: 4}
    world.beat(1, 1, 1, 1)
    world.add(2)
    assert world.granted == {1: 4, 2: 0}, "nothing before the first has let go of it"
    await world.tick()
    world.beat(1, 1, 1)
    await world.tick()
    assert world.granted == {1: 2, 2: 1}
    world.beat(1, 1, 2)
    await world.tick()
    assert (world.granted, world.queue.shares[consumer(1)]) == ({1: 2, 2: 2}, 2)
    world.queue.waiting[consumer(1)] = 0
    world.beat(2, 2)
    await world.tick()
    world.beat(2, 2)
    await world.tick()
    assert world.granted == {1: 0, 2: 4}, "what one does not need the other has"


async def test_where_it_is_too_small_for_all_they_take_turns_and_the_others_say_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, limit=1)
    for job_id in (1, 2, 3):
        world.add(job_id, items=1000 if job_id == 1 else 3)
    turns: list[int] = []
    for _ in range(60):
        holder = [job_id for job_id, share in world.granted.items() if share]
        assert len(holder) <= 1
        world.beat(*holder)
        if holder and turns[-1:] != holder:
            turns += holder
        if holder:
            held = {(hold.job_id, hold.reason.code) for hold in world.fleet.turns}
            assert held <= {(other, "source-limit") for other in world.jobs if other not in holder}
        await world.tick()
    assert turns[:6] == [1, 2, 3, 1, 2, 3]
    assert {hold.job_id for hold in world.fleet.turns} == set(world.jobs) - set(turns[-1:])


async def test_a_turn_passes_only_when_the_last_item_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, limit=1)
    world.add(1)
    world.add(2)
    world.beat(1)
    await world.tick(shares.TURN_SECONDS)
    assert world.granted == {1: 0, 2: 0}
    for _ in range(20):
        world.beat(1)
        await world.tick()
        assert world.granted == {1: 0, 2: 0}
    world.beat()
    await world.tick()
    assert world.granted == {1: 0, 2: 1}


async def test_what_a_job_that_pauses_or_is_gone_still_has_in_hand_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, limit=1)
    world.add(1)
    world.beat(1)
    world.add(2)
    world.jobs[1] = (JobState.PAUSE_REQUESTED, 0)
    world.sync()
    await world.tick()
    assert world.granted[2] == 0
    world.jobs[1] = (JobState.PAUSED, 0)
    world.sync()
    world.beat()
    await world.tick()
    assert world.granted == {1: None, 2: 1}
    world.jobs[1] = (JobState.RUNNING, 0)
    world.sync()
    assert world.granted == {1: 0, 2: 1}, "it comes back to a source in use"
    del world.jobs[2]
    world.sync()
    world.fleet.observe(Heartbeat(service="uploader", instance="b", started_at=START, ready=True), world.at)
    held = CurrentItem(job_id=2, stage=Stage.DOWNLOAD, lane="feed", key="1", title="a song", started_at=START)
    world.fleet.observe(
        Heartbeat(service="downloader", instance="a", started_at=START, ready=True, concurrency=9, items=(held,)),
        world.at,
    )
    await world.tick()
    assert world.granted == {1: 0}, "an item of the job that was canceled is still in hand"
    world.beat()
    await world.tick()
    assert world.granted == {1: 1}


async def test_a_console_that_starts_goes_on_with_what_was_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    before = World(monkeypatch, limit=1)
    before.add(1)
    before.add(2)
    after = World(monkeypatch, limit=1)
    after.jobs, after.revision = before.jobs, before.revision
    after.queue.waiting.update({consumer(1): 5, consumer(2): 5})
    after.shares.take_over(JobsState(revision=before.revision, jobs=tuple(before.state)))
    after.sync()
    assert after.granted == {1: 1, 2: 0}


async def test_without_a_limit_nothing_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, limit=1)
    world.queue.limit = None
    world.add(1)
    world.add(2)
    await world.tick()
    assert (world.granted, world.queue.shares) == ({1: None, 2: None}, {})
    world.queue.limit = 1  # set while both run: what is out now is waited for
    world.beat(1, 2)
    world.sync()
    assert world.granted == {1: 1, 2: 1}
    await world.tick()
    world.beat(1, 2)
    await world.tick()
    assert sum(world.granted.values()) <= 1
