"""Whose turn it is: jobs in rotation, those of a higher priority more often, and the lanes of each in rotation. Pure.

A job's share does not grow with the number of its lanes, and goes to those that have items.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from common.contracts.jobs import JobsState, Lane
from common.contracts.names import Stage
from common.contracts.status import Reason

K = TypeVar("K", bound=Hashable)


@dataclass(kw_only=True)
class LaneState:
    """What this worker knows of one lane. Times are of the monotonic clock, in seconds."""

    lane: Lane
    job_id: int
    credit: float = 0.0
    in_hand: int = 0
    empty_until: float = 0.0
    gone_until: float = 0.0
    held_until: float = 0.0
    holds_in_a_row: int = 0
    hold: Reason | None = None
    held_since: float = 0.0

    def may_poll(self, now: float) -> bool:
        """Not on hold, closed or without an answer; and after a hold, one item at a time until one comes through."""
        if self.lane.share == 0 or now < self.held_until or now < self.gone_until:
            return False
        return self.holds_in_a_row == 0 or self.in_hand == 0


@dataclass(kw_only=True)
class Turns:
    """The lanes of the running jobs that this worker serves, and their order."""

    stages: frozenset[Stage]
    lanes: dict[str, LaneState] = field(default_factory=dict)
    _weights: dict[int, int] = field(default_factory=dict)
    _credits: dict[int, float] = field(default_factory=dict)

    def follow(self, state: JobsState) -> None:
        """Take over the lanes of the jobs that take items; forget the others."""
        wanted: dict[str, LaneState] = {}
        weights: dict[int, int] = {}
        for job in state.jobs:
            if not job.takes_items:
                continue
            for lane in job.lanes:
                if lane.stage not in self.stages:
                    continue
                weights[job.job_id] = int(2 ** max(-3, min(3, job.priority)) * 8)
                known = self.lanes.get(lane.consumer) or LaneState(lane=lane, job_id=job.job_id)
                known.lane = lane
                wanted[lane.consumer] = known
        self.lanes, self._weights = wanted, weights
        self._credits = {job_id: self._credits.get(job_id, 0.0) for job_id in weights}

    def order(self, now: float) -> list[LaneState]:
        """The lanes to ask, those of the job with most credit first. Ask ``served`` after one gave an item."""
        ready = [lane for lane in self.lanes.values() if lane.may_poll(now) and now >= lane.empty_until]
        return sorted(ready, key=lambda lane: (-self._credits[lane.job_id], -lane.credit))

    def idle(self, now: float) -> LaneState | None:
        """A lane to wait on when all are empty: the one not asked for longest, so in rotation."""
        ready = [lane for lane in self.lanes.values() if lane.may_poll(now)]
        return min(ready, key=lambda lane: lane.empty_until, default=None)

    def served(self, lane: LaneState) -> None:
        """``lane`` gave an item: its job pays the other jobs by their weights, and it the other lanes of its job."""
        if lane.job_id in self._credits:
            _pay(self._credits, self._weights, lane.job_id)
        siblings = {other.lane.consumer: other for other in self.lanes.values() if other.job_id == lane.job_id}
        if lane.lane.consumer in siblings:
            credits = {name: other.credit for name, other in siblings.items()}
            _pay(credits, dict.fromkeys(siblings, 1), lane.lane.consumer)
            for name, other in siblings.items():
                other.credit = credits[name]

    def held(self, now: float) -> list[LaneState]:
        """The lanes on hold."""
        return [lane for lane in self.lanes.values() if now < lane.held_until]


def _pay(credits: dict[K, float], weights: Mapping[K, int], served: K) -> None:
    """All gain credit by their weight; who was ``served`` pays the sum."""
    total = sum(weights.values())
    for one, weight in weights.items():
        gained = credits[one] + weight - (total if one == served else 0)
        # What one without items saves up while others work must not starve them later.
        credits[one] = max(-4.0 * total, min(4.0 * total, gained))
