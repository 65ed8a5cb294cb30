"""Reading a stream from a sequence on, in order and without a gap: what projections are fed by.

A pull consumer without acks keeps no state that could disagree with the reader's own: the reader
says where it stands, and anything doubtful (a gap, a restart of the server) makes the consumer
anew at that place.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from common.bus.connection import Bus, Stored
from common.bus.errors import StreamReplaced
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

    def __init__(self, bus: Bus, *, stream: str = CATALOG, consumer: str, filter: str | None = None) -> None:
        self._bus = bus
        self._stream = stream
        self._consumer = consumer
        self._filter = filter
        self._created: datetime | None = None
        self.pending = 0
        """Messages that the stream holds beyond the last one read."""

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
        inbox = self._bus.nc.new_inbox()
        subscription = await self._bus.nc.subscribe(inbox, pending_msgs_limit=-1, pending_bytes_limit=-1)
        fresh = asyncio.Event()

        async def doubt() -> None:
            fresh.clear()

        forget = self._bus.on_reconnect(doubt)
        expected = 0
        try:
            while True:
                if not fresh.is_set():
                    fresh.set()
                    await self._make_consumer(after)
                    while subscription.pending_msgs:
                        await subscription.next_msg(timeout=0.1)
                    expected = 1
                batch, complete, expected = await self._pull(subscription, inbox, max_messages, max_wait, expected)
                if batch:
                    after = batch[-1].sequence
                if not complete:
                    fresh.clear()
                    if not batch:
                        await asyncio.sleep(_RETRY)
                yield batch
        finally:
            forget()
            try:
                await subscription.unsubscribe()
            except (nats.errors.ConnectionClosedError, nats.errors.BadSubscriptionError):
                get_logger().debug("replay ended after its connection", consumer=self._consumer)

    async def _make_consumer(self, after: int) -> None:
        said = ""
        while True:
            if self._bus.nc.is_reconnecting:
                # Requests sent now would be kept, and all be carried out at the reconnection.
                await asyncio.sleep(_RETRY)
                continue
            try:
                await self._look(after)
                with contextlib.suppress(NotFoundError):
                    await self._bus.js.delete_consumer(self._stream, self._consumer)
                info = await self._bus.js.add_consumer(
                    self._stream,
                    ConsumerConfig(
                        durable_name=self._consumer,
                        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                        opt_start_seq=after + 1,
                        ack_policy=AckPolicy.NONE,
                        filter_subject=self._filter,
                    ),
                )
            except nats.errors.ConnectionClosedError:
                raise BusUnavailable("the connection to the bus was closed") from None
            except (nats.errors.Error, TimeoutError) as error:
                # The stream is not there yet, JetStream is coming up, a leader is being elected.
                if said != (said := str(error)):
                    get_logger().warning("replay waits for its stream", consumer=self._consumer, reason=said)
                await asyncio.sleep(_RETRY)
                continue
            self.pending = info.num_pending or 0
            return

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
        self, subscription: Subscription, inbox: str, wanted: int, max_wait: float, expected: int
    ) -> tuple[list[Stored], bool, int]:
        """One pull: (messages, whether the next pull may follow, the next consumer sequence)."""
        # Idle, ask for one and wait: a pull for more would stay open, and count, until it expires.
        request: dict[str, int | bool] = {"batch": wanted, "no_wait": True}
        if not self.pending:
            wanted = 1
            request = {"batch": 1, "expires": int(max_wait * 1e9)}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}"
        batch: list[Stored] = []
        try:
            await self._bus.nc.publish(subject, json.dumps(request).encode(), reply=inbox)
            while len(batch) < wanted:
                message = await subscription.next_msg(timeout=max_wait + _ANSWER_PATIENCE)
                if _is_status(message):
                    self.pending = 0
                    return batch, _harmless(message), expected
                stream_sequence, consumer_sequence, self.pending = _place(message.reply)
                if consumer_sequence != expected:
                    get_logger().warning("replay found a gap", consumer=self._consumer, expected=expected)
                    return batch, False, expected
                expected += 1
                batch.append(Stored(subject=message.subject, sequence=stream_sequence, data=message.data))
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
