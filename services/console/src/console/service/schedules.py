"""Jobs that run again and again. A run that was missed while the console was down happens once, late."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from cronsim import CronSim, CronSimError

from common.contracts.envelope import now
from common.telemetry import get_logger
from console.errors import ClientError, InvalidRequest, NotFound, Unavailable
from console.ports import Job, Schedule, ScheduleDraft, Schedules

MAX_SCHEDULES = 500


class Submit(Protocol):
    """Who makes jobs."""

    async def submit_scheduled(self, draft: ScheduleDraft) -> tuple[Job, bool]: ...
    def check_schedule(self, draft: ScheduleDraft) -> None: ...


class Scheduler:
    """Keeps schedules, and makes their jobs when they are due."""

    def __init__(
        self,
        *,
        schedules: Schedules,
        submit: Submit,
        on_change: Callable[[], None],
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._schedules = schedules
        self._submit = submit
        self._on_change = on_change
        self._clock = clock
        self._said: set[int] = set()

    async def add(self, draft: ScheduleDraft) -> Schedule:
        """Keep a new schedule. Raises InvalidRequest for one that cannot run."""
        moment = self._clock()
        first = next_run(draft, after=moment)
        self._submit.check_schedule(draft)
        if len(await asyncio.to_thread(self._schedules.all)) >= MAX_SCHEDULES:
            raise InvalidRequest(f"There are {MAX_SCHEDULES} schedules already; remove one.", code="too-many-schedules")
        return await asyncio.to_thread(self._schedules.add, draft, next_at=first, at=moment)

    async def enable(self, schedule_id: int, *, enabled: bool) -> Schedule:
        """Let a schedule run or rest; what it missed while it rested does not happen."""
        schedule = await self.find(schedule_id)
        following = next_run(schedule.draft, after=self._clock())
        await asyncio.to_thread(self._schedules.enable, schedule_id, enabled=enabled, next_at=following)
        return await self.find(schedule_id)

    async def remove(self, schedule_id: int) -> None:
        """Forget a schedule; its jobs stay."""
        await self.find(schedule_id)
        await asyncio.to_thread(self._schedules.remove, schedule_id)

    async def find(self, schedule_id: int) -> Schedule:
        """Raises NotFound."""
        found = await asyncio.to_thread(self._schedules.get, schedule_id)
        if found is None:
            raise NotFound("There is no such schedule.", code="no-such-schedule")
        return found

    async def tick(self) -> int:
        """Make the jobs that are due; return how many were made."""
        made = 0
        for schedule in await asyncio.to_thread(self._schedules.due, self._clock()):
            made += await self._run(schedule)
        if made:
            self._on_change()
        return made

    async def run(self, stop: asyncio.Event, *, interval: float = 1.0) -> None:
        """Tick until ``stop``."""
        while not stop.is_set():
            try:
                await self.tick()
            except ClientError as error:
                get_logger().warning("schedules wait", reason=error.message)
            try:
                await asyncio.wait_for(stop.wait(), interval)
            except TimeoutError:
                continue

    async def _run(self, schedule: Schedule) -> bool:
        moment, job_id, made = self._clock(), None, False
        following = next_run(schedule.draft, after=moment)
        try:
            job, already = await self._submit.submit_scheduled(schedule.draft)
        except Unavailable as error:
            # It stays due: the run happens once, late.
            if schedule.schedule_id not in self._said:
                get_logger().warning("a scheduled job waits", schedule=schedule.draft.name, reason=error.message)
            self._said.add(schedule.schedule_id)
            return False
        except ClientError as error:
            note = f"Not begun: {error.message}"
        else:
            job_id, made = job.job_id, not already
            note = f"Left out: job {job_id} was still running." if already else f"Job {job_id} was begun."
        self._said.discard(schedule.schedule_id)
        await asyncio.to_thread(
            self._schedules.ran, schedule.schedule_id, next_at=following, last_at=moment, job_id=job_id, note=note
        )
        get_logger().info("schedule", schedule=schedule.draft.name, note=note)
        return made


def next_run(draft: ScheduleDraft, *, after: datetime) -> datetime:
    """When a schedule is due next. Raises InvalidRequest when it never is, or cannot be read."""
    if (draft.cron is None) == (draft.every_seconds is None):
        raise InvalidRequest("Give either cron or every_seconds.", code="cron-or-every")
    if draft.every_seconds is not None:
        due = after + timedelta(seconds=draft.every_seconds)
    else:
        assert draft.cron is not None
        try:
            due = _by_the_clock(draft.cron, after)
        except CronSimError:
            raise InvalidRequest(
                "The cron expression cannot be read. It has five fields: minute, hour, day, month, weekday; for "
                "instance 30 3 * * * is 03:30 every night.",
                code="cron-unreadable",
            ) from None
        except StopIteration:
            raise InvalidRequest("This cron expression never comes true.", code="cron-never") from None
    spread = random.uniform(0, draft.jitter_seconds)  # noqa: S311 - spreads load, guards nothing
    return due.astimezone(UTC) + timedelta(seconds=spread)


def _by_the_clock(cron: str, after: datetime) -> datetime:
    """When ``cron`` comes true next by the machine's own clock: people mean theirs, also when it is put forward."""
    if len(cron.split()) != 5:
        raise CronSimError("a sixth field would be seconds")
    # Without a zone: with one, it would be the offset of today also for a run after the change of the clocks.
    for local in CronSim(cron, after.astimezone().replace(tzinfo=None)):
        for fold in (0, 1):  # an hour that comes twice
            if (due := local.replace(fold=fold).astimezone(UTC)) > after:
                return due
    raise StopIteration
