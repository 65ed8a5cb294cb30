"""One connection to NATS for one process: publish with an answer, read the last message of a subject."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError, MaxPayloadError, NoRespondersError, OutboundBufferLimitError
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext

from common.bus.credentials import NotEncrypted, Upgraded, credentials
from common.bus.errors import StreamMissing, from_answer
from common.contracts.envelope import Envelope, Message, decode, encode, wrap
from common.errors import BusUnavailable, ConfigurationError, PermanentError
from common.settings import Settings
from common.telemetry import get_logger

T = TypeVar("T", bound=Message)
Hook = Callable[[], Awaitable[None]]

REQUEST_TIMEOUT = 2.0
"""A request in flight at a disconnect waits its whole timeout, so this is short and repeated."""
PUBLISH_PATIENCE = 15.0
"""How long a publication is repeated with the same id: a cluster elects a leader in 5 to 7 s."""
_CONNECT_PATIENCE = 5.0
_RECONNECT_WAIT: Any = 0.25
"""Seconds; the library declares an int and takes a float."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as a stream holds it. ``time`` is the server's, empty where it was not asked for."""

    subject: str
    sequence: int
    data: bytes
    time: str = ""


class Bus:
    """A connection, made by :meth:`connect`, that outlives restarts of the server."""

    def __init__(self, *, nc: Client, producer: str, hooks: list[Hook], closed: asyncio.Event) -> None:
        self.nc = nc
        self.js: JetStreamContext = nc.jetstream(timeout=REQUEST_TIMEOUT)
        self.producer = producer
        self.closed = closed
        """Set when the connection has ended for good: by :meth:`close`, or because the server refuses us."""
        self._reconnected = hooks

    @classmethod
    async def connect(cls, settings: Settings, *, service: str, instance: str) -> Bus:
        """Connect as ``service``; waits a few seconds for the server.

        Raises :class:`BusUnavailable` when none answers, :class:`ConfigurationError` when the
        password is refused. Neither shows the password.
        """
        log = get_logger()
        hooks: list[Hook] = []
        closed = asyncio.Event()
        refused: list[str] = []
        mistrusted: list[str] = []
        said: set[str] = set()
        nc = Client()
        nc._transport = Upgraded()

        async def on_error(error: Exception) -> None:
            words = str(error) or type(error).__name__
            # A server that is away fails four times a second with the same words.
            if words in said:
                return
            said.add(words)
            if "authorization" in words.lower():
                refused.append(words)
            if isinstance(error, ssl.SSLError | ssl.CertificateError | NotEncrypted):
                mistrusted.append(getattr(error, "verify_message", "") or words)
            log.warning("bus error", error=words)

        async def on_disconnect() -> None:
            if not nc.is_closed:
                log.warning("bus disconnected")

        async def on_reconnect() -> None:
            said.clear()
            log.info("bus reconnected")
            for hook in tuple(hooks):
                try:
                    await hook()
                except Exception as error:  # it would end the reconnection, and the hooks after it
                    log.error("a hook failed after the reconnection", exc_info=error)

        async def on_closed() -> None:
            closed.set()

        account = credentials(settings)
        try:
            await asyncio.wait_for(
                nc.connect(
                    [url.strip() for url in settings.nats_url.split(",")],
                    name=f"{service}.{instance}",
                    **account,
                    inbox_prefix=f"_INBOX_{service}",
                    allow_reconnect=True,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=_RECONNECT_WAIT,
                    connect_timeout=2,
                    ping_interval=10,
                    max_outstanding_pings=2,
                    drain_timeout=2,
                    error_cb=on_error,
                    disconnected_cb=on_disconnect,
                    reconnected_cb=on_reconnect,
                    closed_cb=on_closed,
                ),
                _CONNECT_PATIENCE,
            )
        except (TimeoutError, OSError, nats.errors.Error) as error:
            await nc.close()
            if refused or "authorization" in str(error).lower():
                raise ConfigurationError(
                    f"The bus refused the account {settings.bus_user or '(none)'}. Its password and the server's "
                    "configuration are both made by `music-cloud init`; where NATS_USER or NATS_PASSWORD is set, it "
                    "must be the server's.",
                    code="bus-refused",
                ) from None
            if mistrusted:
                raise ConfigurationError(
                    f"The connection to the bus cannot be trusted ({mistrusted[-1]}). NATS_URL must name the host that "
                    "the certificate is for, and NATS_CA the authority that signed it.",
                    code="bus-not-trusted",
                ) from None
            raise BusUnavailable(
                f"No NATS server answers at {_without_userinfo(settings.nats_url)}. Start it, or set NATS_URL."
            ) from None
        return cls(nc=nc, producer=f"{service}.{instance}", hooks=hooks, closed=closed)

    def on_reconnect(self, hook: Hook) -> Callable[[], None]:
        """Call ``hook`` after each reconnection: what was pushed meanwhile is lost.

        It must not wait, because the connection is still being made. Returns what takes it away.
        """
        self._reconnected.append(hook)
        return lambda: self._reconnected.remove(hook)

    async def publish(
        self,
        subject: str,
        message: Message,
        *,
        msg_id: str,
        job_id: int | None = None,
        trace: str | None = None,
        expect_last: int | None = None,
    ) -> int:
        """Publish into the stream of ``subject`` and return the sequence that it got.

        Repeats with the same ``msg_id`` for up to 15 s. ``expect_last`` is the sequence that the
        subject's last message must have (0: none). Raises WrongLastSequence, SubjectTaken,
        StreamFull, StreamMissing, BusUnavailable, or PermanentError when the message is too large.
        """
        envelope = wrap(message, id=msg_id, producer=self.producer, job_id=job_id, trace=trace)
        return await self.publish_raw(subject, encode(envelope), msg_id=msg_id, expect_last=expect_last)

    async def publish_raw(self, subject: str, payload: bytes, *, msg_id: str, expect_last: int | None = None) -> int:
        """Publish bytes that are a message already; as :meth:`publish` otherwise."""
        headers = {"Nats-Msg-Id": msg_id}
        if expect_last is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(expect_last)
        answer = await self._ask(subject, payload, headers)
        content = json.loads(answer.data)
        if "error" in content:
            raise from_answer(subject, content["error"])
        return int(content["seq"])

    async def last(self, stream: str, subject: str) -> Stored | None:
        """The last message of ``subject``, or None. The stream must allow direct reads."""
        answer = await self._ask(f"$JS.API.DIRECT.GET.{stream}.{subject}", b"", None)
        headers = answer.headers or {}
        if "Nats-Sequence" not in headers:
            return None
        return Stored(
            subject=headers.get("Nats-Subject", subject),
            sequence=int(headers["Nats-Sequence"]),
            data=answer.data,
            time=headers.get("Nats-Time-Stamp", ""),
        )

    async def last_message(self, stream: str, subject: str, model: type[T]) -> Envelope[T] | None:
        """The last message of ``subject``, decoded. Raises UndecodableMessage if it is not ours."""
        stored = await self.last(stream, subject)
        return decode(stored.data, model) if stored else None

    async def send(self, subject: str, message: Message, *, id: str) -> None:
        """Send on core NATS: whoever listens now gets it, nothing keeps it."""
        await self.nc.publish(subject, encode(wrap(message, id=id, producer=self.producer)))

    async def _ask(self, subject: str, payload: bytes, headers: dict[str, str] | None) -> Msg:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PUBLISH_PATIENCE
        while True:
            missing = False
            try:
                # Sent while disconnected it would be kept, and be stored once for each repetition.
                if self.nc.is_connected:
                    return await self.nc.request(subject, payload, timeout=REQUEST_TIMEOUT, headers=headers)
                if self.nc.is_closed:
                    raise ConnectionClosedError
            except NoRespondersError:
                missing = True
            except (NatsTimeout, OutboundBufferLimitError):
                pass
            except ConnectionClosedError:
                raise BusUnavailable("the connection to the bus was closed") from None
            except MaxPayloadError:
                raise PermanentError(
                    f"A message of {len(payload)} bytes for {subject} is larger than the bus takes "
                    f"({self.nc.max_payload}).",
                    code="message-too-large",
                ) from None
            if loop.time() >= deadline:
                if missing:
                    raise StreamMissing(f"no stream holds {subject}; is the console running?")
                raise BusUnavailable(f"the bus did not answer to {subject} within {PUBLISH_PATIENCE:.0f} s")
            await asyncio.sleep(0.25)

    async def close(self) -> None:
        """Send what is buffered, at most a second, and close."""
        if self.nc.is_closed:
            return
        if self.nc.is_connected:
            try:
                await self.nc.flush(timeout=1)
            except (nats.errors.Error, TimeoutError, OSError):
                get_logger().warning("bus closed before everything was flushed")
        await self.nc.close()


def payload(message: Msg) -> bytes:
    """What was published, or nothing where the bus itself wrote the message.

    Whoever may read single messages can lead the answer to a subject of a stream, also where he may not
    publish. The server marks such answers; without content they are set aside like anything that is not ours.
    """
    if message.headers and "Nats-Stream" in message.headers:
        get_logger().warning("an answer of the bus that was led into a stream", subject=message.subject)
        return b""
    return message.data


def parse_time(text: str) -> datetime:
    """A server time (nanoseconds, RFC 3339) as an aware datetime."""
    head, _, rest = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{head}.{(rest or '0')[:6]:0<6}+00:00")


def _without_userinfo(urls: str) -> str:
    parts = []
    for url in urls.split(","):
        scheme, separator, rest = url.strip().rpartition("://")
        parts.append(f"{scheme}{separator}{rest.rsplit('@', 1)[-1]}")
    return ", ".join(parts)
