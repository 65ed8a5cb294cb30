"""Items that wait for a time of their own, put back into the queue when it has come.

Kept in the queue they would take the places of others: a lane has only so many items under way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from common.bus.errors import StreamFull
from common.contracts.envelope import now
from common.contracts.status import ServerWait
from common.telemetry import get_logger
from console.errors import Refused
from console.ports import Item, Items, Job, WorkQueue
from console.service import retries

_PAGE = 250
_AT_ONCE = 1000
"""Items of one job that are put back before others have their turn; the rest follows at the next tick."""
_AGAIN_SECONDS = 60.0
"""What was put back and has not been taken up by then was lost, or stands in the queue: it is put back once more."""
_SOON_SECONDS = 10.0
"""The same where the queue held some of it already, as after a lost ack, and not much of it."""
_FEW = 100
KEEP_WAITS = timedelta(minutes=15)
"""A server that failed until a moment ago fails again, most likely: since when is remembered so long."""
MAX_WAITS = 100
"""The job state is one small entry that all workers read."""


@dataclass(kw_only=True)
class _Pass:
    """How far one pass over what is due has come.

    ``whole``: it has come to the end once; ``held``: how many items the queue held already.
    """

    begun: float
    reached: tuple[datetime, int] | None = None
    whole: bool = False
    held: int = 0

    def over(self, at: float) -> bool:
        """Whether the next one may begin. One that is not whole goes on: begun anew it would never come to its end."""
        soon = 0 < self.held <= _FEW
        return self.whole and at - self.begun > (_SOON_SECONDS if soon else _AGAIN_SECONDS)


class Aside:
    """Puts items back. ``now`` of workers and ours may differ a little; nothing depends on it."""

    def __init__(self, *, items: Items, queue: WorkQueue, lease: float) -> None:
        """``lease``: seconds after which no worker can hold an item that it has not begun."""
        self._items = items
        self._queue = queue
        self._patience = timedelta(seconds=2 * lease)
        self._passes: dict[int, _Pass] = {}

    async def put_back(self, job: Job) -> int:
        """Queue items of a running job whose time has come; return how many. Raises BusUnavailable."""
        at, current = time.monotonic(), self._passes.get(job.job_id)
        if current is None or current.over(at):
            current = self._passes[job.job_id] = _Pass(begun=at)
        count, moment = 0, now()
        while count < _AT_ONCE:
            page = await asyncio.to_thread(
                self._items.due, job.job_id, after=current.reached, until=moment, limit=_PAGE
            )
            if not page:
                current.whole = True
                break
            try:
                await asyncio.gather(*(self._put_back(job, item, current) for item in page))
            except StreamFull:
                break  # the next tick tries again
            last = page[-1]
            assert last.status.next_try_at is not None
            current.reached = (last.status.next_try_at, last.item_id)
            count += len(page)
        return count

    def forget(self, job_ids: Iterable[int]) -> None:
        """Keep nothing of other jobs than these."""
        kept = set(job_ids)
        self._passes = {job_id: current for job_id, current in self._passes.items() if job_id in kept}

    async def _put_back(self, job: Job, item: Item, current: _Pass) -> None:
        due = item.status.next_try_at
        assert due is not None
        cause = f"due:{due.isoformat()}:{item.status.tries}:{current.begun:.0f}"
        try:
            work, lane = retries.prepare(job, item, force=False)
        except Refused as refused:
            get_logger().warning("an item cannot be put back", job=job.job_id, reason=refused.message)
            await self._queue.tell([retries.lost(item.status)], cause=cause, trace=job.trace)
            return
        stranded = now() - due > self._patience
        if not await self._queue.put_back(work, lane, cause=cause, trace=job.trace, stranded=stranded):
            current.held += 1


def merged(told: Iterable[ServerWait], before: Sequence[ServerWait], *, at: datetime) -> tuple[ServerWait, ...]:
    """The waits that all workers keep: the longest told for each server, and for a while those that are over.

    Since when is told by whoever told the longest: it knows whether the server has answered in between.
    """
    found: dict[str, ServerWait] = {}
    for wait in (*before, *told):
        if wait.until + KEEP_WAITS < at:
            continue
        known = found.get(wait.server)
        if known is None or wait.until > known.until:
            found[wait.server] = wait
    longest_first = sorted(found.values(), key=lambda wait: wait.until, reverse=True)[:MAX_WAITS]
    return tuple(sorted(longest_first, key=lambda wait: wait.server))
