"""Keeping an item while it proves progress, and letting go of it when it does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

from common.contracts.status import Reason
from common.errors import BusUnavailable
from common.settings import Settings
from common.work.context import ItemContext
from common.work.gate import Gate, Interrupted, canceled
from common.work.outcome import Outcome
from common.work.pull import Delivery, LaneGone

_LET_GO = 5.0
"""Seconds that a handler has to stop after it was told to."""


class Lease:
    """Runs a handler under the lease of its delivery."""

    def __init__(self, *, delivery: Delivery, context: ItemContext, settings: Settings, gate: Gate) -> None:
        self._delivery = delivery
        self._context = context
        self._gate = gate
        self._seconds = settings.lease_seconds
        self._stall = settings.stall_seconds

    async def guard(self, work: Awaitable[Outcome]) -> Outcome:
        """The handler's outcome. Raises Interrupted when it stalls, its job stops it, or the lease is lost."""
        task = asyncio.ensure_future(work)
        renewed = self._delivery.since
        look = time.monotonic() + self._seconds / 3
        try:
            while True:
                change = self._gate.change  # before the look, so that no change falls between the two
                if (stopped := self._gate.stop()) is not None:
                    raise stopped
                waits: set[asyncio.Future[Any]] = {task, change}
                await asyncio.wait(waits, timeout=look - time.monotonic(), return_when=asyncio.FIRST_COMPLETED)
                if task.done():
                    return _result(task)
                moment = time.monotonic()
                # Looked at before renewing, which would succeed even if another worker has it by now:
                # this process may have stood still.
                if moment - renewed > self._seconds:
                    raise _lost()
                if moment < look:
                    continue
                look = moment + self._seconds / 3
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
                wanted = await self._gate.wanted()
            except BusUnavailable:
                return False
        if not wanted:
            raise canceled()
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
