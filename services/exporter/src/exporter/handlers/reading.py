"""Reading ahead: the next facts are fetched and decoded while the last ones are written."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator

from common.bus import Replay, Stored
from exporter.adapters.decoder import Decoder
from exporter.service.projection import Batch, read_batch

_AT_ONCE = 1000
"""Messages of one pull."""
_AHEAD = 32_000
"""Messages that are read ahead, and become one batch: more share a sync to the disk, and the pages that they touch."""
_BYTES_AHEAD = 32_000_000
"""Pages of playlists are larger than other facts: memory must not depend on what is stored."""
_FOR_TWO = 10_000
"""With so many to read, a second process decodes them: it takes half a second to start."""


class Reading:
    """One pass over the stream after the other, each within ``ahead``."""

    def __init__(self, replay: Replay, *, stop: asyncio.Event) -> None:
        self._replay = replay
        self._stop = stop
        self._reset()

    def _reset(self) -> None:
        self._read: deque[tuple[list[Stored], bool]] = deque()
        self._error: Exception | None = None
        self._some, self._room = asyncio.Event(), asyncio.Event()
        self._size = 0
        self._decoder: Decoder | None = None
        self._decoding: asyncio.Task[tuple[Batch, bool]] | None = None
        self.waiting = 0
        """Messages that were read and not handed over yet."""

    @contextlib.asynccontextmanager
    async def ahead(self, *, after: int) -> AsyncIterator[None]:
        """Read what follows ``after`` as long as this is open; what was not handed over then is read again."""
        self._reset()
        reading = asyncio.create_task(self._fetch(after))
        try:
            yield
        finally:
            # A cancellation that meets the arrival of a message is lost in wait_for (Python 3.11): say it again.
            for task in (reading, self._decoding):
                while task is not None and not task.done():
                    task.cancel()
                    await asyncio.wait({task}, timeout=0.1)
                if task is not None and not task.cancelled():
                    task.exception()  # whoever had to know has been told
            self._end_decoder()
            self._reset()

    async def next(self) -> tuple[Batch, bool]:
        """All that has been read, as one batch, and whether the stream had nothing more.

        Raises what the reading raised. The batch is empty where there was nothing more, where the bus did not
        answer, and, at once, when told to stop.
        """
        decoding = self._decoding or asyncio.create_task(self._decode())
        stopped = asyncio.create_task(self._stop.wait())
        either: set[asyncio.Task[object]] = {decoding, stopped}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        self._decoding = decoding
        if not decoding.done():
            return Batch(), False
        batch, idle = decoding.result()
        self.waiting -= batch.count
        self._decoding = asyncio.create_task(self._decode())
        return batch, idle

    async def _fetch(self, after: int) -> None:
        try:
            async for messages in self._replay.batches(after=after, max_messages=_AT_ONCE):
                self._read.append((messages, self._replay.at_end))
                self._some.set()
                self.waiting += len(messages)
                self._size += sum(len(message.data) for message in messages)
                while self._size >= _BYTES_AHEAD or len(self._read) * _AT_ONCE >= _AHEAD:
                    self._room.clear()
                    await self._room.wait()
        except Exception as error:  # raised again by whoever takes what was read
            self._error = error
            self._some.set()

    async def _decode(self) -> tuple[Batch, bool]:
        await self._some.wait()
        read, self._read, self._size = self._read, deque(), 0
        self._room.set()
        if not read and self._error is not None:
            raise self._error
        if self._error is None:
            self._some.clear()
        messages = [message for some, _ in read for message in some]
        idle = read[-1][1]
        if self._decoder is None and len(messages) + self._replay.pending >= _FOR_TWO:
            self._decoder = Decoder()
        batch = await asyncio.to_thread(self._decoder.decode if self._decoder else read_batch, messages)
        if idle:
            self._end_decoder()
        return batch, idle

    def _end_decoder(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None
