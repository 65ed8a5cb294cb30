"""Parts of canceled songs that no worker can remove any more, because the one that had them died."""

from __future__ import annotations

import asyncio
import contextlib

from common.bus import Bus
from common.contracts.envelope import UndecodableMessage, decode
from common.contracts.names import ItemState
from common.contracts.status import ItemStatus
from common.contracts.streams import STATUS
from common.errors import BusUnavailable
from common.telemetry import get_logger
from downloader.adapters.spool import SpoolFolder


class Leftovers:
    """Looks at what lies in the spool and nobody has in hand. What was not canceled stays, to be continued."""

    def __init__(self, *, bus: Bus, spool: SpoolFolder, every: float) -> None:
        """``every``: seconds between two looks; one lease, after which an item of a dead worker is another's."""
        self._bus = bus
        self._spool = spool
        self._every = every

    async def run(self, stop: asyncio.Event) -> None:
        """Look until ``stop``."""
        while not stop.is_set():
            try:
                await self.remove()
            except BusUnavailable:
                get_logger().debug("what is left in the spool is looked at when the bus is back")
            except OSError as error:
                get_logger().warning("what is left in the spool could not be looked at", reason=error.strerror)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._every)

    async def remove(self) -> int:
        """Remove the parts of canceled items; return how many. Raises BusUnavailable."""
        removed = 0
        for song_id, item in await asyncio.to_thread(self._spool.left):
            if item and not await self._canceled(item):
                continue
            if await asyncio.to_thread(self._spool.abandon, song_id):
                get_logger().info("a part that nobody wants was removed", song=song_id)
                removed += 1
        return removed

    async def _canceled(self, item: str) -> bool:
        stored = await self._bus.last(STATUS, item)
        if stored is None:
            return False
        try:
            return decode(stored.data, ItemStatus).data.state is ItemState.CANCELED
        except UndecodableMessage:
            return False
