"""Somebody who listens to the bus all the time, and can say afterwards who started what and when."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from common.contracts.envelope import decode
from common.contracts.status import Heartbeat, ItemStatus
from common.contracts.streams import STATUS
from tests.support.chaos_promises import Start
from tests.support.nats import NatsServer

_RECONNECT_WAIT: Any = 0.05  # declared as int, used as seconds


class Witness:
    """``starts`` and ``in_hand`` are what was seen. A gap is filled from the stream: a status keeps its start."""

    def __init__(self, server: NatsServer) -> None:
        self._server = server
        self._starts: dict[tuple[str, datetime], Start] = {}
        self.in_hand: list[Start] = []
        self._nc = Client()

    @property
    def starts(self) -> list[Start]:
        return list(self._starts.values())

    async def start(self) -> None:
        """Connect and listen."""

        async def quiet(_: Exception) -> None:
            """A bus that dies is what this is about."""

        await self._nc.connect(
            self._server.url,
            user=self._server.user,
            password=self._server.password,
            max_reconnect_attempts=-1,
            reconnect_time_wait=_RECONNECT_WAIT,
            connect_timeout=2,
            error_cb=quiet,
        )
        await self._nc.subscribe("item.>", cb=self._status)
        await self._nc.subscribe("hb.>", cb=self._beat)

    async def close(self) -> None:
        if self._nc.is_connected or self._nc.is_reconnecting:
            await self._nc.close()

    async def fill_gaps(self) -> None:
        """Take over what was published while we were not connected."""
        for message in await self.read(STATUS, "item.>"):
            await self._status(message)

    async def read(self, stream: str, subject: str, *, seconds: float = 20.0) -> list[Msg]:
        """Every message of a stream below ``subject``, in order."""
        async with asyncio.timeout(seconds):
            while True:
                with contextlib.suppress(nats.errors.Error, TimeoutError):
                    return await self._read(stream, subject)
                await asyncio.sleep(0.2)

    async def stream(self, name: str) -> Any:
        """State of a stream."""
        return (await self._nc.jetstream().stream_info(name)).state

    async def _read(self, stream: str, subject: str) -> list[Msg]:
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.ALL, ack_policy=AckPolicy.NONE, filter_subject=subject, inactive_threshold=5.0
        )
        js = self._nc.jetstream(timeout=2)
        info = await js.add_consumer(stream, config)
        subscription = await js.pull_subscribe_bind(info.name, stream)
        found: list[Msg] = []
        while len(found) < (info.num_pending or 0):
            found += await subscription.fetch(min(500, (info.num_pending or 0) - len(found)), timeout=2)
        await subscription.unsubscribe()
        return found

    async def _status(self, message: Msg) -> None:
        status = decode(message.data, ItemStatus).data
        if status.started_at is not None:
            self._starts[status.subject, status.started_at] = Start(
                status.started_at.timestamp(), status.job_id, status.subject, status.worker or "?"
            )

    async def _beat(self, message: Msg) -> None:
        envelope = decode(message.data, Heartbeat)
        for item in envelope.data.items:
            subject = f"item.{item.job_id}.{item.stage}.{item.lane}.{item.key}"
            self.in_hand.append(Start(envelope.time.timestamp(), item.job_id, subject, envelope.data.instance))
