"""From the bus into the catalog: batches of facts, each decoded, reported where unreadable, and written."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import nats.errors

from common.bus import Bus, Replay, Stored, StreamReplaced
from common.contracts.status import DeadLetter, Reason
from common.errors import BusUnavailable
from common.telemetry import get_logger
from exporter.adapters.database import write_errors
from exporter.errors import CatalogWriteFailed
from exporter.service.continuity import judge
from exporter.service.decoding import UNREADABLE, Unreadable
from exporter.service.projection import Batch, Position, Projection, read_batch

R = TypeVar("R")
Read = list[Stored] | Exception

_AT_ONCE = 1000
"""Messages of one pull."""
_IN_ONE_TRANSACTION = 8000
"""More facts share the cost of a sync to the disk; fewer are done sooner."""
_BYTES_IN_ONE_TRANSACTION = 32_000_000
"""Pages of playlists are larger than other facts: memory must not depend on what is stored."""
_READ_AHEAD = 4
"""Batches that are read while one is written."""
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
        self._bus = bus
        self._replay = replay
        self._projection = projection
        self._thread = thread
        self._stop = stop
        self._changed = changed
        self._doubt = False
        self._goal = 0
        self._unwritten = 0
        self.position: Position = projection.position()
        self.problem: Reason | None = None
        self.trusted = False
        """Whether the bus was found to be the one that the rows come from."""
        self.caught_up = False
        """Whether the rows have reached what the stream held when we began; before that they show a past state."""
        bus.on_reconnect(self._reconnected)

    @property
    def lag(self) -> int:
        """Facts that the bus holds beyond the rows."""
        return self._replay.pending + self._unwritten

    @property
    def problems(self) -> int:
        """Facts that are kept out of the rows."""
        return self._projection.problems

    async def run(self) -> None:
        """Project until told to stop."""
        while not self._stop.is_set():
            if not await self._stream_is_ours():
                await self._pause(_LOOK_AGAIN)
                continue
            try:
                await self._follow()
            except (nats.errors.Error, TimeoutError, StreamReplaced) as error:
                get_logger().warning("reading the catalog's facts again", reason=str(error) or type(error).__name__)
                await self._pause(_LOOK_AGAIN)

    async def _stream_is_ours(self) -> bool:
        """Ask the bus where the stream stands; say so when the catalog is not of this stream."""
        try:
            state = await self._replay.stream_state()
        except (nats.errors.Error, TimeoutError):
            self.problem = Reason(
                code="stream-missing",
                message="The bus does not tell of the stream CATALOG. Is the console running? It makes the streams.",
            )
            return False
        reason = judge(self.position, created=state.created, last_sequence=state.last_sequence)
        if reason != self.problem and reason is not None:
            get_logger().error("stopped reading facts", reason=reason.message)
        self.problem = reason
        self.trusted = reason is None
        if reason is not None:
            return False
        if self.position.stream_created is None:
            await self._in_thread(lambda: self._projection.adopt_stream(state.created))
            self.position = self._projection.position()
        self._goal = state.last_sequence
        self._doubt = False
        return True

    async def _follow(self) -> None:
        """Read and write until something is in doubt; what was read ahead and not written is read again."""
        async with self._read_ahead() as batches:
            loop = asyncio.get_running_loop()
            checked = loop.time()
            while not self._stop.is_set():
                messages, idle = await self._next(batches)
                if self._doubt:
                    return
                if messages:
                    await self._write(messages)
                    self._unwritten -= len(messages)
                self.caught_up = self.caught_up or idle or self.position.sequence >= self._goal
                if idle and loop.time() - checked > _CHECK_STREAM_EVERY:
                    checked = loop.time()
                    if not await self._stream_is_ours():
                        return

    async def _next(self, batches: asyncio.Queue[Read]) -> tuple[list[Stored], bool]:
        """What has been read, as one batch, and whether the stream had nothing more."""
        getting, stopped = asyncio.create_task(batches.get()), asyncio.create_task(self._stop.wait())
        await asyncio.wait({getting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not getting.done():
            getting.cancel()
            return [], False
        messages: list[Stored] = []
        size = 0
        read = getting.result()
        while True:
            if isinstance(read, Exception):
                raise read
            messages += read
            size += sum(len(message.data) for message in read)
            full = len(messages) >= _IN_ONE_TRANSACTION or size >= _BYTES_IN_ONE_TRANSACTION
            if not read or full or batches.empty():
                return messages, not read
            read = batches.get_nowait()

    async def _write(self, messages: list[Stored]) -> None:
        batch: Batch = await self._in_thread(lambda: read_batch(messages))
        for unreadable in batch.unreadable:
            await self._report(unreadable)
        while not self._stop.is_set():
            try:
                await self._in_thread(lambda: self._apply(batch))
                break
            except CatalogWriteFailed as error:
                if self.problem != error.reason:
                    get_logger().error("catalog not written", reason=error.message)
                self.problem = error.reason
                await self._pause(_LOOK_AGAIN)
        else:
            return
        self.problem = None
        self._changed()

    def _apply(self, batch: Batch) -> None:
        with write_errors():
            self._projection.apply(batch)
            self.position = self._projection.position()

    async def _report(self, unreadable: Unreadable) -> None:
        """Into DEAD before it is passed over, so that a crash between the two repeats it."""
        get_logger().warning("fact not readable", subject=unreadable.subject, reason=unreadable.reason)
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
                await self._pause(_LOOK_AGAIN)
            else:
                return

    async def _in_thread(self, work: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _reconnected(self) -> None:
        """Behind the same address there may now be another server: look before reading on."""
        self._doubt = True

    @contextlib.asynccontextmanager
    async def _read_ahead(self) -> AsyncIterator[asyncio.Queue[Read]]:
        """A queue that is filled from the stream while its reader is busy; an error comes last."""
        queue: asyncio.Queue[Read] = asyncio.Queue(_READ_AHEAD)
        self._unwritten = 0

        async def read() -> None:
            batches = self._replay.batches(after=self.position.sequence, max_messages=_AT_ONCE)
            try:
                async for batch in batches:
                    self._unwritten += len(batch)
                    await queue.put(batch)
            except Exception as error:  # raised again by whoever takes it from the queue
                await queue.put(error)

        reading = asyncio.create_task(read())
        try:
            yield queue
        finally:
            # A cancellation that meets the arrival of a message is lost in wait_for (Python 3.11): say it again.
            while not reading.done():
                reading.cancel()
                await asyncio.wait({reading}, timeout=0.1)
            self._unwritten = 0
