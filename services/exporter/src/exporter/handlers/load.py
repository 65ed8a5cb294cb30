"""Loading a new catalog from the whole stream, with its progress; stopped in the middle, nothing of it is left."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, TypeVar

from common.telemetry import get_logger
from exporter.adapters.database import attach_beside, detach_beside, interrupt, without_log, write_errors
from exporter.errors import CatalogWriteFailed
from exporter.handlers.parking import Parking
from exporter.handlers.reading import Reading
from exporter.service.load import Load
from exporter.service.projection import Batch, Projection

R = TypeVar("R")

_TELL_EVERY = 10.0
"""Seconds between two lines of the log."""


class Loading:
    """One load. All work on the database happens in ``thread``."""

    def __init__(
        self,
        *,
        projection: Projection,
        thread: Executor,
        parking: Parking,
        stop: asyncio.Event,
        changed: Callable[[], None],
    ) -> None:
        self._projection = projection
        self._thread = thread
        self._parking = parking
        self._stop = stop
        self._changed = changed
        self._told = time.monotonic()
        self.count = 0
        """Facts that were read and are not in the rows."""
        self.progress: dict[str, Any] = {"step": "reading", "done": 0, "of": 0}
        """The step, and how much of it is done, of how much."""

    async def run(
        self, reading: Reading, *, goal: int, facts: int, still_ours: Callable[[int], Awaitable[bool]]
    ) -> None:
        """Read up to the sequence ``goal``, about so many facts, and make the catalog of them.

        ``still_ours`` says whether the stream is still the one of which all was read up to a sequence. When it is
        not, and when told to stop, the catalog stays as empty as it was. Raises CatalogWriteFailed.
        """
        connection = self._projection.connection
        try:
            load = await self._in_thread(self._begin)
            async with reading.ahead(after=0):
                idle = False
                while load.sequence < goal and not idle:
                    batch, idle = await reading.next()
                    if not await still_ours(load.sequence) or self._stop.is_set():
                        return
                    await self._parking.park(batch.unreadable)
                    if batch.count:
                        await self._in_thread(partial(self._add, load, batch))
                    self.count = load.count
                    self._tell("reading", load.count, facts)
            if await still_ours(load.sequence):
                await self._finish(load)
        finally:
            await self._in_thread(partial(detach_beside, connection))

    def _begin(self) -> Load:
        with write_errors():
            attach_beside(self._projection.connection)
            return Load(self._projection)

    def _add(self, load: Load, batch: Batch) -> None:
        with write_errors():
            load.add(batch)

    async def _finish(self, load: Load) -> None:
        loop = asyncio.get_running_loop()

        def tell(step: str, done: int, of: int) -> None:
            loop.call_soon_threadsafe(self._tell, step, done, of)

        def finish() -> None:
            with write_errors(), without_log(self._projection.connection):
                load.finish(tell)

        finishing = loop.run_in_executor(self._thread, finish)
        stopped = asyncio.create_task(self._stop.wait())
        either: set[asyncio.Future[Any]] = {finishing, stopped}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            while not finishing.done():
                # More than once: between two statements there is nothing to interrupt.
                interrupt(self._projection.connection)
                await asyncio.wait({finishing}, timeout=0.1)
        with contextlib.suppress(CatalogWriteFailed) if self._stop.is_set() else contextlib.nullcontext():
            await finishing

    def _tell(self, step: str, done: int, of: int) -> None:
        new = step != self.progress["step"]
        self.progress = {"step": step, "done": done, "of": of}
        if new or time.monotonic() - self._told > _TELL_EVERY:
            self._told = time.monotonic()
            get_logger().info("loading the catalog", step=step, done=done, of=of)
        self._changed()

    async def _in_thread(self, work: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
