"""How far the stages of a running job are, and whether one stands still that should not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from common.contracts.envelope import now
from common.contracts.names import ItemState, JobState
from console.ports import Items, Job, Reading, Runs, WorkQueue
from console.service.completion import Step, Unchanged, is_complete, steps
from console.service.drafts import active_job
from console.service.ending import Ending
from console.service.fleet import Fleet
from console.service.lifecycle import StageCounts
from console.service.waiting import lane_stands, lost_worker


class Stages:
    """Follows the stages of jobs by their consumers."""

    def __init__(
        self, *, runs: Runs, items: Items, queue: WorkQueue, fleet: Fleet, ending: Ending, lease: float
    ) -> None:
        """``lease``: seconds after which what a worker holds without a sign is delivered again."""
        self._runs = runs
        self._items = items
        self._queue = queue
        self._fleet = fleet
        self._ending = ending
        self._unchanged = Unchanged(seconds=2 * lease)

    async def follow(self, job: Job) -> JobState | None:
        """See which stages are complete, in the order of the flow; the state in which the job ends, if all are."""
        counts = await asyncio.to_thread(self._items.counts, job.job_id)
        complete = True
        for step in steps(active_job(job.job_id, job.state, job.draft)):
            complete = complete and await self._is_complete(job, step, counts)
            begun = complete or bool(counts.get(step.stage))
            stands = JobState.COMPLETED if complete else JobState.RUNNING if begun else JobState.QUEUED
            if job.stage_states.get(step.stage) is not stands:
                await asyncio.to_thread(self._runs.set_stage, job.job_id, step.stage, stands, at=now())
        return await self._ending.decide(job) if complete else None

    async def _is_complete(self, job: Job, step: Step, counts: StageCounts) -> bool:
        uploader = await self._queue.read_uploader() if step.follows_uploader else None
        readings = [await self._queue.read_lane(lane) for lane in step.lanes]
        for lane, reading in zip(step.lanes, readings, strict=True):
            if reading is None:
                await self._queue.ensure_lane(lane)
        complete = is_complete(step, uploader=uploader, lanes=readings)
        fed = not step.follows_uploader or (uploader is not None and uploader.empty)
        if (
            not complete
            and fed
            and self._unchanged.lasts((job.job_id, step.stage), tuple(readings), at=time.monotonic())
        ):
            complete = await self._ending.all_ended(job)
            if not complete:
                await self._rescue(job, step, readings)
        # Its consumers are empty, but some of its items wait for a time of their own.
        if complete and counts.get(step.stage, {}).get(ItemState.QUEUED):
            return not await asyncio.to_thread(self._items.set_aside, job.job_id, step.stage)
        return complete

    async def _rescue(self, job: Job, step: Step, readings: Sequence[Reading | None]) -> None:
        """Put back items that no consumer delivers any more, where workers would take them."""
        at = time.monotonic()
        if job.state is not JobState.RUNNING or any(reading is None or reading.pending for reading in readings):
            return
        if any(lane_stands(job.job_id, step.stage, lane.name, fleet=self._fleet, at=at) for lane in step.lanes):
            return
        await self._ending.rescue(job, step.stage, is_lost=lambda status: lost_worker(status, fleet=self._fleet, at=at))
