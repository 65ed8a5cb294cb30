"""Why something does not move: every item, and every job that stands still, can say it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from common.contracts.names import ItemState, JobState, Stage
from common.contracts.status import ItemStatus, Reason
from console.ports import Counts, Holder, Job, SetAside
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
    job: Job, *, counts: Counts, lost: Mapping[Holder, int], aside: Sequence[SetAside], fleet: Fleet, at: float
) -> Reason | None:
    """The reason that keeps most of a job's items; None while one of them is in the hands of a live worker.

    ``counts``: as they are shown; ``lost``: what of them was in the hands of workers that do not answer any more.
    """
    if job.state.ended:
        return None
    if (stopped := _job_stands(job)) is not None:
        return stopped
    if any(item.job_id == job.job_id for member in fleet.members(at) if member.live(at) for item in member.beat.items):
        return None
    waiting = {stage: _waiting(states) for stage, states in counts.items()}
    plain = sum(waiting.values()) - sum(one.count for one in aside)
    standing = stages_wait_for(job, counts=counts, lost=lost, fleet=fleet, at=at)
    reasons = [(one.count, _with_count(one)) for one in aside]
    reasons += [(count, why) for stage, why in standing.items() if (count := min(waiting.get(stage, 0), plain)) > 0]
    if reasons:
        return max(reasons, key=lambda one: one[0])[1]
    # A stage may have no items because whoever makes them does not run. While others have some, that can wait.
    if any(_unended(states) for states in counts.values()):
        return None
    return next(iter(standing.values()), None)


def stages_wait_for(
    job: Job, *, counts: Counts, lost: Mapping[Holder, int], fleet: Fleet, at: float
) -> dict[Stage, Reason]:
    """Why stages of a running job do not move that are not complete: nobody takes items, or who had them died."""
    found: dict[Stage, Reason] = {}
    if job.state is not JobState.RUNNING:
        return found
    for stage, state in job.stage_states.items():
        if state is JobState.COMPLETED and not _unended(counts.get(stage, {})):
            continue
        if (lane := lane_stands(job.job_id, stage, None, fleet=fleet, at=at)) is not None:
            found[stage] = lane
        elif count := sum(items for holder, items in lost.items() if holder[0] is stage):
            found[stage] = Reason(
                code="worker-lost",
                message=f"A worker does not answer any more; another takes its items ({count}) when their lease ends.",
            )
    return found


def lost_of(holders: Mapping[Holder, int], *, fleet: Fleet, at: float) -> dict[Holder, int]:
    """Those of ``holders`` that do not answer any more."""
    return {
        (stage, worker): items
        for (stage, worker), items in holders.items()
        if fleet.lost(SERVICE_OF[stage], worker, at)
    }


def shown_counts(counts: Counts, *, lost: Mapping[Holder, int]) -> Counts:
    """The counts that people see: what lost workers held is interrupted, although nobody could say so yet."""
    shown = {stage: dict(states) for stage, states in counts.items()}
    for (stage, _), items in lost.items():
        states = shown.setdefault(stage, {})
        # Counts and workers are read one after the other.
        moved = min(items, states.get(ItemState.RUNNING, 0))
        states[ItemState.RUNNING] = states.get(ItemState.RUNNING, 0) - moved
        states[ItemState.INTERRUPTED] = states.get(ItemState.INTERRUPTED, 0) + moved
    return shown


def shown_state(status: ItemStatus, *, fleet: Fleet, at: float) -> ItemState:
    """The state that people see: an item whose worker died is interrupted, although nobody could say so yet."""
    return ItemState.INTERRUPTED if lost_worker(status, fleet=fleet, at=at) else status.state


def lost_worker(status: ItemStatus, *, fleet: Fleet, at: float) -> bool:
    """Whether an item is said to run in the hands of a worker that does not answer any more."""
    if status.state is not ItemState.RUNNING or status.worker is None:
        return False
    return fleet.lost(SERVICE_OF[status.stage], status.worker, at)


def _job_stands(job: Job) -> Reason | None:
    if job.state is JobState.PAUSED:
        return Reason(code="job-paused", message="Its job is paused. Resume it to go on.")
    if job.state is JobState.PAUSE_REQUESTED:
        return Reason(code="job-pausing", message="Its job is being paused; nothing new starts.")
    if job.state is JobState.QUEUED:
        return Reason(code="job-queued", message="Its job has not begun; it does when the bus answers.")
    if job.state is JobState.CANCELED:
        return Reason(code="job-canceled", message="Its job was canceled; so is this item, in a moment.")
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


def _waiting(states: Mapping[ItemState, int]) -> int:
    return states.get(ItemState.QUEUED, 0) + states.get(ItemState.INTERRUPTED, 0)


def _unended(states: Mapping[ItemState, int]) -> int:
    return sum(count for state, count in states.items() if not state.ended)


def _with_count(one: SetAside) -> Reason:
    rest = f" ({one.count} items, the first again at {_clock(one.next_at)})"
    return Reason(code=one.reason.code, message=one.reason.message + rest)


def _clock(moment: datetime) -> str:
    return f"{moment:%H:%M:%S} UTC"
