"""Keeping an item while it proves progress, and letting go of it when it does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress

from common.contracts.status import Reason
from common.settings import Settings
from common.work.context import ItemContext
from common.work.outcome import Outcome
from common.work.pull import Delivery, LaneGone

_LET_GO = 5.0
"""Seconds that a handler has to stop after it was told to."""


class Interrupted(Exception):
    """The item must stop now. ``lane_gone``: its consumer was removed, so nobody waits for an answer."""

    def __init__(self, reason: Reason, *, lane_gone: bool = False) -> None:
        super().__init__(reason.message)
        self.reason = reason
        self.lane_gone = lane_gone


class Lease:
    """Runs a handler under the lease of its delivery."""

    def __init__(self, *, delivery: Delivery, context: ItemContext, settings: Settings) -> None:
        self._delivery = delivery
        self._context = context
        self._seconds = settings.lease_seconds
        self._stall = settings.stall_seconds

    async def guard(self, work: Awaitable[Outcome]) -> Outcome:
        """The handler's outcome. Raises Interrupted when it stalls or the lease is lost."""
        task = asyncio.ensure_future(work)
        renewed = time.monotonic()
        try:
            while True:
                done, _ = await asyncio.wait({task}, timeout=self._seconds / 3)
                if done:
                    return task.result()
                moment = time.monotonic()
                silent = moment - self._context.last_progress
                if silent > self._stall:
                    raise Interrupted(
                        Reason(code="stalled", message=f"No progress for {silent:.0f} seconds; it is tried again.")
                    )
                try:
                    if await self._delivery.extend():
                        renewed = moment
                except LaneGone:
                    reason = Reason(code="canceled", message="Its job was canceled.")
                    raise Interrupted(reason, lane_gone=True) from None
                if time.monotonic() - renewed > self._seconds:
                    raise Interrupted(
                        Reason(
                            code="lease-lost", message="The bus was away for longer than the lease; it is tried again."
                        )
                    )
        finally:
            if not task.done():
                self._context.canceled.set()
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({task}, timeout=_LET_GO)
