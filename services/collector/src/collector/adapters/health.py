"""Looking at the sources now and then: a look may block, a heartbeat may not."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sources.registry import Sources

LOOK_PATIENCE = 10.0
"""A network folder that hangs is not available."""


class SourceWatch:
    """The health of all sources as last seen."""

    def __init__(self, *, sources: Sources, seconds: float) -> None:
        self._sources = sources
        self._seconds = seconds
        # A thread of its own: a look that hangs must not take one from the work.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="health")
        self.seen: list[dict[str, Any]] = []

    async def run(self) -> None:
        """Look for ever."""
        loop = asyncio.get_running_loop()
        look: asyncio.Future[list[dict[str, Any]]] | None = None
        while True:
            look = look or loop.run_in_executor(self._thread, self._look)
            done, _ = await asyncio.wait({look}, timeout=LOOK_PATIENCE)
            if done:
                self.seen, look = look.result(), None
                await asyncio.sleep(self._seconds)
            else:
                self.seen = [
                    {**one, "available": False, "message": "It does not answer; the look at it hangs."}
                    for one in self.seen
                ]

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _look(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "configured": health.configured, "available": health.available, "message": health.message}
            for name, health in self._sources.health().items()
        ]
