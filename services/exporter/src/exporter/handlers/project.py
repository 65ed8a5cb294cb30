"""From the bus into the catalog: batches of facts, each decoded, reported where unreadable, and written."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import nats.errors

from common.bus import Bus, Replay, StreamReplaced
from common.contracts.status import Reason
from common.telemetry import get_logger
from exporter.adapters.database import write_errors
from exporter.errors import CatalogWriteFailed
from exporter.handlers.load import Loading
from exporter.handlers.parking import Parking
from exporter.handlers.reading import Reading
from exporter.service.continuity import judge
from exporter.service.projection import Batch, Position, Projection

R = TypeVar("R")

_LOAD_FROM = 10_000
"""A new catalog of this many facts is loaded as a whole: of fewer, batch after batch is as fast."""
_LOOK_AGAIN = 2.0
"""Seconds between two looks at something that a person has to mend."""
_CHECK_STREAM_EVERY = 5.0
"""Seconds between two looks at the stream while it is idle."""


class Projector:
    """Keeps the catalog up to date with the bus. All work on the database happens in one thread."""

    def __init__(
        self,
        *,
        bus: Bus,
        replay: Replay,
        projection: Projection,
        thread: ThreadPoolExecutor,
        stop: asyncio.Event,
        changed: Callable[[], None],
    ) -> None:
        """``changed`` is called after each batch."""
        self._replay = replay
        self._projection = projection
        self._thread = thread
        self._stop = stop
        self._changed = changed
        self._parking = Parking(bus, stop=stop)
        self._reading = Reading(replay, stop=stop)
        self._loading: Loading | None = None
        self._may_load = True
        self._doubt = False
        self._goal = 0
        self._held = 0
        self._unwritten = 0
        self._problem: Reason | None = None
        self.position: Position = projection.position()
        self.trusted = False
        """Whether the bus was found to be the one that the rows come from."""
        self.caught_up = False
        """Whether the rows have reached what the stream held when we began; before that they show a past state."""
        bus.on_reconnect(self._reconnected)

    @property
    def problem(self) -> Reason | None:
        """What keeps facts from becoming rows."""
        return self._problem or self._parking.problem

    @property
    def lag(self) -> int:
        """Facts that the bus holds beyond the rows."""
        read = self._unwritten + (self._loading.count if self._loading else 0)
        return self._replay.pending + self._reading.waiting + read

    @property
    def problems(self) -> int:
        """Facts that are kept out of the rows."""
        return self._projection.problems

    @property
    def loading(self) -> dict[str, Any] | None:
        """While a new catalog is loaded: the step, and how much of it is done, of how much."""
        return self._loading.progress if self._loading else None

    async def run(self) -> None:
        """Project until told to stop."""
        while not self._stop.is_set():
            if not await self._stream_is_ours():
                await self._pause(_LOOK_AGAIN)
                continue
            try:
                if self._may_load and not self.position.sequence and self._held >= _LOAD_FROM:
                    await self._load()
                else:
                    await self._follow()
            except (nats.errors.Error, TimeoutError, StreamReplaced) as error:
                get_logger().warning("reading the catalog's facts again", reason=str(error) or type(error).__name__)
                await self._pause(_LOOK_AGAIN)

    async def _stream_is_ours(self, *, read: int = 0) -> bool:
        """Ask the bus where the stream stands; say so when the catalog is not of this stream.

        ``read``: how far it was read without being written.
        """
        try:
            state = await self._replay.stream_state()
        except (nats.errors.Error, TimeoutError):
            self._problem = Reason(
                code="stream-missing",
                message="The bus does not tell of the stream CATALOG. Is the console running? It makes the streams.",
            )
            return False
        position = dataclasses.replace(self.position, sequence=read) if read else self.position
        reason = judge(position, created=state.created, last_sequence=state.last_sequence)
        if reason != self._problem and reason is not None:
            get_logger().error("stopped reading facts", reason=reason.message)
        self._problem = reason
        self.trusted = reason is None
        if reason is not None:
            return False
        # While there are no rows yet, they may come from any stream.
        if self.position.stream_created != state.created and (
            self.position.stream_created is None or not self.position.sequence
        ):
            await self._in_thread(partial(self._projection.adopt_stream, state.created))
            self.position = self._projection.position()
        self._goal, self._held = state.last_sequence, state.messages
        self._doubt = False
        return True

    async def _load(self) -> None:
        """Make a new catalog of all that the stream holds; in doubt, it is begun again from nothing."""
        self._loading = Loading(
            projection=self._projection,
            thread=self._thread,
            parking=self._parking,
            stop=self._stop,
            changed=self._changed,
        )

        async def still_ours(sequence: int) -> bool:
            return not self._doubt or await self._stream_is_ours(read=sequence)

        try:
            await self._loading.run(self._reading, goal=self._goal, facts=self._held, still_ours=still_ours)
        except CatalogWriteFailed as error:
            # Batch after batch takes less room, and says what is wrong as long as it is.
            self._may_load = False
            get_logger().error("catalog not loaded as a whole", reason=error.message)
        finally:
            self.position = await self._in_thread(self._projection.position)
            self._loading = None
        self._changed()

    async def _follow(self) -> None:
        """Read and write until something is in doubt; what was read ahead and not written is read again."""
        loop = asyncio.get_running_loop()
        checked = loop.time()
        async with self._reading.ahead(after=self.position.sequence):
            while not self._stop.is_set():
                batch, idle = await self._reading.next()
                if self._doubt:
                    return
                if batch.count:
                    self._unwritten = batch.count
                    await self._write(batch)
                    self._unwritten = 0
                self.caught_up = self.caught_up or idle or self.position.sequence >= self._goal
                if idle and loop.time() - checked > _CHECK_STREAM_EVERY:
                    checked = loop.time()
                    if not await self._stream_is_ours():
                        return

    async def _write(self, batch: Batch) -> None:
        await self._parking.park(batch.unreadable)
        while not self._stop.is_set():
            try:
                await self._in_thread(partial(self._apply, batch))
                break
            except CatalogWriteFailed as error:
                if self._problem != error.reason:
                    get_logger().error("catalog not written", reason=error.message)
                self._problem = error.reason
                await self._pause(_LOOK_AGAIN)
        else:
            return
        self._problem = None
        self._changed()

    def _apply(self, batch: Batch) -> None:
        with write_errors():
            self._projection.apply(batch)
            self.position = self._projection.position()

    async def _in_thread(self, work: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _reconnected(self) -> None:
        """Behind the same address there may now be another server: look before reading on."""
        self._doubt = True
