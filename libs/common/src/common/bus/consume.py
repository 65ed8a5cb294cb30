"""A durable consumer with explicit acks: for readers that act on messages and keep no projection."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable

import nats.errors
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from common.bus.connection import Bus, Stored
from common.errors import BusUnavailable
from common.telemetry import get_logger

_WAIT = 1.0
"""Seconds of one pull; longer would be lost time after a restart of the server."""
_RETRY_DELAY = 2.0

Handle = Callable[[Stored], Awaitable[None]]


async def consume(
    bus: Bus,
    *,
    stream: str,
    durable: str,
    filter: str,
    handle: Handle,
    stop: asyncio.Event,
    max_in_flight: int = 200,
    ack_wait: float = 60.0,
) -> None:
    """Give every message of ``filter`` to ``handle`` until ``stop``, and ack it when that returned.

    At least once: after an error or a crash the message comes again. Copies of a service share the
    consumer by its name. ``pending`` of the consumer tells how far behind it is.
    """
    await _ensure(bus, stream, durable, filter, max_in_flight, ack_wait)
    inbox = bus.nc.new_inbox()
    subscription = await bus.nc.subscribe(inbox)
    running: set[asyncio.Task[None]] = set()
    request = json.dumps({"batch": max_in_flight // 2, "expires": int(_WAIT * 1e9)}).encode()
    try:
        while not stop.is_set():
            try:
                await bus.nc.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}", request, reply=inbox)
                for _ in range(max_in_flight // 2):
                    message = await subscription.next_msg(timeout=_WAIT * 2)
                    if message.headers and "Status" in message.headers:
                        if message.headers.get("Status") == "503":
                            await _ensure(bus, stream, durable, filter, max_in_flight, ack_wait)
                        break
                    task = asyncio.create_task(_one(bus, message, handle))
                    running.add(task)
                    task.add_done_callback(running.discard)
                    if stop.is_set():
                        break
            except (nats.errors.TimeoutError, TimeoutError):
                continue
            except nats.errors.ConnectionClosedError:
                if stop.is_set():
                    return
                raise BusUnavailable("the connection to the bus was closed") from None
            while len(running) >= max_in_flight:
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in running:
            task.cancel()
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()


async def _one(bus: Bus, message: Msg, handle: Handle) -> None:
    tokens = message.reply.split(".")
    sequence = int(tokens[5 if len(tokens) < 12 else 7])
    answer = b"+ACK"
    try:
        await handle(Stored(subject=message.subject, sequence=sequence, data=message.data))
    except Exception as error:  # whatever it was, the message comes again
        get_logger().error("message handled later", subject=message.subject, error=str(error) or repr(error))
        answer = b"-NAK " + json.dumps({"delay": int(_RETRY_DELAY * 1e9)}).encode()
    with contextlib.suppress(nats.errors.Error):
        await bus.nc.publish(message.reply, answer)


async def _ensure(bus: Bus, stream: str, durable: str, filter: str, max_in_flight: int, ack_wait: float) -> None:
    while True:
        try:
            await bus.js.add_consumer(
                stream,
                ConsumerConfig(
                    durable_name=durable,
                    filter_subject=filter,
                    ack_policy=AckPolicy.EXPLICIT,
                    ack_wait=ack_wait,
                    max_deliver=-1,
                    max_ack_pending=max_in_flight,
                ),
            )
        except (nats.errors.TimeoutError, nats.errors.NoRespondersError, TimeoutError):
            await asyncio.sleep(0.25)
        else:
            return
