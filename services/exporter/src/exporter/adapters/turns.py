"""Work that is done one at a time, what is waited for before what is not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable


class Turns:
    """One turn at a time. Who is next is decided when the one before has ended."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting: list[tuple[asyncio.Future[None], Callable[[], bool]]] = []

    @contextlib.asynccontextmanager
    async def turn(self, wanted: Callable[[], bool]) -> AsyncIterator[None]:
        """Wait for a turn, and have it meanwhile: the first for whom ``wanted`` is true then, else the first of all."""
        if self._taken:
            mine = asyncio.get_running_loop().create_future()
            self._waiting.append((mine, wanted))
            try:
                await mine
            except asyncio.CancelledError:
                if not mine.cancelled():
                    self._pass_on()
                raise
        self._taken = True
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        # Without the one before, and those who were told to stop.
        self._waiting = [one for one in self._waiting if not one[0].done()]
        self._taken = bool(self._waiting)
        if self._waiting:
            mine, _ = next((one for one in self._waiting if one[1]()), self._waiting[0])
            mine.set_result(None)
