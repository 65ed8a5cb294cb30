"""What cannot be read of CATALOG goes to DEAD, with its reason and itself, before it is passed over."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Iterable

from common.bus import Bus
from common.contracts.status import DeadLetter, Reason
from common.errors import BusUnavailable
from common.telemetry import get_logger
from exporter.service.decoding import UNREADABLE, Unreadable

_LOOK_AGAIN = 2.0
"""Seconds until a bus that cannot be reached is tried again."""


class Parking:
    """Reports what cannot be read. A crash between that and passing over it repeats it."""

    def __init__(self, bus: Bus, *, stop: asyncio.Event) -> None:
        self._bus = bus
        self._stop = stop
        self.problem: Reason | None = None

    async def park(self, messages: Iterable[Unreadable]) -> None:
        """Return when all of them are in DEAD, or when told to stop."""
        for unreadable in messages:
            get_logger().warning("fact not readable", subject=unreadable.subject, reason=unreadable.reason)
            await self._park(unreadable)

    async def _park(self, unreadable: Unreadable) -> None:
        # In base64 it grows by a third and must fit into one message.
        room = self._bus.nc.max_payload // 2
        message = unreadable.reason
        if len(unreadable.payload) > room:
            message += f" (only the first {room} of {len(unreadable.payload)} bytes are kept)"
        letter = DeadLetter(
            from_subject=unreadable.subject,
            reason=Reason(code=UNREADABLE, message=message),
            payload=base64.b64encode(unreadable.payload[:room]).decode(),
        )
        while not self._stop.is_set():
            try:
                await self._bus.publish(
                    f"dead.0.catalog.exporter.{unreadable.sequence}",
                    letter,
                    msg_id=f"exporter-{unreadable.sequence}",
                )
            except BusUnavailable as error:
                self.problem = error.reason
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), _LOOK_AGAIN)
            else:
                self.problem = None
                return
