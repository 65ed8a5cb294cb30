"""Why something does not move: every item, and every job that stands still, can say it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from common.contracts.names import ItemState, JobState, Stage
from common.contracts.status import ItemStatus, Reason
from console.ports import Job, SetAside
from console.service.fleet import Fleet

SERVICE_OF = {
    Stage.PLAN: "collector",
    Stage.COLLECT: "collector",
    Stage.SYNC: "collector",
    Stage.DOWNLOAD: "downloader",
    Stage.UPLOAD: "uploader",
}
MAX_COUNTED = 1000
"""How many items ahead are counted; behind more than that, the number says nothing more."""


def item_waits_for(
    status: ItemStatus, job: Job, *, fleet: Fleet, at: float, wall: datetime, ahead: int
) -> Reason | None:
    """What an item waits for that has not ended; None when it moves.

    ``at``: monotonic seconds; ``wall``: the time of day then; ``ahead``: items before it in its lane, counted up
    to :data:`MAX_COUNTED`.
    """
    if status.state.ended:
        return None
    if lost_worker(status, fleet=fleet, at=at):
        return Reason(
            code="worker-lost",
            message=f"The worker {status.worker} does not answer any more; another takes it when its lease ends.",
        )
    if status.state is ItemState.RUNNING:
        return None
    if (stopped := _job_stands(job)) is not None:
        return stopped
    if status.next_try_at is not None:
        why = status.reason.message if status.reason else "It did not work yet."
        tries = f", try {status.tries + 1} of {status.max_tries}" if status.max_tries else ""
        code = status.reason.code if status.reason else "retry"
        when = f"Again at {_clock(status.next_try_at)}" if status.next_try_at > wall else "Again when its turn comes"
        return Reason(code=code, message=f"{why} {when}{tries}.")
    if (lane := lane_stands(job.job_id, status.stage, status.lane, fleet=fleet, at=at)) is not None:
        return lane
    if ahead:
        number = f"more than {MAX_COUNTED - 1}" if ahead >= MAX_COUNTED else str(ahead)
        return Reason(code="queued-behind", message=f"Its turn comes after {number} other{'s' if ahead > 1 else ''}.")
    return Reason(code="queued-next", message="It is next.")


def job_waits_for(
    job: Job, *, queued: dict[Stage, int], aside: Sequence[SetAside], fleet: Fleet, at: float
) -> Reason | None:
    """The reason that keeps most of a job's items; None while one of them is in the hands of a live worker.

    ``queued``: items per stage that wait, with those that are set aside.
    """
    if job.state.ended:
        return None
    if (stopped := _job_stands(job)) is not None:
        return stopped
    if any(item.job_id == job.job_id for member in fleet.members(at) if member.live(at) for item in member.beat.items):
        return None
    apart = sum(one.count for one in aside)
    reasons = [(one.count, _with_count(one)) for one in aside]
    plain = sum(queued.values()) - apart
    for stage, count in queued.items():
        if count and plain > 0 and (lane := lane_stands(job.job_id, stage, None, fleet=fleet, at=at)) is not None:
            reasons.append((min(count, plain), lane))
    return max(reasons, key=lambda one: one[0])[1] if reasons else None


def shown_state(status: ItemStatus, *, fleet: Fleet, at: float) -> ItemState:
    """The state that people see: an item whose worker died is interrupted, although nobody could say so yet."""
    return ItemState.INTERRUPTED if lost_worker(status, fleet=fleet, at=at) else status.state


def lost_worker(status: ItemStatus, *, fleet: Fleet, at: float) -> bool:
    """Whether an item is said to run in the hands of a worker that does not answer any more."""
    if status.state is not ItemState.RUNNING or status.worker is None:
        return False
    member = fleet.member(SERVICE_OF[status.stage], status.worker)
    return member is not None and not member.live(at)


def _job_stands(job: Job) -> Reason | None:
    if job.state is JobState.PAUSED:
        return Reason(code="job-paused", message="Its job is paused. Resume it to go on.")
    if job.state is JobState.PAUSE_REQUESTED:
        return Reason(code="job-pausing", message="Its job is being paused; nothing new starts.")
    if job.state is JobState.QUEUED:
        return Reason(code="job-queued", message="Its job has not begun; it does when the bus answers.")
    return None


def lane_stands(job_id: int, stage: Stage, lane: str | None, *, fleet: Fleet, at: float) -> Reason | None:
    """Why nobody takes items of a stage (and one of its lanes) now."""
    service = SERVICE_OF[stage]
    live = fleet.live(service, at)
    if not live:
        return Reason(
            code="no-worker", message=f"No {service} is running. Start one; the items wait for it and lose nothing."
        )
    for hold in fleet.holds(at):
        if hold.job_id in (None, job_id) and hold.stage is stage and lane in (None, hold.lane):
            return hold.reason
    if all(member.beat.problems for member in live):
        return live[0].beat.problems[0]
    return None


def _with_count(one: SetAside) -> Reason:
    rest = f" ({one.count} items, the first again at {_clock(one.next_at)})"
    return Reason(code=one.reason.code, message=one.reason.message + rest)


def _clock(moment: datetime) -> str:
    return f"{moment:%H:%M:%S} UTC"
