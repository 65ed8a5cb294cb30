"""A source's limit (SOURCE_LIMITS) over all jobs: parts of it, and turns where it is smaller than their number.

Each job has a lane of its own for a source, and the bus limits each lane. So the console divides: each lane
has a share of the limit, written into the job state and set at its consumer. A share of nothing closes the
lane: the gate gives its items back, as in a pause. What one lane loses another gets only when it is known to be
unused, so that the limit holds at each moment.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from common.contracts.envelope import now
from common.contracts.jobs import ActiveJob, JobsState, Lane
from common.contracts.names import JobState, Stage
from common.contracts.status import Hold, Reason
from console.ports import WorkQueue
from console.service.fleet import Fleet

TURN_SECONDS = 10.0
"""How long a lane has its turn at least while others wait. To pass it on costs as much as the item that runs."""


@dataclass(kw_only=True)
class _Part:
    """One lane's part. ``used``: what may be under way for a while after less was granted."""

    job: ActiveJob
    lane: Lane
    granted: int
    used: int
    since: float
    told: tuple[int, float] | None = None
    """For a closed lane: the revision of the job state that closed it, and when that was written."""

    @property
    def closing(self) -> bool:
        return self.granted == 0 and self.used > 0

    @property
    def turn(self) -> float:
        return TURN_SECONDS * 2.0 ** max(-3, min(3, self.job.priority))


class Shares:
    """The shares of all lanes whose source has a limit of its own."""

    def __init__(self, *, queue: WorkQueue, fleet: Fleet) -> None:
        self._queue = queue
        self._fleet = fleet
        self._parts: dict[str, _Part] = {}
        self._open: set[str] = set()

    @property
    def settling(self) -> bool:
        """Whether a lane was closed and its workers have not all said so."""
        return any(part.closing for part in self._parts.values())

    def take_over(self, state: JobsState) -> None:
        """Go on from what a console before us granted."""
        for job in state.jobs:
            for lane in job.lanes:
                limit = self._queue.limit_of(lane.name)
                if lane.share is not None and limit is not None and _counts(job):
                    self._enter(job, lane, granted=lane.share, used=limit)
        self._open = {lane.consumer for job in state.jobs if job.takes_items for lane in job.lanes}

    def admit(self, jobs: Sequence[ActiveJob]) -> list[ActiveJob]:
        """``jobs`` as workers are to see them. A lane that comes to a source in use begins with nothing."""
        limited = {
            lane.consumer: (job, lane, limit)
            for job in jobs
            if _counts(job)
            for lane in job.lanes
            if (limit := self._queue.limit_of(lane.name)) is not None
        }
        self._parts = {consumer: part for consumer, part in self._parts.items() if consumer in limited}
        for consumer, (job, lane, limit) in limited.items():
            if (part := self._parts.get(consumer)) is not None:
                part.job = job
            elif consumer in self._open or not any(_same(lane, one.lane) for one in self._parts.values()):
                self._enter(job, lane, granted=limit, used=limit)
            else:
                self._enter(job, lane, granted=0, used=0)
        self._open = {lane.consumer for job in jobs if job.takes_items for lane in job.lanes}
        return [
            job.model_copy(update={"lanes": tuple(self._shared(lane) for lane in job.lanes)}) if _counts(job) else job
            for job in jobs
        ]

    def told(self, revision: int, at: float) -> None:
        """The job state of ``revision`` says all that is granted now."""
        for part in self._parts.values():
            if part.closing and part.told is None:
                part.told = (revision, at)

    async def divide(self) -> bool:
        """Bring the shares to what the lanes need now; whether the job state must tell it."""
        groups: dict[tuple[Stage, str], list[_Part]] = {}
        for part in self._parts.values():
            groups.setdefault((part.lane.stage, part.lane.name), []).append(part)
        holds: list[Hold] = []
        changed = False
        for parts in groups.values():
            changed |= await self._divide(parts, holds)
        self._fleet.turns = holds
        return changed

    async def _divide(self, parts: list[_Part], holds: list[Hold]) -> bool:
        at = time.monotonic()
        stage, name = parts[0].lane.stage, parts[0].lane.name
        limit = self._queue.limit_of(name) or 1
        running = [part for part in parts if part.job.takes_items]
        wants = {part.lane.consumer: limit for part in running}
        if len(parts) == 1:
            parts[0].used = parts[0].granted  # nobody else's that it could take
        else:
            for part in running:
                reading = await self._queue.read_lane(part.lane)
                wants[part.lane.consumer] = reading.pending + reading.unacked if reading is not None else 1
                if part.granted:
                    part.used = max(part.granted, reading.unacked if reading is not None else 0)
        for part in running:
            if part.closing and part.told is not None:
                revision, asked = part.told
                if not self._fleet.not_confirmed(part.job.job_id, revision, asked=asked, at=at, lane=part.lane):
                    part.used = 0
        aim = targets(limit, _in_turn(running, wants, at), wants)
        before = {part.lane.consumer: part.granted for part in running}
        for part in running:
            if aim[part.lane.consumer] < part.granted:
                part.used = max(part.used, part.granted)
                part.granted, part.since, part.told = aim[part.lane.consumer], at, None
        strays = self._fleet.in_hand(stage, name, at, besides=[part.job.job_id for part in parts])
        free = limit - strays - sum(max(part.granted, part.used) for part in parts)
        for part in running:
            more = min(aim[part.lane.consumer] - part.granted, free)
            if more > 0 and not part.closing:
                if not part.granted:
                    part.since = at
                part.granted, part.used, free = part.granted + more, part.used + more, free - more
        for part in running:
            if part.granted != before[part.lane.consumer]:
                self._queue.share(part.lane, part.granted)
                await self._queue.ensure_lane(part.lane)
            if not part.granted and wants[part.lane.consumer]:
                holds.append(_hold(part, limit, at))
        return any(part.granted != before[part.lane.consumer] for part in running)

    def _enter(self, job: ActiveJob, lane: Lane, *, granted: int, used: int) -> None:
        self._queue.share(lane, granted)
        self._parts[lane.consumer] = _Part(job=job, lane=lane, granted=granted, used=used, since=time.monotonic())

    def _shared(self, lane: Lane) -> Lane:
        part = self._parts.get(lane.consumer)
        return lane if part is None else lane.model_copy(update={"share": part.granted})


def targets(limit: int, order: Iterable[str], wants: Mapping[str, int]) -> dict[str, int]:
    """How ``limit`` is divided: as equally as what each lane wants allows; one each for the first in ``order``
    where it is smaller than their number, and nothing for the rest."""
    aim = dict.fromkeys(wants, 0)
    left = limit
    hungry = [consumer for consumer in order if wants[consumer] > 0][:limit]
    while hungry and left:
        part = max(1, left // len(hungry))
        for consumer in hungry[:left]:
            more = min(part, wants[consumer] - aim[consumer], left)
            aim[consumer] += more
            left -= more
        hungry = [consumer for consumer in hungry if aim[consumer] < wants[consumer]]
    return aim


def _in_turn(parts: Sequence[_Part], wants: Mapping[str, int], at: float) -> list[str]:
    """Who has a turn keeps it until that is over; then those who have waited longest."""
    waits = any(not part.granted and wants[part.lane.consumer] for part in parts)

    def place(part: _Part) -> tuple[bool, bool, float]:
        over = bool(part.granted) and waits and at - part.since >= part.turn
        return (over, not part.granted, part.since)

    return [part.lane.consumer for part in sorted(parts, key=place)]


def _counts(job: ActiveJob) -> bool:
    """Whether items of the job may be under way."""
    return job.state in {JobState.RUNNING, JobState.PAUSE_REQUESTED}


def _same(one: Lane, other: Lane) -> bool:
    return (one.stage, one.name) == (other.stage, other.name)


def _hold(part: _Part, limit: int, at: float) -> Hold:
    message = f"{part.lane.name} takes {limit} at a time (SOURCE_LIMITS); other jobs have their turn."
    return Hold(
        job_id=part.job.job_id,
        stage=part.lane.stage,
        lane=part.lane.name,
        reason=Reason(code="source-limit", message=message),
        since=now() - timedelta(seconds=at - part.since),
    )
