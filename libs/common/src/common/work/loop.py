"""The work loop: take an item, look at the gate, do it, say so, ack. All stages share it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime

import nats.errors
from nats.aio.msg import Msg

from common.bus.connection import Bus
from common.bus.jobs import JobsFollower
from common.contracts.envelope import now
from common.contracts.names import Stage
from common.contracts.status import CurrentItem, Hold
from common.errors import BusUnavailable
from common.settings import Settings
from common.telemetry import get_logger
from common.work.attempt import Attempt, OnTry, Untried
from common.work.context import Handler, ItemContext
from common.work.decide import HoldLane, hold_delay
from common.work.journal import Journal
from common.work.planner import Planner
from common.work.pull import Delivery, LaneGone, Puller, consumer_of
from common.work.turns import LaneState, Turns

_IDLE_WAIT = 0.5
"""Seconds an idle slot waits on one lane before it looks at the others: resume is felt within a second."""
_LIMITED_WAIT = 0.1
"""The same on a lane that may be full: there the server would keep a question that does not wait, and answer it
with an item when the slot is busy elsewhere."""
_EMPTY_REST = 0.2
_GONE_REST = 1.0
"""Seconds before a lane whose consumer does not answer is asked again: each question costs a slot 2 s."""
_ERROR_PAUSE = 1.0
_FINISH_PATIENCE = 0.3
"""Seconds that items in hand have to end by themselves when the process ends: short ones do."""
_STOP_PATIENCE = 1.7
"""Seconds that the others then have to give themselves back."""


class WorkLoop:
    """Serves the lanes of the stages that it has handlers for, ``concurrency`` items at a time."""

    def __init__(
        self,
        *,
        bus: Bus,
        jobs: JobsFollower,
        handlers: Mapping[Stage, Handler],
        settings: Settings,
        concurrency: int = 4,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        self._bus = bus
        self._jobs = jobs
        self._handlers = handlers
        self._settings = settings
        self.concurrency = concurrency
        self.on_change: Callable[[], None] = on_change or (lambda: None)
        self.on_try: OnTry = lambda *_: None
        """Told of each try when it has ended."""
        service, _, instance = bus.producer.partition(".")
        self._worker = instance
        self._journal = Journal(bus=bus, service=service, instance=instance)
        self._planner = Planner(bus)
        self._turns = Turns(stages=frozenset(handlers))
        self._seen_revision = -1
        self._in_hand: dict[int, ItemContext] = {}
        self.stages = frozenset(handlers)
        self.bytes_total = 0
        self.items_total = 0
        self._stop = asyncio.Event()
        self._resized = asyncio.Event()
        self._slots = 0

    def resize(self, concurrency: int) -> None:
        """Serve so many items at a time from now on. What is in hand beyond that is finished first."""
        self.concurrency = concurrency
        self._resized.set()
        self.on_change()

    @property
    def items(self) -> tuple[CurrentItem, ...]:
        """The items in hand."""
        return tuple(context.current() for context in self._in_hand.values())

    @property
    def holds(self) -> tuple[Hold, ...]:
        """The lanes that are not polled now, and why."""
        moment, wall = time.monotonic(), now().timestamp()
        return tuple(
            Hold(
                job_id=state.job_id,
                stage=state.lane.stage,
                lane=state.lane.name,
                reason=state.hold,
                since=_wall(wall - (moment - state.held_since)),
                until=_wall(wall + state.held_until - moment),
            )
            for state in self._turns.held(moment)
            if state.hold is not None
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop``; items in hand are then given back."""
        self._stop = stop
        slots: set[asyncio.Task[None]] = set()
        stopped = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                self._resized.clear()
                slots |= {self._open_slot() for _ in range(self._slots, self.concurrency)}
                resized = asyncio.create_task(self._resized.wait())
                try:
                    done, _ = await asyncio.wait([stopped, resized, *slots], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    resized.cancel()
                for slot in done & slots:
                    slot.result()
                slots -= done
        finally:
            stopped.cancel()
            await _ended(slots, timeout=_FINISH_PATIENCE)
            for context in self._in_hand.values():
                context.canceled.set()
            for slot in slots:
                slot.cancel()
            await _ended(slots, timeout=_STOP_PATIENCE)

    def _open_slot(self) -> asyncio.Task[None]:
        self._slots += 1
        return asyncio.create_task(self._slot(), name=f"slot-{self._slots}")

    def _one_too_many(self) -> bool:
        """Whether the slot that asks is to end; at once it is no longer counted."""
        if self._slots <= self.concurrency:
            return False
        self._slots -= 1
        return True

    async def _slot(self) -> None:
        puller = await Puller.open(self._bus, lease=self._settings.lease_seconds)
        try:
            while not self._stop.is_set() and not self._one_too_many():
                taken = None
                try:
                    taken = await self._next(puller)
                    if taken is not None:
                        await self._serve(*taken, since=puller.asked_at)
                except (BusUnavailable, nats.errors.Error) as error:
                    if self._bus.nc.is_closed:
                        raise BusUnavailable("the connection to the bus was closed") from None
                    get_logger().warning("work waits for the bus", reason=str(error) or type(error).__name__)
                    await asyncio.sleep(_ERROR_PAUSE)
                except Exception as error:  # one item must not end the others; its lease brings it again
                    subject = taken[1].subject if taken is not None else None
                    get_logger().error("item left to its lease by a bug", subject=subject, exc_info=error)
                    await asyncio.sleep(_ERROR_PAUSE)
        finally:
            with suppress(nats.errors.Error, TimeoutError):
                for message in await puller.close():
                    await Delivery(self._bus, message).nak()

    async def _next(self, puller: Puller) -> tuple[LaneState, Msg] | None:
        """An item and its lane; None after a short wait without one."""
        if self._seen_revision != self._jobs.state.revision:
            self._turns.follow(self._jobs.state)
            self._seen_revision = self._jobs.state.revision
        for state in self._turns.order(time.monotonic()):
            wait = 0.0 if state.lane.share is None else _LIMITED_WAIT
            if (taken := await self._take(puller, state, wait=wait)) is not None:
                return taken
        idle = self._turns.idle(time.monotonic())
        if idle is None:
            await self._jobs.wait_change(_IDLE_WAIT)
            return None
        return await self._take(puller, idle, wait=_IDLE_WAIT)

    async def _take(self, puller: Puller, state: LaneState, *, wait: float) -> tuple[LaneState, Msg] | None:
        # It counts as in hand while it is asked for: a lane that recovers gives one item at a time.
        state.in_hand += 1
        try:
            message = await puller.take(state.lane.consumer, wait=wait)
        except LaneGone:
            state.gone_until = time.monotonic() + _GONE_REST
            return None
        finally:
            state.in_hand -= 1
        if message is None:
            state.empty_until = max(state.empty_until, time.monotonic() + _EMPTY_REST)
            return None
        of = self._turns.lanes.get(consumer_of(message))
        if of is None:
            await Delivery(self._bus, message).nak()
            return None
        of.in_hand += 1
        of.empty_until = 0.0
        self._turns.served(of)
        return of, message

    async def _serve(self, state: LaneState, message: Msg, *, since: float) -> None:
        delivery = Delivery(self._bus, message, since=since)
        attempt = Attempt(
            bus=self._bus,
            jobs=self._jobs,
            journal=self._journal,
            planner=self._planner,
            handler=self._handlers[state.lane.stage],
            stage=state.lane.stage,
            settings=self._settings,
            worker=self._worker,
            on_bytes=self._count_bytes,
            on_start=self._started,
            on_end=self._ended,
            in_hand=lambda subject: any(one.item.subject == subject for one in self._in_hand.values()),
            on_try=self.on_try,
        )
        try:
            held = await attempt.run(delivery)
        finally:
            state.in_hand -= 1
        self.items_total += 1
        self._note_hold(state, held)

    def _note_hold(self, state: LaneState, held: HoldLane | Untried | None) -> None:
        if isinstance(held, Untried):
            return
        moment = time.monotonic()
        if held is None:
            # One that was begun before the hold and ends well meanwhile proves nothing.
            if state.hold is not None and moment >= state.held_until:
                state.hold, state.holds_in_a_row = None, 0
                self.on_change()
            return
        if state.hold is None:
            state.held_since = moment
        if moment >= state.held_until:
            state.holds_in_a_row += 1
            state.held_until = moment + hold_delay(held.seconds, holds_in_a_row=state.holds_in_a_row)
        state.hold = held.reason
        self.on_change()

    def _started(self, context: ItemContext) -> None:
        self._in_hand[id(context)] = context
        self.on_change()

    def _ended(self, context: ItemContext) -> None:
        self._in_hand.pop(id(context), None)
        self.on_change()

    def _count_bytes(self, count: int) -> None:
        self.bytes_total += count


async def _ended(slots: set[asyncio.Task[None]], *, timeout: float) -> None:
    if slots:
        await asyncio.wait(slots, timeout=timeout)


def _wall(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)
