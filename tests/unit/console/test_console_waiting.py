from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from common.contracts.names import ItemState, JobState, JobType, Stage
from common.contracts.status import CurrentItem, Heartbeat, Hold, ItemStatus, Reason
from console.ports import Job, JobDraft, SetAside
from console.service.fleet import LOST_AFTER, Fleet
from console.service.waiting import MAX_COUNTED, item_waits_for, job_waits_for, shown_state

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DOWN = Reason(code="connection-failed", message="Waiting for a.example.org: it cannot be reached.")


def job(state: JobState = JobState.RUNNING) -> Job:
    draft = JobDraft(job_type=JobType.FULL, stages=JobType.FULL.stages, sources=("feed",))
    return Job(job_id=1, state=state, draft=draft, trace="t", created_at=NOW)


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
    reason = job_waits_for(job(state), queued={Stage.DOWNLOAD: 5}, aside=[], fleet=fleet(), at=100.0)
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
    assert shown_state(unheard, fleet=fleet(), at=100.0) is ItemState.RUNNING, "right after a start nothing is proved"


def test_a_job_tells_the_reason_that_keeps_most_of_its_items() -> None:
    other = Reason(code="server-busy", message="Waiting for b.example.org.")
    aside = [SetAside(reason=DOWN, count=9000, next_at=NOW), SetAside(reason=other, count=3, next_at=NOW)]
    reason = job_waits_for(job(), queued={Stage.DOWNLOAD: 9003}, aside=aside, fleet=fleet(), at=100.0)
    assert reason is not None
    assert (reason.code, "9000 items" in reason.message) == (DOWN.code, True)
    nobody = job_waits_for(job(), queued={Stage.DOWNLOAD: 20_000}, aside=aside, fleet=fleet(at=0.0), at=100.0)
    assert nobody is not None
    assert nobody.code == "no-worker"


def test_a_job_with_an_item_in_hand_moves() -> None:
    current = CurrentItem(job_id=1, stage=Stage.DOWNLOAD, lane="feed", key="1", title="song", started_at=NOW)
    aside = [SetAside(reason=DOWN, count=9000, next_at=NOW)]
    busy = fleet(items=(current,))
    assert job_waits_for(job(), queued={Stage.DOWNLOAD: 9000}, aside=aside, fleet=busy, at=100.0) is None
