"""Keeping an item while it proves progress, and letting go of it when it does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from common.contracts.status import Reason
from common.errors import BusUnavailable
from common.settings import Settings
from common.work.context import ItemContext
from common.work.outcome import Outcome
from common.work.pull import Delivery, LaneGone

_LET_GO = 5.0
"""Seconds that a handler has to stop after it was told to."""


class Interrupted(Exception):
    """The item must stop now. ``ours``: it still is; else another may have it, or nobody wants it."""

    def __init__(self, reason: Reason, *, ours: bool) -> None:
        super().__init__(reason.message)
        self.reason = reason
        self.ours = ours


class Lease:
    """Runs a handler under the lease of its delivery."""

    def __init__(
        self,
        *,
        delivery: Delivery,
        context: ItemContext,
        settings: Settings,
        wanted: Callable[[], Awaitable[bool]],
    ) -> None:
        """``wanted`` tells whether the item's job still wants it; raises BusUnavailable."""
        self._delivery = delivery
        self._context = context
        self._wanted = wanted
        self._seconds = settings.lease_seconds
        self._stall = settings.stall_seconds

    async def guard(self, work: Awaitable[Outcome]) -> Outcome:
        """The handler's outcome. Raises Interrupted when it stalls or the lease is lost."""
        task = asyncio.ensure_future(work)
        renewed = self._delivery.since
        try:
            while True:
                done, _ = await asyncio.wait({task}, timeout=self._seconds / 3)
                if done:
                    return _result(task)
                moment = time.monotonic()
                # Looked at before renewing, which would succeed even if another worker has it by now:
                # this process may have stood still.
                if moment - renewed > self._seconds:
                    raise _lost()
                silent = moment - self._context.last_progress
                if silent > self._stall:
                    raise Interrupted(
                        Reason(code="stalled", message=f"No progress for {silent:.0f} seconds; it is tried again."),
                        ours=True,
                    )
                if await self._renew():
                    renewed = moment
                elif time.monotonic() - renewed > self._seconds:
                    raise _lost()
        finally:
            if not task.done():
                self._context.canceled.set()
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({task}, timeout=_LET_GO)

    async def _renew(self) -> bool:
        try:
            return await self._delivery.extend()
        except LaneGone:
            # No consumer answers: it was removed with its job, or a cluster is electing its leader.
            try:
                wanted = await self._wanted()
            except BusUnavailable:
                return False
        if not wanted:
            raise Interrupted(Reason(code="canceled", message="Its job was canceled."), ours=False)
        return False


def _result(task: asyncio.Future[Outcome]) -> Outcome:
    if task.cancelled():
        # By something inside the handler: as a cancellation it would end the slot, silently.
        raise RuntimeError("the handler was cancelled from inside")
    return task.result()


def _lost() -> Interrupted:
    return Interrupted(
        Reason(code="lease-lost", message="The item was not kept for longer than its lease; it is tried again."),
        ours=False,
    )
