"""Consumers of the fixed readers: the console makes them, their owners ask it for them.

Whoever may make a consumer can have the server send stored messages to any subject, also to one where he
may not publish. So the right to do it is the console's alone.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import Any, Protocol

import nats.errors
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from common.bus.connection import REQUEST_TIMEOUT, Bus
from common.bus.errors import ConsoleNeeded
from common.contracts.readers import READERS, RESET_PREFIX, Reader
from common.telemetry import get_logger

MAX_IN_FLIGHT = 200
"""Messages of a reader with acks that are under way at once, over all copies."""
ACK_WAIT = 60.0
_NEEDED = "The console does not answer, which makes the consumers. Start it; reading goes on then."


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a consumer goes on: the sequence that it gives to its next message, and how many it still holds."""

    next: int
    pending: int


class Consumer(Protocol):
    """How a reader comes to its consumer. Raises nats errors, TimeoutError, ConsoleNeeded."""

    async def after(self, sequence: int) -> Place:
        """Have it deliver everything with a stream sequence above ``sequence``, and perhaps some before."""
        ...

    async def there(self) -> None:
        """Have it exist, wherever it stands."""
        ...


class OwnConsumer:
    """Made by who reads, with the right to do so: the console, the owner's tools."""

    def __init__(self, bus: Bus, reader: Reader, *, ack_wait: float = ACK_WAIT) -> None:
        self._bus = bus
        self._reader = reader
        self._ack_wait = ack_wait

    async def after(self, sequence: int) -> Place:
        """Made anew at that place."""
        with contextlib.suppress(NotFoundError):
            await self._bus.js.delete_consumer(self._reader.stream, self._reader.name)
        info = await self._bus.js.add_consumer(
            self._reader.stream,
            ConsumerConfig(
                durable_name=self._reader.name,
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=sequence + 1,
                ack_policy=AckPolicy.NONE,
                filter_subject=self._reader.filter,
            ),
        )
        return Place(next=1, pending=info.num_pending or 0)

    async def there(self) -> None:
        """Made if it is missing; one that exists keeps its place."""
        await self._bus.js.add_consumer(
            self._reader.stream,
            ConsumerConfig(
                durable_name=self._reader.name,
                filter_subject=self._reader.filter,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=self._ack_wait,
                max_deliver=-1,
                max_ack_pending=MAX_IN_FLIGHT,
            ),
        )


class AskedConsumer:
    """Made by the console. Where it stands well already, nobody is asked: reading outlives the console."""

    def __init__(self, bus: Bus, reader: Reader) -> None:
        self._bus = bus
        self._reader = reader

    async def after(self, sequence: int) -> Place:
        """As it stands, if it has not delivered more than was read; else reset."""
        try:
            info = await self._bus.js.consumer_info(self._reader.stream, self._reader.name)
        except NotFoundError:
            return await self._ask(sequence)
        if info.delivered is None or info.delivered.stream_seq > sequence:
            return await self._ask(sequence)
        return Place(next=info.delivered.consumer_seq + 1, pending=info.num_pending or 0)

    async def there(self) -> None:
        """Asked for; the console leaves one that exists as it is."""
        await self._ask(0)

    async def _ask(self, sequence: int) -> Place:
        try:
            answer = await self._bus.nc.request(
                self._reader.reset_subject, json.dumps({"after": sequence}).encode(), timeout=REQUEST_TIMEOUT
            )
        except nats.errors.NoRespondersError:
            raise ConsoleNeeded(_NEEDED) from None
        told: dict[str, Any] = json.loads(answer.data)
        if "error" in told:
            raise ConsoleNeeded(f"The console did not reset the consumer {self._reader.name}: {told['error']}")
        return Place(next=1, pending=int(told["pending"]))


class ReaderDesk:
    """The console's side: makes and resets the consumers of the fixed readers, each for its owner only.

    NATS lets a service publish its own requests and no other's, so that the subject says who asks.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._readers = {reader.reset_subject: reader for reader in READERS}

    async def start(self) -> None:
        """Answer while the connection is open."""
        await self._bus.nc.subscribe(f"{RESET_PREFIX}.*.*", cb=self._asked)

    async def _asked(self, message: Msg) -> None:
        reader = self._readers.get(message.subject)
        # We may publish where a service may not: an answer must not become a message of ours anywhere else.
        if reader is None or not message.reply.startswith(f"_INBOX_{reader.service}."):
            get_logger().warning("a request for a consumer that is refused", subject=message.subject)
            return
        after = _place(message.data)
        if after is None:
            answer: dict[str, Any] = {"error": "the request is not one of ours"}
        else:
            try:
                answer = {"pending": await self._make(reader, after)}
            except (nats.errors.Error, TimeoutError) as error:
                answer = {"error": str(error) or type(error).__name__}
        with contextlib.suppress(nats.errors.Error):
            await self._bus.nc.publish(message.reply, json.dumps(answer).encode())

    async def _make(self, reader: Reader, after: int) -> int:
        consumer = OwnConsumer(self._bus, reader)
        if reader.acks:
            await consumer.there()
            return 0
        get_logger().info("a reader goes on from another place", consumer=reader.name, after=after)
        return (await consumer.after(after)).pending


def _place(payload: bytes) -> int | None:
    try:
        after = json.loads(payload)["after"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return after if type(after) is int and 0 <= after < 2**63 - 1 else None
