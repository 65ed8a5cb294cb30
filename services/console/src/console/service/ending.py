"""How jobs end: the last look at their items, clearing up at once, and again after one lease."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable

from common.contracts.names import ItemState, JobState, Stage
from common.contracts.status import ItemStatus
from common.telemetry import get_logger
from console.errors import Refused
from console.ports import Item, Items, Job, Projection, Runs, WorkQueue
from console.service import retries
from console.service.drafts import lanes_of
from console.service.lifecycle import final_state

_PAGE = 500
_MENDS = 3
"""Times that an item which vanished from the queue is put back before it counts as failed."""
_AT_ONCE = 1000
"""Items that are told of their end before other jobs and commands have their turn."""
_PROJECTION_PATIENCE = 1.0
"""Seconds; past it the next tick looks again."""


class Ending:
    """Ends jobs. Every step may be repeated."""

    def __init__(self, *, runs: Runs, items: Items, queue: WorkQueue, projection: Projection, lease: float) -> None:
        """``lease``: seconds after which no worker can hold an item of an ended job."""
        self._runs = runs
        self._items = items
        self._queue = queue
        self._projection = projection
        self._lease = lease
        self._mended: Counter[str] = Counter()
        self._told: dict[int, int] = {}
        """Jobs whose items are being told that they were canceled, and the last one that was."""

    async def decide(self, job: Job) -> JobState | None:
        """The state in which a job with nothing left to do ends; None: not yet.

        Called when all its consumers were empty. The counts are right once everything told before
        that has been read. An item that has not ended although no consumer has it was lost between
        its status and the queue (a planner or a server died there): it is put back.
        """
        if not await self._caught_up():
            return None
        left = await asyncio.to_thread(self._items.unended, job.job_id, after=0, limit=_PAGE)
        if left:
            # One that waits for a time of its own is put back when that has come.
            await asyncio.gather(*(self._mend(job, item) for item in left if item.status.next_try_at is None))
            return None
        return final_state(await asyncio.to_thread(self._items.counts, job.job_id))

    async def rescue(self, job: Job, stage: Stage, *, is_lost: Callable[[ItemStatus], bool]) -> None:
        """Put back what the consumers of a stage have not delivered for longer than any lease lasts.

        Called when nothing is pending there, and workers could take items. One that runs is left alone,
        unless its worker ``is_lost``; one that waits for a time of its own is put back when that has come.
        """
        if not await self._caught_up():
            return
        left = await asyncio.to_thread(self._items.unended, job.job_id, after=0, limit=_PAGE)
        stranded = [
            item
            for item in left
            if item.status.stage is stage
            and item.status.next_try_at is None
            and (item.status.state is not ItemState.RUNNING or is_lost(item.status))
        ]
        await asyncio.gather(*(self._mend(job, item, stranded=True) for item in stranded))

    async def all_ended(self, job: Job) -> bool:
        """Whether every item that was ever queued has ended, by its own last status."""
        return await self._caught_up() and not await asyncio.to_thread(
            self._items.unended, job.job_id, after=0, limit=1
        )

    async def close(self, job: Job) -> None:
        """Remove a job's items and consumers; a canceled job's items are told so, some at each call."""
        if job.job_id not in self._told:
            for lane in lanes_of(job.job_id, job.draft):
                await self._queue.drop_lane(lane)
        if job.state is not JobState.CANCELED or await self._cancel_items(job):
            await asyncio.to_thread(self._runs.mark, job.job_id, closed=True)

    def reopen(self, job: Job) -> None:
        """Let a job go on that may have ended. Raises Refused while its items are being told that it was canceled."""
        if job.state is JobState.CANCELED and not job.closed:
            raise Refused("This job is still being canceled; try again in a moment.", code="job-ending")
        self._told.pop(job.job_id, None)

    async def sweep(self, job: Job) -> None:
        """Once more after one lease: what workers or planners put there meanwhile."""
        if job.job_id not in self._told:
            for lane in lanes_of(job.job_id, job.draft):
                await self._queue.purge_lane(lane)
        if job.state is not JobState.CANCELED or await self._cancel_items(job):
            await asyncio.to_thread(self._runs.mark, job.job_id, swept=True)

    async def _cancel_items(self, job: Job) -> bool:
        """Tell some items that their job was canceled; whether all of them were told."""
        after = self._told.setdefault(job.job_id, 0)
        if not await self._caught_up():
            return False
        page = await asyncio.to_thread(self._items.unended, job.job_id, after=after, limit=_AT_ONCE)
        if page:
            cause = f"job:{job.job_id}:canceled:{secrets.token_hex(4)}"
            await self._queue.tell([retries.canceled(item.status) for item in page], cause=cause, trace=job.trace)
            self._told[job.job_id] = page[-1].item_id
        if len(page) == _AT_ONCE:
            return False
        del self._told[job.job_id]
        return True

    async def _caught_up(self) -> bool:
        return await self._projection.wait_for(await self._queue.status_end(), _PROJECTION_PATIENCE)

    async def _mend(self, job: Job, item: Item, *, stranded: bool = False) -> None:
        self._mended[item.subject] += 1
        cause = f"mend:{secrets.token_hex(8)}"
        get_logger().warning("an item left the queue without an answer", job=job.job_id, item=item.status.title)
        try:
            if self._mended[item.subject] <= _MENDS:
                await retries.ask_again(self._queue, job, item, force=False, cause=cause, stranded=stranded)
                return
        except Refused as refused:
            get_logger().warning("it cannot be put back", reason=refused.message)
        await self._queue.tell([retries.lost(item.status)], cause=cause, trace=job.trace)
