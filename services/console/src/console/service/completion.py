"""When a stage is complete: what was read of the consumers, in the order of the flow. Pure.

A stage is complete when the ones before it are, its planners have nothing pending, and its
consumers have nothing pending and nothing unacked. An item is acked only after its children are in
the queue, so that consumers read in the order of the flow cannot all be empty while work is left.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from common.contracts.jobs import ActiveJob, Lane
from common.contracts.names import Stage
from console.ports import Reading


@dataclass(frozen=True, kw_only=True)
class Step:
    """One stage, as it is to be read. ``follows_uploader``: read the uploader's consumer of CATALOG first."""

    stage: Stage
    lanes: tuple[Lane, ...]
    follows_uploader: bool = False


def steps(job: ActiveJob) -> tuple[Step, ...]:
    """The stages of ``job`` in the order of the flow; the first is the plan.

    Files that a job downloads reach its upload stage through CATALOG: the uploader turns them into items.
    """
    order = (Stage.PLAN, *job.stages)
    downloads = Stage.DOWNLOAD in order
    return tuple(
        Step(
            stage=stage,
            lanes=tuple(lane for lane in job.lanes if lane.stage is stage),
            follows_uploader=stage is Stage.UPLOAD and downloads,
        )
        for stage in order
    )


def is_complete(step: Step, *, uploader: Reading | None, lanes: Sequence[Reading | None]) -> bool:
    """Whether the stage is complete, given that the ones before it are.

    ``None`` is a consumer that does not exist: never a proof that nothing is left.
    """
    if step.follows_uploader and (uploader is None or not uploader.empty):
        return False
    return len(lanes) == len(step.lanes) and all(reading is not None and reading.empty for reading in lanes)


@dataclass(kw_only=True)
class Unchanged:
    """Which readings have stayed the same for ``seconds``.

    A server that was killed may come back with an unacked message that it neither has nor delivers
    again (2.9.10): such a consumer never becomes empty, and the items' own statuses decide instead.
    """

    seconds: float
    _since: dict[Hashable, tuple[Hashable, float]] = field(default_factory=dict)

    def lasts(self, key: Hashable, value: Hashable, *, at: float) -> bool:
        """Note what was read at ``at`` (monotonic seconds); whether it has been so long enough."""
        before = self._since.get(key)
        if before is None or before[0] != value:
            self._since[key] = (value, at)
            return False
        return at - before[1] >= self.seconds
