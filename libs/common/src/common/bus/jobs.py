"""Following the job state: pushed when it changes, read again when it must be exact."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from common.bus.connection import Bus
from common.bus.streams import JOBS_STREAM
from common.contracts.envelope import UndecodableMessage, decode
from common.contracts.jobs import JOBS_BUCKET, JOBS_KEY, JobsState
from common.errors import BusUnavailable
from common.telemetry import get_logger

JOBS_SUBJECT = f"$KV.{JOBS_BUCKET}.{JOBS_KEY}"
_LOOK_EVERY = 5.0
"""Seconds; a push can be lost with a connection, and a resume that nobody sees would last for ever."""
_RETRY = 1.0


class JobsFollower:
    """The newest job state that this process has seen."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._sequence = 0
        self._change: asyncio.Future[None] | None = None
        self._subscription: Subscription | None = None
        self._following: asyncio.Task[None] | None = None
        self._hint = asyncio.Event()
        self._reading: asyncio.Task[JobsState] | None = None
        self._coming: asyncio.Task[JobsState] | None = None
        self.state = JobsState()
        self.on_change: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Read the state and follow it while the bus is open. A push is only a hint: the entry itself is read."""
        if self._subscription is None:
            self._subscription = await self._bus.nc.subscribe(JOBS_SUBJECT, cb=self._pushed)
            self._bus.on_reconnect(self._reconnected)
        await self.refresh()
        if self._following is None:
            self._following = asyncio.create_task(self._follow(), name="jobs")

    async def refresh(self) -> JobsState:
        """Read the entry and return it. Exact: what was written before this call is seen.

        Raises BusUnavailable, also when what lies there is not a job state: then nothing may start.
        """
        # One reading answers all who asked before it was sent: busy slots ask a thousand times a second.
        if self._coming is None:
            self._coming = asyncio.create_task(self._read_next(self._reading))
        return await asyncio.shield(self._coming)

    async def _read_next(self, before: asyncio.Task[JobsState] | None) -> JobsState:
        if before is not None:
            await asyncio.wait({before})
        self._reading, self._coming = self._coming, None
        stored = await self._bus.last(JOBS_STREAM, JOBS_SUBJECT)
        if stored is None:
            self._take(0, JobsState())
        elif stored.sequence != self._sequence:
            try:
                state = decode(stored.data, JobsState).data
            except UndecodableMessage as error:
                raise BusUnavailable(f"the job state on the bus cannot be read: {error}") from None
            self._take(stored.sequence, state)
        return self.state

    @property
    def change(self) -> asyncio.Future[None]:
        """Done when the state changes next. It is the same for all who wait: look at the state after asking for it."""
        if self._change is None:
            self._change = asyncio.get_running_loop().create_future()
        return self._change

    async def wait_change(self, timeout: float) -> bool:
        """Wait until the state changes, at most ``timeout`` seconds; True if it did."""
        done, _ = await asyncio.wait({self.change}, timeout=timeout)
        return bool(done)

    def _take(self, sequence: int, state: JobsState) -> None:
        if sequence < self._sequence and state.revision < self.state.revision:
            return
        changed = sequence != self._sequence
        self._sequence, self.state = sequence, state
        if changed:
            if self._change is not None:
                self._change.set_result(None)
                self._change = None
            self.on_change()

    async def _follow(self) -> None:
        said = ""
        while not self._bus.nc.is_closed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hint.wait(), _LOOK_EVERY)
            self._hint.clear()
            try:
                await self.refresh()
            except BusUnavailable as error:
                if error.message != said and not self._bus.nc.is_closed:
                    get_logger().warning("job state not read", reason=error.message)
                said = error.message
                self._hint.set()
                await asyncio.sleep(_RETRY)
            else:
                said = ""

    async def _pushed(self, _: Msg) -> None:
        self._hint.set()

    async def _reconnected(self) -> None:
        self._hint.set()
