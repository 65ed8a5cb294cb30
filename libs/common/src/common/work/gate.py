"""Whether an item may begin, and whether it may go on: what the job state says, and how old that answer is."""

from __future__ import annotations

import asyncio
import time

from common.bus.jobs import JobsFollower
from common.contracts.jobs import GATE_SECONDS, ActiveJob
from common.contracts.names import JobState
from common.contracts.status import Reason
from common.contracts.work import WorkItem

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Where there is one, a clock that goes on while the machine sleeps."""


class Interrupted(Exception):
    """The item must stop now. ``ours``: it still is; else another may have it, or nobody wants it."""

    def __init__(self, reason: Reason, *, ours: bool) -> None:
        super().__init__(reason.message)
        self.reason = reason
        self.ours = ours


class Gate:
    """The gate of one item."""

    def __init__(self, jobs: JobsFollower, item: WorkItem) -> None:
        self._jobs = jobs
        self._item = item
        self._asked = float("-inf")

    @property
    def change(self) -> asyncio.Future[None]:
        """Done when the job state changes next."""
        return self._jobs.change

    async def job(self) -> ActiveJob | None:
        """The job as of a moment ago, however long this process stood still meanwhile. Raises BusUnavailable.

        The newest state counts, not the one just read: a heartbeat may have told that this worker has seen it.
        """
        while not self._fresh:
            self._asked = time.clock_gettime(_CLOCK)
            await self._jobs.refresh()
        return self._jobs.state.job(self._item.job_id)

    async def begin(self) -> None:
        """Raise Interrupted where the console may have given this worker up since the gate was passed."""
        if self._fresh:
            return
        job = await self.job()
        if job is None or not job.takes(self._item.STAGE, self._item.lane):
            raise self.stop() or _given_up()

    def stop(self) -> Interrupted | None:
        """Why an item in hand must stop; None while it may go on."""
        state = self._jobs.state
        job = state.job(self._item.job_id)
        if state.revision and (job is None or job.state.ended):
            return canceled()
        # It is said only when no worker holds an item, or when this one was silent for too long.
        return _given_up() if job is not None and job.state is JobState.PAUSED else None

    async def wanted(self) -> bool:
        """Whether the job has not ended, as of now. Raises BusUnavailable."""
        job = (await self._jobs.refresh()).job(self._item.job_id)
        return job is not None and not job.state.ended

    @property
    def _fresh(self) -> bool:
        return time.clock_gettime(_CLOCK) - self._asked <= GATE_SECONDS


def canceled() -> Interrupted:
    """Nobody wants the item any more."""
    return Interrupted(Reason(code="canceled", message="Its job was canceled."), ours=False)


def _given_up() -> Interrupted:
    return Interrupted(
        Reason(
            code="worker-silent",
            message="Its worker was silent for so long that it was given up; the item is taken up again when its job "
            "goes on.",
        ),
        ours=True,
    )
