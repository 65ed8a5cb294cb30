"""The pauses that wait for workers, and when each is complete."""

from __future__ import annotations

import time
from collections.abc import Iterable

from console.ports import Job, WorkQueue
from console.service.drafts import lanes_of
from console.service.fleet import Fleet


class Pauses:
    """Which jobs are asked to pause, and since which revision of the job state."""

    def __init__(self, *, queue: WorkQueue, fleet: Fleet) -> None:
        self._queue = queue
        self._fleet = fleet
        self._told: dict[int, tuple[int, float]] = {}

    def __bool__(self) -> bool:
        return bool(self._told)

    def told(self, job_ids: Iterable[int], *, revision: int, at: float) -> None:
        """The job state of ``revision``, written before ``at`` (monotonic seconds), asks these jobs to pause."""
        self._told = {job_id: self._told.get(job_id, (revision, at)) for job_id in job_ids}

    async def confirmed(self, job: Job) -> bool:
        """Whether nothing of the job runs and nothing of it will start.

        Either every worker has said so, or no item of it is out: what is delivered after the job
        state was written meets the gate. (What meets it is given back, and so counts as out: the
        second is for workers that are lost, and held none.)
        """
        if job.job_id not in self._told:
            return False
        revision, asked = self._told[job.job_id]
        if not self._fleet.not_confirmed(job.job_id, revision, asked=asked, at=time.monotonic()):
            return True
        readings = [await self._queue.read_lane(lane) for lane in lanes_of(job.job_id, job.draft)]
        return all(reading is not None and reading.unacked == 0 for reading in readings)
