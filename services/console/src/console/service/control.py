"""Jobs from their beginning to their end. The ledger's commit is the truth; the bus follows it.

Every step can be done again: after a crash the next start finds what the ledger says and the bus
does not, and does it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from common.bus.errors import StreamMissing
from common.contracts.envelope import now
from common.contracts.names import Command, JobState, JobType, Stage
from common.contracts.status import ServerWait
from common.contracts.work import JobPlan
from common.errors import BusUnavailable
from common.telemetry import get_logger
from console.errors import LedgerUnwritable, NotFound, Unavailable
from console.ports import (
    Items,
    Job,
    JobsStore,
    PendingCommand,
    Projection,
    Runs,
    ScheduleDraft,
    Wish,
    WorkQueue,
)
from console.service import ending, retries
from console.service.aside import Aside, merged
from console.service.drafts import active_job, draft_job, lanes_of, planned_stages
from console.service.fleet import Fleet
from console.service.lifecycle import RETRIES, after_command, after_recovery, check_wish
from console.service.pauses import Pauses
from console.service.shares import Shares
from console.service.stages import Stages


class JobControl:
    """The one place where jobs begin, change and end."""

    def __init__(
        self,
        *,
        runs: Runs,
        items: Items,
        queue: WorkQueue,
        store: JobsStore,
        projection: Projection,
        fleet: Fleet,
        sources: Sequence[str],
        upload_backend: str | None,
        config: Callable[[], dict[str, Any]],
        lease_seconds: float,
        pause_found: bool,
        on_change: Callable[[], None],
    ) -> None:
        """``config`` gives the settings with their secrets masked; ``pause_found``: RECOVERY=pause."""
        self._runs = runs
        self._items = items
        self._queue = queue
        self._store = store
        self._fleet = fleet
        self._sources = sources
        self._upload_backend = upload_backend
        self._config = config
        self._lease = lease_seconds
        self._pause_found = pause_found
        self._on_change = on_change
        self._lock = asyncio.Lock()
        self._last_id = 0
        self._pauses = Pauses(queue=queue, fleet=fleet)
        self._other_limits = False
        self._waits: tuple[ServerWait, ...] = ()
        self._shares = Shares(queue=queue, fleet=fleet)
        self._retries = retries.Retries(items=items, queue=queue)
        self._aside = Aside(items=items, queue=queue, lease=lease_seconds)
        self._ending = ending.Ending(runs=runs, items=items, queue=queue, projection=projection, lease=lease_seconds)
        self._stages = Stages(
            runs=runs, items=items, queue=queue, fleet=fleet, ending=self._ending, lease=lease_seconds
        )

    @property
    def pausing(self) -> bool:
        """Whether a pause, or the end of a lane's turn, waits for workers: their next heartbeats may confirm it."""
        return bool(self._pauses) or self._shares.settling

    @property
    def waits(self) -> tuple[ServerWait, ...]:
        """The servers that all workers leave alone now."""
        moment = now()
        return tuple(wait for wait in self._waits if wait.until > moment)

    async def start(self) -> None:
        """Bring ledger and bus together, whichever of them lost what."""
        async with self._lock:
            await self._recover(pause=self._pause_found)

    async def submit(
        self,
        *,
        job_type: JobType,
        sources: Sequence[str] = (),
        download_sources: Sequence[str] = (),
        playlist_scope: Sequence[int] = (),
        pool_scope: Sequence[int] = (),
        priority: int = 0,
    ) -> tuple[Job, bool]:
        """Make a job; the job, and whether it was running already.

        Raises the errors of :func:`draft_job`, and Unavailable while the bus is away.
        """
        draft = draft_job(
            job_type=job_type,
            sources=sources,
            download_sources=download_sources,
            playlist_scope=playlist_scope,
            pool_scope=pool_scope,
            priority=priority,
            known_sources=self._sources,
            upload_backend=self._upload_backend,
        )
        if not self._queue.connected:
            raise Unavailable("The bus is away, so no job can begin. Try again in a moment.", code="bus-unavailable")
        async with self._lock:
            for other in await asyncio.to_thread(self._runs.unended):
                if other.draft.same_work(draft):
                    return other, True
            draft = replace(draft, kept=self._fleet.kept_settings(time.monotonic()))
            job = await asyncio.to_thread(
                self._runs.create,
                draft,
                after=self._last_id,
                trace=secrets.token_hex(8),
                config=self._config(),
                at=now(),
            )
            self._last_id = max(self._last_id, job.job_id)
            try:
                await self._begin(job)
            except BusUnavailable as error:
                get_logger().warning("the job begins when the bus answers", job=job.job_id, reason=error.message)
        self._on_change()
        return await self._job(job.job_id), False

    async def submit_scheduled(self, wanted: ScheduleDraft) -> tuple[Job, bool]:
        """Make the job of a schedule; as :meth:`submit`."""
        return await self.submit(
            job_type=wanted.job_type,
            sources=wanted.sources,
            download_sources=wanted.download_sources,
            pool_scope=wanted.pool_scope,
            priority=wanted.priority,
        )

    def check_schedule(self, wanted: ScheduleDraft) -> None:
        """Raise what making the job of a schedule would."""
        draft_job(
            job_type=wanted.job_type,
            sources=wanted.sources,
            download_sources=wanted.download_sources,
            playlist_scope=(),
            pool_scope=wanted.pool_scope,
            priority=wanted.priority,
            known_sources=self._sources,
            upload_backend=self._upload_backend,
        )

    async def command(self, job_id: int, wish: Wish) -> Job:
        """Carry out a command. Raises NotFound, InvalidRequest or Refused."""
        check_wish(wish)
        async with self._lock:
            job = await self._job(job_id)
            words = f"{wish.command} asked for"
            if wish.command in RETRIES:
                title = await asyncio.to_thread(self._retries.check, job, wish)
                words = f"{wish.command} of {title!r} asked for" if title else words
                self._ending.reopen(job)
            state = after_command(job.state, wish.command)
            command_id = await asyncio.to_thread(self._runs.set_state, job_id, state, at=now(), event=words, wish=wish)
            assert command_id is not None
            try:
                await self._carry_out(PendingCommand(command_id=command_id, job_id=job_id, wish=wish))
            except BusUnavailable as error:
                get_logger().warning("the command waits for the bus", command=str(wish.command), reason=error.message)
        self._on_change()
        return await self._job(job_id)

    def limits_changed(self) -> None:
        """Bring the consumers of all jobs to the limits of today, at the next tick."""
        self._other_limits = True

    async def tick(self) -> None:
        """Do what is due: unfinished commands, begun jobs, pauses, completions, clearing up."""
        async with self._lock:
            pending = await asyncio.to_thread(self._runs.pending_commands)
            # A job is not over while some of what it is to try again was not asked for yet.
            unfinished = {command.job_id for command in pending if not await self._carry_out(command)}
            unended = await asyncio.to_thread(self._runs.unended)
            self._aside.forget(job.job_id for job in unended)
            await self._share_waits()
            await self._keep_settings(unended)
            if self._other_limits:
                for lane in [lane for job in unended for lane in lanes_of(job.job_id, job.draft)]:
                    await self._queue.ensure_lane(lane)
                await self._sync()
                self._other_limits = False
            if await self._shares.divide():
                await self._sync()
            for job in unended:
                if not job.planned:
                    await self._begin(job)
                elif job.state is JobState.PAUSE_REQUESTED and await self._pauses.confirmed(job):
                    await self._enter(job, JobState.PAUSED, "no worker holds an item of this job")
                elif job.state in {JobState.RUNNING, JobState.PAUSE_REQUESTED}:
                    if job.state is JobState.RUNNING:
                        await self._aside.put_back(job)
                    if job.job_id not in unfinished:
                        await self._follow(job)
        await self._clear_up()

    async def run(self, stop: asyncio.Event, *, poke: asyncio.Event, interval: float = 1.0) -> None:
        """Tick every ``interval`` seconds, and soon after ``poke``, until ``stop``."""
        said = ""
        while not stop.is_set():
            try:
                await self.tick()
                said = ""
            except StreamMissing:
                get_logger().warning("the bus lost its streams; they are made again")
                await self._made_anew()
            except BusUnavailable as error:
                if error.message != said:
                    get_logger().warning("job control waits for the bus", reason=error.message)
                said = error.message
            except LedgerUnwritable as error:
                if error.message != said:
                    get_logger().error("job control waits for the disk", reason=error.message)
                said = error.message
            await _first_of(stop, poke, timeout=interval)
            poke.clear()

    async def _clear_up(self) -> None:
        """Bring ended jobs nearer to their end; between two of them, commands have their turn."""
        for found in await asyncio.to_thread(self._runs.unclosed):
            async with self._lock:
                job = await self._job(found.job_id)
                if job.state.ended and not job.closed:
                    await self._sync()
                    await self._ending.close(job)
        swept = now() - timedelta(seconds=self._lease)
        for found in await asyncio.to_thread(self._runs.unswept, ended_before=swept):
            async with self._lock:
                job = await self._job(found.job_id)
                if job.state.ended and job.closed:
                    await self._ending.sweep(job)

    async def _made_anew(self) -> None:
        try:
            async with self._lock:
                await self._recover(pause=False)
        except (BusUnavailable, LedgerUnwritable) as error:
            get_logger().warning("job control waits", reason=error.message)

    async def _recover(self, *, pause: bool) -> None:
        await self._queue.ensure_streams()
        state = await self._store.read()
        self._shares.take_over(state)
        for active in state.jobs:
            if await asyncio.to_thread(self._runs.get, active.job_id) is None:
                get_logger().warning("a job was found on the bus that the ledger does not know", job=active.job_id)
                await asyncio.to_thread(
                    self._runs.adopt, active, trace=secrets.token_hex(8), config=self._config(), at=now()
                )
        self._last_id = max(state.last_job_id, await asyncio.to_thread(self._runs.last_id))
        for job in await asyncio.to_thread(self._runs.unended):
            wanted = after_recovery(job.state, pause=pause)
            if wanted is not job.state:
                await asyncio.to_thread(
                    self._runs.set_state,
                    job.job_id,
                    wanted,
                    at=now(),
                    event="found running at the start; RECOVERY=pause",
                )
            if job.planned and state.job(job.job_id) is None:
                # The bus forgot the job, so its plan may be gone with it.
                await asyncio.to_thread(self._runs.mark, job.job_id, planned=False)
            for lane in lanes_of(job.job_id, job.draft):
                await self._queue.ensure_lane(lane)
        await self._sync()

    async def _begin(self, job: Job) -> None:
        for lane in lanes_of(job.job_id, job.draft):
            await self._queue.ensure_lane(lane)
        if job.state is JobState.QUEUED:
            await self._enter(job, JobState.RUNNING, "begun")
        else:
            await self._sync()
        plans = [JobPlan(job_id=job.job_id, stage=stage) for stage in planned_stages(job.draft)]
        await self._queue.plan(plans, cause=f"job:{job.job_id}:plan", job_id=job.job_id, trace=job.trace)
        await asyncio.to_thread(self._runs.mark, job.job_id, planned=True)

    async def _carry_out(self, pending: PendingCommand) -> bool:
        """Do what was asked for; False when some is left for the next tick."""
        job = await self._job(pending.job_id)
        await self._sync()
        command = pending.wish.command
        if command is Command.CANCEL:
            await self._ending.close(job)
        elif command in RETRIES and job.state is not JobState.CANCELED:
            for lane in lanes_of(job.job_id, job.draft):
                await self._queue.ensure_lane(lane)
            if not await self._retries.carry_out(job, pending):
                self._on_change()  # the rest at the next tick, so that other commands need not wait
                return False
        await asyncio.to_thread(self._runs.applied, pending.command_id, at=now())
        return True

    async def _follow(self, job: Job) -> None:
        """See how far the job is; end it when every stage is complete."""
        if (final := await self._stages.follow(job)) is not None:
            await self._enter(job, final, "every stage is complete")
            await self._ending.close(job)

    async def _enter(self, job: Job, state: JobState, words: str) -> None:
        await asyncio.to_thread(self._runs.set_state, job.job_id, state, at=now(), event=words)
        get_logger().info("job", job=job.job_id, state=str(state))
        await self._sync()
        self._on_change()

    async def _share_waits(self) -> None:
        """Tell all workers which servers one of them found to be away, or was asked to leave alone."""
        told = self._fleet.waits(time.monotonic())
        known = (await self._store.read()).waits
        self._waits = merged(told, known, at=now())
        if self._waits != known:
            await self._sync(self._waits)

    async def _keep_settings(self, jobs: Sequence[Job]) -> None:
        """Give jobs that began without a downloader the settings of the first one: nothing was stored before."""
        without = [job for job in jobs if Stage.DOWNLOAD in job.draft.stages and job.draft.kept is None]
        if not without or (kept := self._fleet.kept_settings(time.monotonic())) is None:
            return
        for job in without:
            await asyncio.to_thread(self._runs.keep, job.job_id, kept)
        await self._sync()

    async def _sync(self, waits: Sequence[ServerWait] | None = None) -> None:
        """Make the job state on the bus what the ledger says."""
        jobs = [job for job in await asyncio.to_thread(self._runs.unended) if job.state is not JobState.QUEUED]
        active = self._shares.admit([active_job(job.job_id, job.state, job.draft) for job in jobs])
        written = await self._store.write(active, last_job_id=self._last_id, waits=waits)
        asked = {job.job_id for job in jobs if job.state is JobState.PAUSE_REQUESTED}
        at = time.monotonic()
        self._pauses.told(asked, revision=written.revision, at=at)
        self._shares.told(written.revision, at)

    async def _job(self, job_id: int) -> Job:
        job = await asyncio.to_thread(self._runs.get, job_id)
        if job is None:
            raise NotFound(f"There is no job {job_id}.", code="no-such-job")
        return job


async def _first_of(*events: asyncio.Event, timeout: float) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
