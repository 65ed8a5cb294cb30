"""Streams out of the bus and into it, in order, with bounded memory."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from itertools import islice
from typing import Any, TypeVar

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig, StreamInfo
from nats.js.errors import APIError, NotFoundError

from cli.backup.errors import BackupFailed, RestoreFailed
from cli.backup.records import Record
from common.bus import Bus
from common.errors import MusicCloudError

KV_PREFIX = "KV_"
_BATCH = 1000
_PULL_SECONDS = 0.25
_ROUNDS = 30
"""Times that what came meanwhile is read too, each in a moment: steady writers must not keep us for ever."""
_WINDOW = 500
"""Messages sent before their answers are awaited."""
_PATIENCE = 15.0
_UNUSED_SECONDS = 120.0
T = TypeVar("T")


async def stream_info(bus: Bus, stream: str) -> StreamInfo | None:
    """What the bus says of a stream; None where it has none of that name."""
    try:
        return await ask(lambda: bus.js.stream_info(stream))
    except NotFoundError:
        return None


async def key_value_streams(bus: Bus) -> list[str]:
    """The streams of all KV buckets."""
    infos = await ask(lambda: bus.js.streams_info())
    return sorted(
        info.config.name for info in infos if (info.config.name or "").startswith(KV_PREFIX) and info.config.name
    )


async def read_stream(bus: Bus, stream: str) -> AsyncIterator[list[Record]]:
    """All messages of a stream, in order, until there is none that was not read.

    A message that is replaced before it is read is read in its new place, so that every subject is
    there with a value that it had after the reading began. Raises BackupFailed.
    """
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.ALL, ack_policy=AckPolicy.NONE, inactive_threshold=_UNUSED_SECONDS
    )
    async with _Answers(bus) as answers:
        info = await ask(lambda: bus.js.add_consumer(stream, config))
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{info.name}"
        pending, expected = info.num_pending or 0, 1
        left, rounds = pending, 0
        while pending and rounds < _ROUNDS:
            wanted = min(_BATCH, pending)
            request = json.dumps({"batch": wanted, "expires": int(_PULL_SECONDS * 1e9)}).encode()
            answers.expect(wanted)
            try:
                await bus.nc.publish(subject, request, reply=answers.inbox)
                messages = await answers.get()
            except (nats.errors.Error, TimeoutError) as error:
                raise BackupFailed(f"The bus did not give {stream} ({_words(error)}). Run the backup again.") from None
            batch: list[Record] = []
            for message in messages:
                if _status(message):
                    if _status(message) not in ("404", "408"):
                        raise BackupFailed(f"The bus stopped giving {stream}. Run the backup again.")
                    # Fewer than were counted: some were replaced in the meantime.
                    pending = (await ask(lambda: bus.js.consumer_info(stream, info.name))).num_pending or 0
                    break
                record, place, pending = _record(message)
                if place != expected:
                    raise BackupFailed(f"The bus was away while {stream} was read. Run the backup again.")
                expected += 1
                batch.append(record)
            left -= len(batch)
            if left <= 0:
                left, rounds = pending, rounds + 1
            if batch:
                yield batch
        await ask(lambda: bus.js.delete_consumer(stream, info.name))


async def write_stream(bus: Bus, records: Iterable[Record]) -> int:
    """Publish messages in exactly this order; return how many. Raises RestoreFailed when one was not stored."""
    rest, count = iter(records), 0
    async with _Answers(bus) as answers:
        while window := list(islice(rest, _WINDOW)):
            count += len(window)
            answers.expect(len(window))
            try:
                for number, record in enumerate(window):
                    await bus.nc.publish(
                        record.subject, record.data, reply=f"{answers.inbox}.{number}", headers=record.headers or None
                    )
                known = [answer for answer in await answers.get() if _refused_as_known(answer)]
                # Another subject's message had the same id: this is a fact of its own.
                for number in sorted(int(answer.subject.rpartition(".")[2]) for answer in known):
                    await bus.js.publish(window[number].subject, window[number].data, timeout=_PATIENCE)
            except (nats.errors.Error, TimeoutError) as error:
                raise RestoreFailed(
                    f"The bus did not take everything ({_words(error)}). Run the same command again: it starts over."
                ) from None
    return count


class _Answers:
    """Collects what arrives at an inbox of its own; by a callback, since waiting for each message is far slower."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.inbox = bus.nc.new_inbox()
        self._subscriptions: list[Subscription] = []
        self._messages: list[Msg] = []
        self._complete = asyncio.Event()
        self._wanted = 0

    async def __aenter__(self) -> _Answers:
        for subject in (self.inbox, f"{self.inbox}.*"):
            self._subscriptions.append(
                await self._bus.nc.subscribe(subject, cb=self._take, pending_msgs_limit=-1, pending_bytes_limit=-1)
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        for subscription in self._subscriptions:
            if not self._bus.nc.is_closed:
                await subscription.unsubscribe()

    def expect(self, count: int) -> None:
        """Begin anew; :meth:`get` returns with so many messages, or earlier with one that is a status."""
        self._messages, self._wanted = [], count
        self._complete.clear()

    async def get(self) -> list[Msg]:
        """What was expected. Raises TimeoutError."""
        async with asyncio.timeout(_PATIENCE):
            await self._complete.wait()
        return self._messages

    async def _take(self, message: Msg) -> None:
        self._messages.append(message)
        if len(self._messages) >= self._wanted or _status(message):
            self._complete.set()


async def drop_stream(bus: Bus, stream: str) -> None:
    """Delete a stream with its consumers, if it is there."""
    try:
        await ask(lambda: bus.js.delete_stream(stream))
    except NotFoundError:
        return


async def make_bucket(bus: Bus, stream: str, told: dict[str, Any]) -> None:
    """Make the stream of a KV bucket that no service makes by itself."""
    bucket = stream.removeprefix(KV_PREFIX)
    config = StreamConfig(
        name=stream,
        subjects=[f"$KV.{bucket}.>"],
        max_msgs_per_subject=int(told.get("max_msgs_per_subject") or 1),
        max_age=float(told.get("max_age") or 0),
        allow_direct=True,
        allow_rollup_hdrs=True,
        deny_delete=True,
    )
    await ask(lambda: bus.js.add_stream(config))


async def ask(call: Callable[[], Awaitable[T]]) -> T:
    """An idempotent request, repeated while nobody answers. NotFoundError is an answer. Raises BackupFailed."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return await call()
        except NotFoundError:
            raise
        except APIError as error:
            raise BackupFailed(f"The bus refused: {error.description} ({error.err_code}).") from None
        except (nats.errors.Error, TimeoutError) as error:
            if time.monotonic() > deadline:
                raise BackupFailed(f"The bus does not answer ({_words(error)}). Try again when it does.") from None
            await asyncio.sleep(0.25)


def _record(message: Msg) -> tuple[Record, int, int]:
    """(message, its number for this consumer, how many follow) from an ack subject of either form."""
    tokens = message.reply.split(".")
    at = 5 if len(tokens) < 12 else 7
    record = Record(int(tokens[at]), message.subject, int(tokens[at + 2]), message.data, dict(message.headers or {}))
    return record, int(tokens[at + 1]), int(tokens[at + 3])


def _refused_as_known(answer: Msg) -> bool:
    if _status(answer):
        raise RestoreFailed("A stream is not there any more. Run the same command again: it starts over.")
    told = json.loads(answer.data)
    if "error" in told:
        raise RestoreFailed(
            f"The bus refused a message ({told['error'].get('description', 'no reason given')}). "
            "Run the same command again: it starts over."
        )
    return bool(told.get("duplicate"))


def _status(message: Msg) -> str:
    return message.headers.get("Status", "") if message.headers else ""


def _words(error: BaseException) -> str:
    return error.message if isinstance(error, MusicCloudError) else str(error) or type(error).__name__
