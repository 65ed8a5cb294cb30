"""Taking one item from a lane's consumer: one pull at a time per slot, nothing prefetched."""

from __future__ import annotations

import asyncio
import json
import time

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from common.bus.connection import Bus, payload
from common.contracts.streams import WORK

_NO_WAIT = json.dumps({"batch": 1, "no_wait": True}).encode()
_ANSWER_PATIENCE = 2.0
_DISCONNECTED_PAUSE = 0.2


class LaneGone(Exception):
    """Nobody answers for the consumer: it does not exist (any more), or its cluster has no leader now."""


class Puller:
    """The pulls of one slot. Its own inbox, so that an answer that comes late is not lost."""

    def __init__(self, *, bus: Bus, subscription: Subscription, inbox: str, fresh: float) -> None:
        self._bus = bus
        self._subscription = subscription
        self._inbox = inbox
        self._fresh = fresh
        self._count = 0
        self.asked_at = time.monotonic()
        """When it asked last: no message that it holds can have been delivered later than its answer."""

    @classmethod
    async def open(cls, bus: Bus, *, lease: float) -> Puller:
        """``lease``: seconds that a delivered message stays ours."""
        inbox = bus.nc.new_inbox()
        subscription = await bus.nc.subscribe(f"{inbox}.*")
        return cls(bus=bus, subscription=subscription, inbox=inbox, fresh=lease / 2)

    async def take(self, consumer: str, *, wait: float = 0.0) -> Msg | None:
        """One message of ``consumer``, or None after ``wait`` seconds (0: what is there now).

        A message that an earlier pull brought too late comes first, and may be of another
        consumer: :func:`consumer_of` tells. Raises :class:`LaneGone`, and nats errors when the
        connection is closed.
        """
        if (late := await self._late()) is not None:
            return late
        if not self._bus.nc.is_connected:
            # Pulls sent now would be kept and all be answered at the reconnection.
            await asyncio.sleep(_DISCONNECTED_PAUSE)
            return None
        self._count += 1
        self.asked_at = time.monotonic()
        connection = self._bus.nc.stats["reconnects"]
        reply = f"{self._inbox}.{self._count}"
        request = json.dumps({"batch": 1, "expires": int(wait * 1e9)}).encode() if wait else _NO_WAIT
        deadline = time.monotonic() + wait + _ANSWER_PATIENCE
        await self._bus.nc.publish(f"$JS.API.CONSUMER.MSG.NEXT.{WORK}.{consumer}", request, reply=reply)
        while True:
            try:
                message = await self._subscription.next_msg(timeout=max(0.01, deadline - time.monotonic()))
            except (nats.errors.TimeoutError, TimeoutError):
                if self._bus.nc.is_connected and self._bus.nc.stats["reconnects"] == connection:
                    raise LaneGone(consumer) from None
                return None
            status = (message.headers or {}).get("Status") if message.headers else None
            if status is None:
                return message
            if message.subject != reply:
                continue
            if status == "503" or (status == "409" and "Deleted" in str(message.headers)):
                raise LaneGone(consumer)
            return None

    async def _late(self) -> Msg | None:
        while self._subscription.pending_msgs:
            message = await self._subscription.next_msg(timeout=0.1)
            if message.headers and "Status" in message.headers:
                continue
            # One that lay here while another item was done may be with another worker by now; neither
            # taken nor given back it comes again by itself.
            if time.monotonic() - self.asked_at < self._fresh:
                return message
        return None

    async def close(self) -> list[Msg]:
        """Stop; return messages that came too late to be taken, to be given back."""
        late: list[Msg] = []
        while (message := await self._late()) is not None:
            late.append(message)
        try:
            await self._subscription.unsubscribe()
        except (nats.errors.ConnectionClosedError, nats.errors.BadSubscriptionError):
            return late
        return late


def consumer_of(message: Msg) -> str:
    """The consumer that delivered ``message``, from its ack subject of either form."""
    tokens = message.reply.split(".")
    return tokens[3] if len(tokens) < 12 else tokens[5]


class Delivery:
    """One delivered message and the answers that can be given to it."""

    def __init__(self, bus: Bus, message: Msg, *, since: float | None = None) -> None:
        """``since``: the monotonic time from which its lease may run."""
        self._bus = bus
        self.since = time.monotonic() if since is None else since
        self.subject = message.subject
        self.data = payload(message)
        self._reply = message.reply
        tokens = message.reply.split(".")
        at = 4 if len(tokens) < 12 else 6
        self.delivered = int(tokens[at])
        self.sequence = int(tokens[at + 1])

    async def ack(self) -> bool:
        """Done; True when the server confirmed it."""
        return await self._answer(b"+ACK")

    async def term(self) -> bool:
        """Never again; True when the server confirmed it."""
        return await self._answer(b"+TERM")

    async def nak(self, delay: float = 0.0) -> bool:
        """Give it back, to be delivered after ``delay`` seconds; True when confirmed."""
        if delay <= 0:
            return await self._answer(b"-NAK")
        return await self._answer(b"-NAK " + json.dumps({"delay": int(delay * 1e9)}).encode())

    async def extend(self) -> bool:
        """Renew the lease; True when confirmed. Raises LaneGone when the consumer is gone."""
        return await self._answer(b"+WPI", attempts=3)

    async def _answer(self, word: bytes, attempts: int = 5) -> bool:
        for attempt in range(attempts):
            try:
                await self._bus.nc.request(self._reply, word, timeout=1.0)
            except nats.errors.NoRespondersError:
                # The consumer is gone, or the server is just coming back.
                if word == b"+WPI" and attempt == attempts - 1:
                    raise LaneGone(self.subject) from None
                await asyncio.sleep(0.3)
            except (nats.errors.TimeoutError, nats.errors.OutboundBufferLimitError):
                continue
            except nats.errors.ConnectionClosedError:
                return False
            else:
                return True
        return False
