"""Reading a stream from a sequence on, in order and without a gap: what projections are fed by.

A pull consumer without acks keeps no state that could disagree with the reader's own: the reader
says where it stands, and after anything doubtful (a gap, a restart of the server) the consumer is
taken up again, or made anew, at that place.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from common.bus.connection import Bus, Stored, payload
from common.bus.errors import ConsoleNeeded, StreamReplaced
from common.bus.readers import AskedConsumer, Consumer, OwnConsumer, Place
from common.contracts.readers import Reader
from common.contracts.streams import CATALOG
from common.errors import BusUnavailable
from common.telemetry import get_logger

_RETRY = 0.25
_ANSWER_PATIENCE = 5.0
"""Past the expiry of a pull; longer means that the pull was lost with the connection."""


@dataclass(frozen=True, kw_only=True)
class StreamState:
    """Where a stream stands. ``created`` tells a stream that was made anew from the one known."""

    first_sequence: int
    last_sequence: int
    messages: int
    created: datetime | None


class Replay:
    """An ordered reader of one stream. ``consumer`` is its fixed name: one reader at a time."""

    def __init__(
        self,
        bus: Bus,
        *,
        stream: str = CATALOG,
        consumer: str,
        filter: str | None = None,
        made_by: Consumer | None = None,
    ) -> None:
        """``made_by``: how the consumer comes to be; by default it is made here, which needs the right to."""
        self._bus = bus
        self._stream = stream
        self._consumer = consumer
        reader = Reader(service="", name=consumer, stream=stream, filter=filter)
        self._made_by: Consumer = made_by or OwnConsumer(bus, reader)
        self._created: datetime | None = None
        self.pending = 0
        """Messages that the stream holds beyond the last one read."""
        self.at_end = False
        """Whether the server said that there was nothing more. An empty batch may also come of a lost answer."""

    @classmethod
    def of(cls, bus: Bus, reader: Reader) -> Replay:
        """The reader of a service that may not make consumers: the console does it."""
        return cls(
            bus,
            stream=reader.stream,
            consumer=reader.name,
            filter=reader.filter,
            made_by=AskedConsumer(bus, reader),
        )

    async def stream_state(self) -> StreamState:
        """Ask the server where the stream stands."""
        info = await self._bus.js.stream_info(self._stream)
        self._created = info.created
        return StreamState(
            first_sequence=info.state.first_seq,
            last_sequence=info.state.last_seq,
            messages=info.state.messages,
            created=info.created,
        )

    async def batches(
        self, *, after: int, max_messages: int = 1000, max_wait: float = 0.5
    ) -> AsyncIterator[list[Stored]]:
        """Yield batches of messages with a sequence above ``after``, in order, for ever.

        An empty batch says that nothing came for ``max_wait`` seconds. When the next batch is
        asked for, the last one counts as handled. Raises BusUnavailable when the connection is closed,
        StreamReplaced when the stream is not (any more) the one that was asked of, or ends before ``after``.
        """
        arrived = _Arrived()
        fresh = asyncio.Event()

        async def doubt() -> None:
            fresh.clear()

        forget = self._bus.on_reconnect(doubt)
        expected = 0
        try:
            while True:
                if not fresh.is_set():
                    fresh.set()
                    await arrived.close()
                    expected = (await self._take_up(after)).next
                    arrived = _Arrived()
                    await arrived.open(self._bus)
                batch, complete, expected = await self._pull(arrived, max_messages, max_wait, expected)
                read = [message for message in batch if message.sequence > after]
                if read:
                    after = read[-1].sequence
                if not complete:
                    fresh.clear()
                    if not batch:
                        await asyncio.sleep(_RETRY)
                # What was read before tells nothing: it must not look as if nothing had come.
                if read or not batch:
                    self.at_end = complete and not batch
                    yield read
        finally:
            forget()
            await arrived.close()

    async def _take_up(self, after: int) -> Place:
        said = ""
        while True:
            if self._bus.nc.is_reconnecting:
                # Requests sent now would be kept, and all be carried out at the reconnection.
                await asyncio.sleep(_RETRY)
                continue
            try:
                await self._look(after)
                place = await self._made_by.after(after)
            except nats.errors.ConnectionClosedError:
                raise BusUnavailable("the connection to the bus was closed") from None
            except (nats.errors.Error, TimeoutError, ConsoleNeeded) as error:
                # The stream is not there yet, JetStream is coming up, a leader is being elected.
                if said != (said := str(error)):
                    get_logger().warning("replay waits for its stream", consumer=self._consumer, reason=said)
                await asyncio.sleep(_RETRY)
                continue
            self.pending = place.pending
            return place

    async def _look(self, after: int) -> None:
        info = await self._bus.js.stream_info(self._stream)
        if self._created is not None and info.created != self._created:
            raise StreamReplaced(f"The stream {self._stream} was made anew since it was begun to be read.")
        if info.state.last_seq < after:
            raise StreamReplaced(
                f"The stream {self._stream} ends at {info.state.last_seq}, but was read up to {after}: "
                "the bus has lost what lies between."
            )
        self._created = info.created

    async def _pull(
        self, arrived: _Arrived, wanted: int, max_wait: float, expected: int
    ) -> tuple[list[Stored], bool, int]:
        """One pull: (messages, whether the next pull may follow, the next consumer sequence)."""
        # Idle, ask for one and wait: a pull for more would stay open, and count, until it expires.
        # The server counts messages as pending that newer ones of their subjects have replaced: a pull for those
        # alone would stay open for ever without an end of its own.
        expires = int(max_wait * 1e9)
        request: dict[str, int | bool] = {"batch": wanted, "no_wait": True, "expires": expires}
        if not self.pending:
            wanted = 1
            request = {"batch": 1, "expires": expires}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}"
        batch: list[Stored] = []
        try:
            await self._bus.nc.publish(subject, json.dumps(request).encode(), reply=arrived.inbox)
            while len(batch) < wanted:
                message = arrived.pop() or await arrived.next(max_wait + _ANSWER_PATIENCE)
                if _is_status(message):
                    self.pending = 0
                    return batch, _harmless(message), expected
                stream_sequence, consumer_sequence, self.pending = _place(message.reply)
                if consumer_sequence != expected:
                    get_logger().warning("replay found a gap", consumer=self._consumer, expected=expected)
                    return batch, False, expected
                expected += 1
                batch.append(Stored(subject=message.subject, sequence=stream_sequence, data=payload(message)))
        except (nats.errors.TimeoutError, TimeoutError):
            return batch, False, expected
        except nats.errors.ConnectionClosedError:
            raise BusUnavailable("the connection to the bus was closed") from None
        return batch, True, expected


def _is_status(message: Msg) -> bool:
    return bool(message.headers and "Status" in message.headers)


def _harmless(message: Msg) -> bool:
    """404 no messages and 408 expired are answers; anything else means the consumer is in doubt."""
    return (message.headers or {}).get("Status") in ("404", "408")


def _place(reply: str) -> tuple[int, int, int]:
    """(stream sequence, consumer sequence, pending) from an ack subject of either form."""
    tokens = reply.split(".")
    at = 5 if len(tokens) < 12 else 7
    return int(tokens[at]), int(tokens[at + 1]), int(tokens[at + 3])


class _Arrived:
    """The messages that one consumer sent, in order, until they are taken.

    A callback costs a third of waiting for each message with ``next_msg``; an inbox of its own keeps
    what was asked for before a doubt out of what is asked for after it.
    """

    def __init__(self) -> None:
        self.inbox = ""
        self._messages: deque[Msg] = deque()
        self._some = asyncio.Event()
        self._subscription: Subscription | None = None

    async def open(self, bus: Bus) -> None:
        """Begin to listen."""
        self.inbox = bus.nc.new_inbox()
        self._subscription = await bus.nc.subscribe(
            self.inbox, cb=self._take, pending_msgs_limit=-1, pending_bytes_limit=-1
        )

    async def close(self) -> None:
        """Stop listening; what is on its way is lost."""
        if self._subscription is not None:
            subscription, self._subscription = self._subscription, None
            # With the connection the subscription has ended.
            with contextlib.suppress(nats.errors.ConnectionClosedError, nats.errors.BadSubscriptionError):
                await subscription.unsubscribe()

    def pop(self) -> Msg | None:
        """The next one that is here, or None."""
        return self._messages.popleft() if self._messages else None

    async def next(self, timeout: float) -> Msg:
        """The next one, waited for. Raises TimeoutError."""
        while not self._messages:
            self._some.clear()
            await asyncio.wait_for(self._some.wait(), timeout)
        return self._messages.popleft()

    async def _take(self, message: Msg) -> None:
        self._messages.append(message)
        self._some.set()
