"""The job state on the bus: one KV entry, of which this is the only writer."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from common.bus.connection import Bus
from common.bus.errors import WrongLastSequence
from common.bus.jobs import JOBS_SUBJECT
from common.bus.streams import JOBS_STREAM
from common.contracts.envelope import decode
from common.contracts.jobs import ActiveJob, JobsState
from common.contracts.status import ServerWait

_ATTEMPTS = 5


class BusJobsStore:
    """Reads and writes the entry ``active`` of the bucket JOBS."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._revision = 0
        """The highest seen: where the bus lost the entry, the next one must not look older to those who follow."""

    async def read(self) -> JobsState:
        """The entry as it stands; empty where there is none."""
        return (await self._read())[0]

    async def write(
        self, jobs: Sequence[ActiveJob], *, last_job_id: int, waits: Sequence[ServerWait] | None = None
    ) -> JobsState:
        """Make these the active jobs; a new revision only if that changes anything. ``waits`` None: as they are.

        Raises WrongLastSequence when somebody else keeps writing: there is a second console.
        """
        for attempt in range(_ATTEMPTS):
            current, sequence = await self._read()
            highest = max(last_job_id, current.last_job_id)
            waiting = current.waits if waits is None else tuple(waits)
            same = current.jobs == tuple(jobs) and current.last_job_id == highest and current.waits == waiting
            if same and sequence:
                return current
            wanted = JobsState(revision=self._revision + 1, last_job_id=highest, jobs=tuple(jobs), waits=waiting)
            try:
                await self._bus.publish(JOBS_SUBJECT, wanted, msg_id=secrets.token_hex(8), expect_last=sequence)
            except WrongLastSequence:
                if attempt == _ATTEMPTS - 1:
                    raise
                continue
            self._revision = wanted.revision
            return wanted
        raise AssertionError("unreachable")

    async def _read(self) -> tuple[JobsState, int]:
        stored = await self._bus.last(JOBS_STREAM, JOBS_SUBJECT)
        if stored is None:
            return JobsState(), 0
        state = decode(stored.data, JobsState).data
        self._revision = max(self._revision, state.revision)
        return state, stored.sequence
