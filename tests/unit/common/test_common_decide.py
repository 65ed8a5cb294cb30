"""What follows from an error, and whose turn it is: decisions without a server."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.contracts.jobs import ActiveJob, JobsState, lane
from common.contracts.names import ItemState, JobState, JobType, Stage
from common.contracts.status import ItemStatus
from common.errors import BusUnavailable, DependencyDown, PermanentError, TransientError
from common.work.decide import (
    MAX_DELAY,
    MAX_HOLD,
    MAX_INTERRUPTIONS,
    HoldLane,
    Park,
    Retry,
    after_error,
    after_interruption,
    hold_delay,
    retry_delay,
)
from common.work.turns import Turns


def decide(error: Exception, tries: int = 0) -> Retry | Park | HoldLane:
    return after_error(error, tries=tries, max_tries=3, base_delay=5)


def test_the_type_of_an_error_chooses_the_outcome() -> None:
    assert isinstance(decide(TransientError("later")), Retry)
    assert isinstance(decide(PermanentError("never")), Park)
    assert isinstance(decide(DependencyDown("away")), HoldLane)
    assert isinstance(decide(BusUnavailable("away")), HoldLane)
    bug = decide(KeyError("secret"))
    assert isinstance(bug, Retry)
    assert "secret" not in bug.reason.message


def test_the_last_try_parks_and_says_how_often_it_was_tried() -> None:
    parked = decide(TransientError("The server hung up.", code="hung-up"), tries=2)
    assert isinstance(parked, Park)
    assert parked.reason.code == "hung-up"
    assert "3 times" in parked.reason.message


def test_a_dependency_that_is_down_never_parks_however_often() -> None:
    assert isinstance(decide(DependencyDown("away"), tries=1000), HoldLane)


@given(st.integers(0, 60), st.floats(0.01, 60), st.none() | st.floats(0, 86_400))
def test_delays_grow_within_bounds_and_what_was_asked_for_is_believed(
    tries: int, base: float, asked: float | None
) -> None:
    delay = retry_delay(tries, base_delay=base, asked=asked)
    assert delay >= (asked or 0)
    assert delay <= max(MAX_DELAY * 1.25, asked or 0)


@given(st.floats(0.1, 3600), st.integers(1, 40))
def test_a_hold_grows_but_is_never_shorter_than_asked(asked: float, row: int) -> None:
    assert asked <= hold_delay(asked, holds_in_a_row=row) <= max(MAX_HOLD, asked)


def test_an_item_that_kills_its_workers_is_parked() -> None:
    status = ItemStatus(job_id=1, stage=Stage.DOWNLOAD, lane="x", key="1", title="t", state=ItemState.INTERRUPTED)
    assert after_interruption(status) is None
    assert after_interruption(status.model_copy(update={"interruptions": MAX_INTERRUPTIONS})) is not None


def jobs(*given: tuple[int, int, JobState]) -> JobsState:
    return JobsState(
        revision=1,
        jobs=tuple(
            ActiveJob(
                job_id=job_id,
                job_type=JobType.DOWNLOAD_ONLY,
                state=state,
                stages=(Stage.DOWNLOAD,),
                sources=("local",),
                priority=priority,
                lanes=(lane(job_id, Stage.DOWNLOAD, "local", item_type="song.download.requested"),),
            )
            for job_id, priority, state in given
        ),
    )


def serve(turns: Turns, count: int) -> Counter[int]:
    served: Counter[int] = Counter()
    for _ in range(count):
        first = turns.order(0.0)[0]
        turns.served(first)
        served[first.job_id] += 1
    return served


def test_jobs_of_one_priority_are_served_alike() -> None:
    turns = Turns(stages=frozenset({Stage.DOWNLOAD}))
    turns.follow(jobs((1, 0, JobState.RUNNING), (2, 0, JobState.RUNNING), (3, 0, JobState.RUNNING)))
    assert serve(turns, 300) == Counter({1: 100, 2: 100, 3: 100})


def test_a_higher_priority_is_served_more_often_and_nobody_starves() -> None:
    turns = Turns(stages=frozenset({Stage.DOWNLOAD}))
    turns.follow(jobs((1, 1, JobState.RUNNING), (2, 0, JobState.RUNNING)))
    served = serve(turns, 300)
    assert served[1] == pytest.approx(200, abs=3)
    assert served[2] == pytest.approx(100, abs=3)


def of_sources(job_id: int, *sources: str, priority: int = 0) -> ActiveJob:
    lanes = tuple(lane(job_id, Stage.DOWNLOAD, name, item_type="song.download.requested") for name in sources)
    return ActiveJob(
        job_id=job_id,
        job_type=JobType.DOWNLOAD_ONLY,
        state=JobState.RUNNING,
        stages=(Stage.DOWNLOAD,),
        sources=sources,
        priority=priority,
        lanes=lanes,
    )


@pytest.mark.parametrize(("priority", "share"), [(0, 500), (2, 800), (-1, 333)])
def test_a_job_of_many_sources_is_served_no_more_often_than_one_of_one(priority: int, share: int) -> None:
    turns = Turns(stages=frozenset({Stage.DOWNLOAD}))
    turns.follow(JobsState(revision=1, jobs=(of_sources(1, *"abcdef"), of_sources(2, "b", priority=priority))))
    lanes: Counter[str] = Counter()
    for _ in range(1000):
        first = turns.order(0.0)[0]
        turns.served(first)
        lanes[first.lane.consumer] += 1
    assert lanes["j2-download-b"] == pytest.approx(share, abs=5)
    of_many = [count for name, count in lanes.items() if name.startswith("j1")]
    assert len(of_many) == 6
    assert max(of_many) - min(of_many) <= 2, "its sources take turns"


def test_a_job_with_one_source_left_keeps_its_whole_share() -> None:
    turns = Turns(stages=frozenset({Stage.DOWNLOAD}))
    turns.follow(JobsState(revision=1, jobs=(of_sources(1, *"abcdef"), of_sources(2, "b"))))
    for state in turns.lanes.values():
        state.empty_until = 10.0 if state.job_id == 1 and state.lane.name != "c" else 0.0
    assert serve(turns, 1000)[1] == pytest.approx(500, abs=5)


@pytest.mark.parametrize("state", [state for state in JobState if state is not JobState.RUNNING])
def test_a_job_that_does_not_run_has_no_turn(state: JobState) -> None:
    turns = Turns(stages=frozenset({Stage.DOWNLOAD}))
    turns.follow(jobs((1, 0, JobState.RUNNING)))
    turns.follow(jobs((1, 0, state)))
    assert turns.order(0.0) == []
    assert turns.idle(0.0) is None


def test_after_a_hold_one_item_at_a_time_goes_first() -> None:
    turns = Turns(stages=frozenset({Stage.DOWNLOAD}))
    turns.follow(jobs((1, 0, JobState.RUNNING)))
    (held,) = turns.lanes.values()
    held.held_until, held.holds_in_a_row = 10.0, 1
    assert turns.order(9.0) == []
    assert turns.order(10.0) == [held]
    held.in_hand = 1
    assert turns.order(10.0) == []
