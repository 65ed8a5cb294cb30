"""Keeping the record up to the streams, and saying how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

import nats.errors
import nats.js.errors

from collector.errors import RecordBehind, RecordUnwritable
from common.bus.connection import Bus, Stored
from common.bus.replay import Replay, StreamState
from common.contracts.readers import COLLECTOR, COLLECTOR_STATUS
from common.contracts.status import Reason
from common.errors import BusUnavailable, DatabaseDown
from common.telemetry import get_logger

from .apply import CATALOG_KEY, STATUS_KEY, Writer

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

READERS = {CATALOG_KEY: COLLECTOR, STATUS_KEY: COLLECTOR_STATUS}
_WRITE_AGAIN = 2.0
"""Seconds until a batch that the disk did not take is written again."""


class Follower:
    """Applies one stream to the record, for ever."""

    def __init__(
        self,
        *,
        bus: Bus,
        writer: Writer,
        thread: ThreadPoolExecutor,
        key: str,
        on_songs: Callable[[dict[int, str]], None] | None = None,
    ) -> None:
        """``thread``: the one thread that writes the database."""
        self._writer = writer
        self._thread = thread
        self._key = key
        self._on_songs = on_songs
        self._replay = Replay.of(bus, READERS[key])
        self._sequence = 0
        self._moved = asyncio.Condition()
        self._rounds = 0
        self._waiting = 0
        self._answer: asyncio.Future[int] | None = None
        self._next_answer: asyncio.Future[int] | None = None
        self._unwritable: RecordUnwritable | None = None
        self.caught_up = False
        """Whether it was level with the stream once since the start."""

    @property
    def lag(self) -> int:
        return self._replay.pending

    async def state(self) -> StreamState:
        """Where the stream stands now. Raises :class:`BusUnavailable`."""
        try:
            return await self._replay.stream_state()
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError):
            raise BusUnavailable("The bus does not say where its streams stand.") from None

    async def last_sequence(self) -> int:
        """The last sequence of the stream, asked after this call began. Callers at the same time share one answer."""
        if self._next_answer is None:
            self._next_answer = asyncio.ensure_future(self._ask_after(self._answer))
        return await asyncio.shield(self._next_answer)

    async def _ask_after(self, earlier: asyncio.Future[int] | None) -> int:
        if earlier is not None:
            await asyncio.wait({earlier})
        # From here on a new caller must not share this answer: it may be older than the call.
        self._answer, self._next_answer = self._next_answer, None
        return (await self.state()).last_sequence

    async def run(self) -> None:
        """Follow the stream from where the record is; begin anew when the stream is not the one known."""
        state = await self._first_state()
        identity = str(state.created)
        sequence, known = await self._write(self._writer.place, self._key)
        if known != identity or sequence > state.last_sequence:
            if known:
                get_logger().warning("the stream is another one; the record of it is made anew", stream=self._key)
            await self._write(self._writer.reset, self._key, identity)
            sequence = 0
        await self._advance(sequence)
        level: int | None = None
        async for batch in self._replay.batches(after=sequence, max_messages=2000, max_wait=0.5):
            if batch:
                digests = await self._write(self._apply, batch, identity)
                sequence, level = batch[-1].sequence, None
                if self._on_songs is not None:
                    self._on_songs(digests)
            elif level is not None:
                # Nothing came after we asked: what is missing up to there was deleted.
                sequence = max(sequence, level)
            await self._advance(sequence)
            level = await self._last_if_waited_for(bool(batch))

    async def _write(self, call: Callable[[*Ts], T], *values: *Ts) -> T:
        """Write, however long the disk takes nothing: what follows may not come before it."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                result = await loop.run_in_executor(self._thread, call, *values)
            except DatabaseDown as error:
                if self._unwritable is None:
                    self._unwritable = _unwritable(error)
                    get_logger().error("record not written", reason=self._unwritable.message)
                await asyncio.sleep(_WRITE_AGAIN)
            else:
                self._unwritable = None
                return result

    def _apply(self, batch: list[Stored], identity: str) -> dict[int, str]:
        if self._key == CATALOG_KEY:
            return self._writer.apply_catalog(batch, identity)
        self._writer.apply_status(batch, identity)
        return {}

    async def _first_state(self) -> StreamState:
        while True:
            try:
                return await self.state()
            except BusUnavailable as error:
                get_logger().warning("waiting for the bus", reason=error.message)
                await asyncio.sleep(0.5)

    async def _last_if_waited_for(self, moving: bool) -> int | None:
        if moving or not self._waiting:
            return None
        try:
            return (await self.state()).last_sequence
        except BusUnavailable:
            return None

    async def _advance(self, sequence: int) -> None:
        async with self._moved:
            self._sequence = sequence
            self._rounds += 1
            if not self.caught_up and self._replay.pending == 0 and self._rounds > 1:
                self.caught_up = True
            self._moved.notify_all()

    async def reach(self, sequence: int, *, patience: float) -> None:
        """Wait until everything up to ``sequence`` is applied. Raises :class:`RecordBehind` after ``patience`` s."""
        if self._sequence >= sequence:
            return
        self._waiting += 1
        try:
            async with asyncio.timeout(patience), self._moved:
                await self._moved.wait_for(lambda: self._sequence >= sequence)
        except TimeoutError:
            raise self._behind(sequence - self._sequence) from None
        finally:
            self._waiting -= 1

    async def be_level(self, *, patience: float) -> None:
        """Wait until it was level with the stream once. Raises :class:`RecordBehind` after ``patience`` s."""
        if self.caught_up:
            return
        try:
            async with asyncio.timeout(patience), self._moved:
                await self._moved.wait_for(lambda: self.caught_up)
        except TimeoutError:
            raise self._behind(self._replay.pending) from None

    def problem(self) -> Reason | None:
        """Why nothing can be planned now, or None."""
        if self._unwritable is not None:
            return self._unwritable.reason
        return None if self.caught_up else self._behind(self._replay.pending).reason

    def _behind(self, missing: int) -> RecordBehind:
        if self._unwritable is not None:
            return self._unwritable
        what = "what is known and stored" if self._key == CATALOG_KEY else "what was given up"
        return RecordBehind(
            f"The record of {what} is being read from the bus ({missing} messages to go).", retry_after=2.0
        )


def _unwritable(error: DatabaseDown) -> RecordUnwritable:
    sentence = error.message.replace("The database", "The collector's record", 1)
    return RecordUnwritable(sentence, retry_after=error.retry_after)
