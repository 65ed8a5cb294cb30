"""Putting items into WORK: shown as queued first, queued once, never twice in a job."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import islice

from common.bus.connection import Bus
from common.bus.errors import StreamFull, SubjectTaken, WrongLastSequence
from common.bus.facts import message_id
from common.contracts.envelope import UndecodableMessage, decode, now
from common.contracts.names import ItemState
from common.contracts.status import ItemStatus
from common.contracts.streams import STATUS
from common.contracts.work import WorkItem

IN_FLIGHT = 250
_FULL_PAUSE = 1.0
"""Seconds between looks at a full queue."""


class Planner:
    """Puts items into WORK, and their first status before them."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def put(
        self,
        items: Iterable[WorkItem],
        *,
        cause: str,
        job_id: int,
        trace: str | None = None,
        on_wait: Callable[[int, str], None] | None = None,
    ) -> int:
        """Queue ``items``; return how many were not known in their job before.

        Repeating it with the same ``cause`` changes nothing. While WORK is full it waits, and
        says so through ``on_wait(count, note)``. Raises BusUnavailable.
        """
        rest, new, count = iter(items), 0, 0
        while chunk := list(islice(rest, IN_FLIGHT)):
            answers = await asyncio.gather(
                *(self._put(item, cause=cause, job_id=job_id, trace=trace, on_wait=on_wait) for item in chunk)
            )
            new += sum(answers)
            count += len(chunk)
            if on_wait:
                on_wait(count, "")
        return new

    async def _put(
        self,
        item: WorkItem,
        *,
        cause: str,
        job_id: int,
        trace: str | None,
        on_wait: Callable[[int, str], None] | None,
    ) -> bool:
        new = await self._show_queued(item, cause=cause, trace=trace)
        if new is None:
            return False
        while True:
            try:
                await self._bus.publish(
                    item.subject, item, msg_id=message_id(item.subject, cause), job_id=job_id, trace=trace
                )
            except SubjectTaken:
                return False
            except StreamFull:
                if on_wait:
                    on_wait(0, "waiting: the queue is full")
                await asyncio.sleep(_FULL_PAUSE)
                continue
            return new

    async def _show_queued(self, item: WorkItem, *, cause: str, trace: str | None) -> bool | None:
        """True: new in its job. False: known and not ended. None: it has ended; leave it."""
        status = ItemStatus(
            job_id=item.job_id,
            stage=item.STAGE,
            lane=item.lane,
            key=item.key,
            title=item.title,
            state=ItemState.QUEUED,
            queued_at=now(),
            request=item.model_dump(mode="json", exclude_defaults=True),
        )
        try:
            await self._bus.publish(
                status.subject,
                status,
                msg_id=message_id(status.subject, cause),
                job_id=item.job_id,
                trace=trace,
                expect_last=0,
            )
        except WrongLastSequence:
            stored = await self._bus.last(STATUS, status.subject)
            return None if stored is not None and _has_ended(stored.data) else False
        return True


def _has_ended(payload: bytes) -> bool:
    try:
        return decode(payload, ItemStatus).data.state.ended
    except UndecodableMessage:
        return False  # not one of ours; the worker writes the next
