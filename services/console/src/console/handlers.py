"""What arrives from the bus: statuses into the ledger, log lines, heartbeats into the fleet."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Protocol

from nats.aio.msg import Msg

from common.bus.connection import Bus, Stored
from common.bus.replay import Replay
from common.contracts.envelope import UndecodableMessage, decode, now
from common.contracts.readers import CONSOLE_LOG, CONSOLE_STATUS
from common.contracts.status import Heartbeat, ItemStatus, LogEntry, Reason
from common.contracts.streams import LOG, STATUS
from common.telemetry import get_logger
from console.adapters.ledger import ItemStore, JournalStore, Pruner
from console.adapters.ledger.items import Told
from console.adapters.ledger.journal import Line, WorkerSeen
from console.errors import LedgerUnwritable
from console.service.fleet import Fleet, status_of

_BATCH = 1000
_PRUNED_AT_ONCE = 2000
_PRUNE_PAUSE = 0.2
"""Seconds between two steps, in which others write."""
_WRITE_AGAIN = 2.0
"""Seconds until a batch that the disk did not take is written again."""


class Store(Protocol):
    """Where a projection keeps its place."""

    def position(self) -> tuple[int, str | None]: ...
    def restart(self, stream_created: str | None) -> None: ...


class Projector:
    """Reads one stream into the ledger, in order and without a gap."""

    def __init__(
        self,
        *,
        replay: Replay,
        store: Store,
        apply: Callable[[list[Stored]], None],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """``apply`` commits a batch together with its last sequence; it blocks, and runs in a thread."""
        self._replay = replay
        self._store = store
        self._apply = apply
        self._on_change = on_change
        self._reached = asyncio.Condition()
        self.sequence = 0
        self.problem: Reason | None = None
        """Why nothing is written now."""

    @property
    def lag(self) -> int:
        """Messages that are not in the ledger yet."""
        return self._replay.pending

    async def start(self) -> None:
        """Find the place to go on from; a stream that was made anew is read from its beginning."""
        stream = await self._replay.stream_state()
        created = stream.created.isoformat() if stream.created else None
        sequence, known = await asyncio.to_thread(self._store.position)
        if known != created or stream.last_sequence < sequence:
            if sequence:
                get_logger().warning("the stream is another than before; it is read from its beginning")
            await asyncio.to_thread(self._store.restart, created)
            sequence = 0
        self.sequence = sequence

    async def run(self, stop: asyncio.Event) -> None:
        """Project until ``stop``."""
        projecting = asyncio.create_task(self._project())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({projecting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if projecting.done():
            projecting.result()
        projecting.cancel()
        # A batch that is being written is finished by its thread; the database closes after it.
        await asyncio.wait({projecting})

    async def wait_for(self, sequence: int, timeout: float) -> bool:
        """Wait until ``sequence`` is in the ledger; False after ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout), self._reached:
                await self._reached.wait_for(lambda: self.sequence >= sequence)
        except TimeoutError:
            return False
        return True

    async def _project(self) -> None:
        async for batch in self._replay.batches(after=self.sequence, max_messages=_BATCH):
            if not batch:
                continue
            await self._write(batch)
            async with self._reached:
                self.sequence = batch[-1].sequence
                self._reached.notify_all()
            self._on_change()

    async def _write(self, batch: list[Stored]) -> None:
        """Write it, however long the disk takes nothing: the order allows no other batch before it."""
        while True:
            try:
                await asyncio.to_thread(self._apply, batch)
            except LedgerUnwritable as error:
                if self.problem is None:
                    get_logger().error("not written", reason=error.message)
                self.problem = Reason(code=error.code, message=error.message)
                await asyncio.sleep(_WRITE_AGAIN)
            else:
                self.problem = None
                return


def status_projector(*, bus: Bus, items: ItemStore, on_change: Callable[[], None]) -> Projector:
    """STATUS into the items of the ledger."""

    def apply(batch: list[Stored]) -> None:
        told = [one for stored in batch if (one := _read(stored)) is not None]
        items.apply(told, sequence=batch[-1].sequence)

    return Projector(
        replay=Replay(bus, stream=STATUS, consumer=CONSOLE_STATUS.name), store=items, apply=apply, on_change=on_change
    )


def log_projector(*, bus: Bus, journal: JournalStore) -> Projector:
    """LOG into the lines that people read."""

    def apply(batch: list[Stored]) -> None:
        lines = [one for stored in batch if (one := _line(stored)) is not None]
        journal.add(lines, sequence=batch[-1].sequence)

    return Projector(replay=Replay(bus, stream=LOG, consumer=CONSOLE_LOG.name), store=journal, apply=apply)


def _read(stored: Stored) -> Told | None:
    """The status, or None for what is not one: it must not stop the projection."""
    try:
        envelope = decode(stored.data, ItemStatus)
    except UndecodableMessage as error:
        get_logger().warning("not a status of ours", subject=stored.subject, reason=str(error))
        return None
    if envelope.data.subject != stored.subject:
        get_logger().warning("a status under the subject of another item", subject=stored.subject)
        return None
    return Told(sequence=stored.sequence, at=envelope.time, status=envelope.data)


def _line(stored: Stored) -> Line | None:
    try:
        envelope = decode(stored.data, LogEntry)
    except UndecodableMessage as error:
        get_logger().warning("not a line of our log", subject=stored.subject, reason=str(error))
        return None
    return Line(sequence=stored.sequence, at=envelope.time, entry=envelope.data)


class HeartbeatListener:
    """Listens to heartbeats; nothing keeps them."""

    def __init__(self, *, bus: Bus, fleet: Fleet, on_change: Callable[[], None]) -> None:
        self._bus = bus
        self._fleet = fleet
        self._on_change = on_change

    async def start(self) -> None:
        """Subscribe; the client subscribes again by itself after a reconnection."""
        await self._bus.nc.subscribe("hb.>", cb=self._heard)

    async def _heard(self, message: Msg) -> None:
        try:
            beat = decode(message.data, Heartbeat).data
        except UndecodableMessage as error:
            get_logger().warning("not a heartbeat of ours", subject=message.subject, reason=str(error))
            return
        if beat.subject != message.subject:
            get_logger().warning("a heartbeat under another name", subject=message.subject)
            return
        self._fleet.observe(beat, time.monotonic())
        self._on_change()


class Forgetting:
    """Lets go of old history, a little at a time."""

    def __init__(self, *, pruner: Pruner, days: int, every: float = 3600.0) -> None:
        """``every``: seconds between two looks; ``days``: how long history is kept."""
        self._pruner = pruner
        self._kept = timedelta(days=days)
        self._every = every

    def keep(self, days: int) -> None:
        """Keep history so long from now on; at the next look."""
        self._kept = timedelta(days=days)

    async def run(self, stop: asyncio.Event) -> None:
        """Prune until ``stop``."""
        while not stop.is_set():
            removed = 0
            # What the disk does not take now is removed an hour later.
            with contextlib.suppress(LedgerUnwritable):
                while not stop.is_set():
                    count = await asyncio.to_thread(self._pruner.step, now() - self._kept, rows=_PRUNED_AT_ONCE)
                    removed += count
                    if not count:
                        break
                    await asyncio.sleep(_PRUNE_PAUSE)
            if removed:
                get_logger().info("history forgotten", rows=removed)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._every)


class WorkerRegister:
    """Writes down who was heard of, for those who ask later."""

    def __init__(self, *, fleet: Fleet, journal: JournalStore, every: float = 2.0) -> None:
        """``every``: seconds between two entries of the same process."""
        self._fleet = fleet
        self._journal = journal
        self._every = every
        self._known: dict[tuple[str, str], WorkerSeen] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Write until ``stop``."""
        while not stop.is_set():
            at, wall = time.monotonic(), now()
            seen = [
                WorkerSeen(
                    name=member.name,
                    service=member.beat.service,
                    instance=member.beat.instance,
                    status=status_of(member, at),
                    started_at=member.beat.started_at,
                    seen_at=wall - timedelta(seconds=max(0.0, at - member.seen)),
                )
                for member in self._fleet.members(at)
            ]
            now_there = {(one.service, one.instance): one for one in seen}
            ended = [one for key, one in self._known.items() if key not in now_there and one.status != "lost"]
            self._known = now_there
            # A register of a moment ago is worth nothing: what the disk does not take is left out.
            with contextlib.suppress(LedgerUnwritable):
                if seen or ended:
                    await asyncio.to_thread(
                        self._journal.seen, [*seen, *(replace(one, status="ended") for one in ended)]
                    )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._every)
