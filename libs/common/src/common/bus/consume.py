"""A durable consumer with explicit acks: for readers that act on messages and keep no projection."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable

import nats.errors
from nats.aio.msg import Msg

from common.bus.connection import Bus, Stored, payload
from common.bus.errors import ConsoleNeeded
from common.bus.readers import MAX_IN_FLIGHT, AskedConsumer, Consumer
from common.contracts.readers import Reader
from common.errors import BusUnavailable
from common.telemetry import get_logger

_WAIT = 1.0
"""Seconds of one pull; longer would be lost time after a restart of the server."""
_RETRY_DELAY = 2.0
_AWAY_PAUSE = 0.2
_ERROR_PAUSE = 1.0
_FINISH_PATIENCE = 0.5
"""Seconds that handlers have at the end; what they do not finish comes again after ``ack_wait``."""

Handle = Callable[[Stored], Awaitable[None]]


async def consume(
    bus: Bus,
    *,
    reader: Reader,
    handle: Handle,
    stop: asyncio.Event,
    made_by: Consumer | None = None,
) -> None:
    """Give every message of ``reader`` to ``handle`` until ``stop``, and ack it when that returned.

    At least once: after an error or a crash the message comes again. Copies of a service share the
    consumer by its name. ``made_by``: how the consumer comes to be; by default the console is asked.
    Raises BusUnavailable when the connection is closed for good.
    """
    made_by = made_by or AskedConsumer(bus, reader)
    stream, durable = reader.stream, reader.name
    inbox = bus.nc.new_inbox()
    subscription = await bus.nc.subscribe(inbox)
    running: set[asyncio.Task[None]] = set()
    request = json.dumps({"batch": MAX_IN_FLIGHT // 2, "expires": int(_WAIT * 1e9)}).encode()
    known = False
    try:
        while not stop.is_set():
            if bus.nc.is_reconnecting:
                # Pulls sent now would be kept and all be answered at the reconnection.
                await asyncio.sleep(_AWAY_PAUSE)
                continue
            try:
                if not known:
                    await made_by.there()
                    known = True
                await bus.nc.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}", request, reply=inbox)
                for _ in range(MAX_IN_FLIGHT // 2):
                    message = await subscription.next_msg(timeout=_WAIT * 2)
                    if message.headers and "Status" in message.headers:
                        known = message.headers.get("Status") in ("404", "408")
                        break
                    task = asyncio.create_task(_one(bus, message, handle))
                    running.add(task)
                    task.add_done_callback(running.discard)
                    if stop.is_set():
                        break
            except (nats.errors.TimeoutError, TimeoutError):
                known = False  # nobody answers for a consumer that does not exist
            except nats.errors.ConnectionClosedError:
                if stop.is_set():
                    return
                raise BusUnavailable("the connection to the bus was closed") from None
            except (nats.errors.Error, ConsoleNeeded) as error:
                # The stream is not there yet, JetStream is coming up, a leader is being elected.
                get_logger().warning("a consumer waits for its stream", consumer=durable, reason=str(error))
                await asyncio.sleep(_ERROR_PAUSE)
            while len(running) >= MAX_IN_FLIGHT:
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if running:
            await asyncio.wait(running, timeout=_FINISH_PATIENCE)
        for task in running:
            task.cancel()
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()


async def _one(bus: Bus, message: Msg, handle: Handle) -> None:
    tokens = message.reply.split(".")
    sequence = int(tokens[5 if len(tokens) < 12 else 7])
    answer = b"+ACK"
    try:
        await handle(Stored(subject=message.subject, sequence=sequence, data=payload(message)))
    except Exception as error:  # whatever it was, the message comes again
        get_logger().error("message handled later", subject=message.subject, error=str(error) or repr(error))
        answer = b"-NAK " + json.dumps({"delay": int(_RETRY_DELAY * 1e9)}).encode()
    with contextlib.suppress(nats.errors.Error):
        await bus.nc.publish(message.reply, answer)
