"""Whose turn it is: lanes are served in rotation, jobs of a higher priority more often. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from common.contracts.jobs import JobsState, Lane
from common.contracts.names import Stage
from common.contracts.status import Reason


@dataclass(kw_only=True)
class LaneState:
    """What this worker knows of one lane. Times are of the monotonic clock, in seconds."""

    lane: Lane
    job_id: int
    weight: int
    credit: float = 0.0
    in_hand: int = 0
    empty_until: float = 0.0
    gone_until: float = 0.0
    held_until: float = 0.0
    holds_in_a_row: int = 0
    hold: Reason | None = None
    held_since: float = 0.0

    def may_poll(self, now: float) -> bool:
        """Not on hold, nor without an answer; and after a hold, one item at a time until one comes through."""
        if now < self.held_until or now < self.gone_until:
            return False
        return self.holds_in_a_row == 0 or self.in_hand == 0


@dataclass(kw_only=True)
class Turns:
    """The lanes of the running jobs that this worker serves, and their order."""

    stages: frozenset[Stage]
    lanes: dict[str, LaneState] = field(default_factory=dict)

    def follow(self, state: JobsState) -> None:
        """Take over the lanes of the jobs that take items; forget the others."""
        wanted: dict[str, LaneState] = {}
        for job in state.jobs:
            if not job.takes_items:
                continue
            for lane in job.lanes:
                if lane.stage not in self.stages:
                    continue
                known = self.lanes.get(lane.consumer)
                weight = 2 ** max(-3, min(3, job.priority)) * 8
                if known is None:
                    known = LaneState(lane=lane, job_id=job.job_id, weight=int(weight))
                known.weight = int(weight)
                wanted[lane.consumer] = known
        self.lanes = wanted

    def order(self, now: float) -> list[LaneState]:
        """The lanes to ask, the one with most credit first. Ask ``served`` after one gave an item."""
        ready = [lane for lane in self.lanes.values() if lane.may_poll(now) and now >= lane.empty_until]
        return sorted(ready, key=lambda lane: -lane.credit)

    def idle(self, now: float) -> LaneState | None:
        """A lane to wait on when all are empty: the one not asked for longest, so in rotation."""
        ready = [lane for lane in self.lanes.values() if lane.may_poll(now)]
        return min(ready, key=lambda lane: lane.empty_until, default=None)

    def served(self, lane: LaneState) -> None:
        """``lane`` gave an item: the others gain credit by their weight, it pays the sum."""
        total = 0
        for other in self.lanes.values():
            other.credit += other.weight
            total += other.weight
        lane.credit -= total
        # What an empty lane saves up while others work must not starve them later.
        for other in self.lanes.values():
            other.credit = max(-4.0 * total, min(4.0 * total, other.credit))

    def held(self, now: float) -> list[LaneState]:
        """The lanes on hold."""
        return [lane for lane in self.lanes.values() if now < lane.held_until]
