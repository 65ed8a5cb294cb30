"""Following the job state: pushed when it changes, read again when it must be exact."""

from __future__ import annotations

import asyncio

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from common.bus.connection import Bus
from common.bus.streams import JOBS_STREAM
from common.contracts.envelope import decode
from common.contracts.jobs import JOBS_BUCKET, JOBS_KEY, JobsState

JOBS_SUBJECT = f"$KV.{JOBS_BUCKET}.{JOBS_KEY}"


class JobsFollower:
    """The newest job state that this process has seen."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._sequence = 0
        self._waiters: list[asyncio.Event] = []
        self._subscription: Subscription | None = None
        self.state = JobsState()

    async def start(self) -> None:
        """Subscribe and read the state once. A push is only a hint: the entry itself is read."""
        if self._subscription is None:
            self._subscription = await self._bus.nc.subscribe(JOBS_SUBJECT, cb=self._pushed)
            self._bus.on_reconnect(self._read_again)
        await self.refresh()

    async def refresh(self) -> JobsState:
        """Read the entry and return it. Exact: what was written before this call is seen."""
        stored = await self._bus.last(JOBS_STREAM, JOBS_SUBJECT)
        if stored is None:
            self._take(0, JobsState())
        elif stored.sequence != self._sequence:
            self._take(stored.sequence, decode(stored.data, JobsState).data)
        return self.state

    async def wait_change(self, timeout: float) -> bool:
        """Wait until the state changes, at most ``timeout`` seconds; True if it did."""
        event = asyncio.Event()
        self._waiters.append(event)
        try:
            await asyncio.wait_for(event.wait(), timeout)
        except TimeoutError:
            return False
        finally:
            self._waiters.remove(event)
        return True

    def _take(self, sequence: int, state: JobsState) -> None:
        if sequence < self._sequence and state.revision < self.state.revision:
            return
        changed = sequence != self._sequence
        self._sequence, self.state = sequence, state
        if changed:
            for event in self._waiters:
                event.set()

    async def _pushed(self, _: Msg) -> None:
        await self.refresh()

    async def _read_again(self) -> None:
        await self.refresh()
