"""Server-sent events: one publisher, many listeners, none of which can hold up the others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

MAX_LISTENERS = 200
_QUEUE = 16
"""Events that a slow listener may be behind; then the oldest go. Every event is whole, so nothing is missed."""


class Hub:
    """Events to everyone who listens."""

    def __init__(self, *, stop: asyncio.Event) -> None:
        """``stop`` ends all streams at once."""
        self._stop = stop
        self._queues: set[asyncio.Queue[tuple[str, str]]] = set()
        self._last: dict[str, str] = {}

    @property
    def listeners(self) -> int:
        return len(self._queues)

    def publish(self, event: str, data: Any) -> bool:
        """Send ``data`` as JSON to everyone; the same as last time is not sent."""
        text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
        if self._last.get(event) == text:
            return False
        self._last[event] = text
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait((event, text))
        return True

    async def listen(self) -> AsyncIterator[tuple[str, str]]:
        """Events as (name, JSON), the last of each first, until ``stop``."""
        queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue(_QUEUE)
        for item in self._last.items():
            queue.put_nowait(item)
        self._queues.add(queue)
        stopped = asyncio.create_task(self._stop.wait())
        try:
            while not self._stop.is_set():
                getting = asyncio.create_task(queue.get())
                try:
                    await asyncio.wait({getting, stopped}, return_when=asyncio.FIRST_COMPLETED)
                    if not getting.done():
                        return
                    yield getting.result()
                finally:
                    getting.cancel()
        finally:
            stopped.cancel()
            self._queues.discard(queue)
