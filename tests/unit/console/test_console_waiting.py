from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from common.contracts.names import ItemState, JobState, JobType, Stage
from common.contracts.status import CurrentItem, Heartbeat, Hold, ItemStatus, Reason
from console.ports import Counts, Holder, Job, JobDraft, SetAside
from console.service.fleet import LOST_AFTER, Fleet
from console.service.waiting import (
    MAX_COUNTED,
    item_waits_for,
    job_waits_for,
    lost_of,
    shown_counts,
    shown_state,
    stages_wait_for,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DOWN = Reason(code="connection-failed", message="Waiting for a.example.org: it cannot be reached.")


def job(state: JobState = JobState.RUNNING) -> Job:
    """One that has downloaded, or does so; its upload has not begun."""
    draft = JobDraft(job_type=JobType.FULL, stages=JobType.FULL.stages, sources=("feed",))
    done = dict.fromkeys((Stage.PLAN, Stage.COLLECT, Stage.SYNC), JobState.COMPLETED)
    stands = {**done, Stage.DOWNLOAD: JobState.RUNNING, Stage.UPLOAD: JobState.QUEUED}
    return Job(job_id=1, state=state, draft=draft, trace="t", created_at=NOW, stage_states=stands)


def waits_for(
    job: Job,
    *,
    queued: int = 0,
    succeeded: int = 0,
    aside: Sequence[SetAside] = (),
    lost: int = 0,
    fleet: Fleet,
    at: float = 100.0,
) -> Reason | None:
    """What a job waits for that has so many items to download; ``lost`` of them were in the hands of "one"."""
    told = {ItemState.QUEUED: queued, ItemState.SUCCEEDED: succeeded, ItemState.RUNNING: lost}
    gone = {(Stage.DOWNLOAD, "one"): lost} if lost else {}
    counts = shown_counts({Stage.DOWNLOAD: told}, lost=gone)
    return job_waits_for(job, counts=counts, lost=gone, aside=aside, fleet=fleet, at=at)


def status(state: ItemState = ItemState.QUEUED, **fields: object) -> ItemStatus:
    known = {"job_id": 1, "stage": Stage.DOWNLOAD, "lane": "feed", "key": "7", "title": "song", "state": state}
    return ItemStatus.model_validate(known | fields)


def fleet(*, at: float = 100.0, **fields: object) -> Fleet:
    """A downloader and a collector that were heard of at ``at``."""
    found = Fleet(started=0.0)
    for service in ("downloader", "collector"):
        known = {"service": service, "instance": "one", "started_at": NOW, "ready": True, "concurrency": 4}
        found.observe(Heartbeat.model_validate(known | (fields if service == "downloader" else {})), at)
    return found


def why(one: ItemStatus, *, job: Job, fleet: Fleet, ahead: int = 0, at: float = 100.0) -> str:
    wall = NOW - timedelta(seconds=1)
    reason = item_waits_for(one, job, fleet=fleet, at=at, wall=wall, ahead=ahead)
    return reason.message if reason else ""


@pytest.mark.parametrize(
    ("ahead", "words"),
    [(0, "It is next"), (1, "after 1 other."), (30, "after 30 others"), (MAX_COUNTED, "more than 999")],
)
def test_an_item_in_the_queue_tells_how_many_stand_before_it(ahead: int, words: str) -> None:
    assert words in why(status(), job=job(), fleet=fleet(), ahead=ahead)


def test_an_item_that_is_tried_again_tells_why_when_and_how_often() -> None:
    again = status(reason=DOWN, next_try_at=NOW, tries=2, max_tries=5)
    assert why(again, job=job(), fleet=fleet()) == f"{DOWN.message} Again at 12:00:00 UTC, try 3 of 5."
    come = again.model_copy(update={"next_try_at": NOW - timedelta(minutes=1)})
    assert why(come, job=job(), fleet=fleet()) == f"{DOWN.message} Again when its turn comes, try 3 of 5."


@pytest.mark.parametrize(
    ("state", "words"),
    [(JobState.PAUSED, "is paused"), (JobState.PAUSE_REQUESTED, "is being paused"), (JobState.QUEUED, "has not begun")],
)
def test_a_job_that_stands_is_the_reason_for_its_items(state: JobState, words: str) -> None:
    assert words in why(status(), job=job(state), fleet=fleet())
    reason = waits_for(job(state), queued=5, fleet=fleet())
    assert reason is not None
    assert words in reason.message


def test_without_a_worker_that_is_what_is_said() -> None:
    assert "No downloader is running" in why(status(), job=job(), fleet=fleet(at=0.0))
    assert "No uploader is running" in why(status(stage=Stage.UPLOAD), job=job(), fleet=fleet())


def test_a_lane_on_hold_is_the_reason_for_its_items_only() -> None:
    held = fleet(holds=(Hold(stage=Stage.DOWNLOAD, lane="feed", reason=DOWN, since=NOW),))
    assert why(status(), job=job(), fleet=held) == DOWN.message
    assert why(status(lane="local"), job=job(), fleet=held) == "It is next."


def test_workers_that_cannot_work_tell_their_problem() -> None:
    full = Reason(code="disk-full", message="The library's disk is full.")
    assert why(status(), job=job(), fleet=fleet(ready=False, problems=(full,))) == full.message


def test_what_moves_or_has_ended_waits_for_nothing() -> None:
    for state in ItemState:
        if state.ended or state is ItemState.RUNNING:
            assert why(status(state, worker="one"), job=job(), fleet=fleet()) == ""


def test_an_item_of_a_worker_that_died_is_shown_as_interrupted() -> None:
    running, late = status(ItemState.RUNNING, worker="one"), 100.0 + LOST_AFTER + 1
    assert shown_state(running, fleet=fleet(), at=100.0) is ItemState.RUNNING
    assert shown_state(running, fleet=fleet(), at=late) is ItemState.INTERRUPTED
    assert "does not answer" in why(running, job=job(), fleet=fleet(), at=late)
    unheard = status(ItemState.RUNNING, worker="another")
    assert shown_state(unheard, fleet=fleet(), at=10.0) is ItemState.RUNNING, "right after a start nothing is proved"
    assert shown_state(unheard, fleet=fleet(), at=100.0) is ItemState.INTERRUPTED, "it died before the console began"


def test_a_job_whose_last_items_are_with_a_dead_worker_says_so() -> None:
    late = 100.0 + LOST_AFTER + 1
    gone = waits_for(job(), succeeded=7, lost=2, fleet=fleet(), at=late)
    assert gone is not None
    assert gone.code == "no-worker", "nobody is left who could take them"
    living = fleet()
    beat = Heartbeat(service="downloader", instance="two", started_at=NOW, ready=True, concurrency=4)
    living.observe(beat, late)
    holders: dict[Holder, int] = {(Stage.DOWNLOAD, "one"): 2, (Stage.DOWNLOAD, "two"): 1}
    assert lost_of(holders, fleet=living, at=late) == {(Stage.DOWNLOAD, "one"): 2}
    reason = waits_for(job(), succeeded=7, lost=2, fleet=living, at=late)
    assert reason is not None
    assert (reason.code, "(2)" in reason.message) == ("worker-lost", True)


def test_what_lost_workers_held_is_counted_as_interrupted() -> None:
    counts: Counts = {Stage.DOWNLOAD: {ItemState.RUNNING: 3, ItemState.SUCCEEDED: 5}}
    shown = shown_counts(counts, lost={(Stage.DOWNLOAD, "one"): 2, (Stage.DOWNLOAD, "two"): 4})
    assert shown[Stage.DOWNLOAD] == {ItemState.RUNNING: 0, ItemState.INTERRUPTED: 3, ItemState.SUCCEEDED: 5}
    assert counts[Stage.DOWNLOAD][ItemState.RUNNING] == 3


def test_a_stage_without_items_says_that_nobody_makes_them() -> None:
    reason = waits_for(job(), succeeded=3, fleet=fleet())
    assert reason is not None
    assert "No uploader is running" in reason.message
    moving = waits_for(job(), queued=1, succeeded=2, fleet=fleet())
    assert moving is None, "what moves comes first"
    standing = stages_wait_for(job(), counts={}, lost={}, fleet=fleet(), at=100.0)
    assert set(standing) == {Stage.UPLOAD}


def test_a_job_tells_the_reason_that_keeps_most_of_its_items() -> None:
    other = Reason(code="server-busy", message="Waiting for b.example.org.")
    aside = [SetAside(reason=DOWN, count=9000, next_at=NOW), SetAside(reason=other, count=3, next_at=NOW)]
    reason = waits_for(job(), queued=9003, aside=aside, fleet=fleet())
    assert reason is not None
    assert (reason.code, "9000 items" in reason.message) == (DOWN.code, True)
    nobody = waits_for(job(), queued=20_000, aside=aside, fleet=fleet(at=0.0))
    assert nobody is not None
    assert nobody.code == "no-worker"


def test_a_job_with_an_item_in_hand_moves() -> None:
    current = CurrentItem(job_id=1, stage=Stage.DOWNLOAD, lane="feed", key="1", title="song", started_at=NOW)
    aside = [SetAside(reason=DOWN, count=9000, next_at=NOW)]
    busy = fleet(items=(current,))
    assert waits_for(job(), queued=9000, aside=aside, fleet=busy) is None
