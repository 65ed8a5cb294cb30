"""One HTTP/1.1 connection, and one answer on it."""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from email.message import Message

from common.errors import MusicCloudError, TransientError

from .addresses import DEFAULT_PORTS, Origin

TICK_SECONDS = 0.5
"""How often a waiting read looks whether it should stop."""
MIN_BYTES_PER_WINDOW = 512
"""Fewer bytes than this within the stall time count as no progress: a server that drips is stalled too."""
DISCARD_LIMIT = 64 * 1024
"""A body that is not wanted is read up to here, to keep the connection; longer ones cost the connection."""
_BUFFER = 64 * 1024


class _Watched(io.RawIOBase):
    """Reads a socket, and gives up on no progress or when told to."""

    def __init__(self, sock: socket.socket, stall_timeout: float) -> None:
        self._sock = sock
        self._held = sock.makefile("rb", buffering=0)  # keeps the descriptor until the answer is read
        self._stall_timeout = stall_timeout
        self._window_bytes = 0
        self.canceled: Callable[[], bool] | None = None
        self._asked = time.monotonic()
        self.restart()

    def restart(self) -> None:
        self._window_start = time.monotonic()
        self._window_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview | bytearray, /) -> int:  # type: ignore[override]
        while True:
            try:
                count = self._sock.recv_into(buffer)
            except TimeoutError:
                count = -1
            now = time.monotonic()
            if count >= 0:
                self._window_bytes += count
                if self._window_bytes >= MIN_BYTES_PER_WINDOW:
                    self._window_start, self._window_bytes = now, 0
            if count == 0:
                return 0
            if now - self._window_start > self._stall_timeout:
                raise TimeoutError("no progress")
            # Also of a server that sends now and then: it must not hold us past the moment we wanted to stop.
            if self.canceled is not None and (count < 0 or now - self._asked >= TICK_SECONDS):
                self._asked = now
                if self.canceled():
                    raise TransientError("Stopped before it was complete.", code="stopped")
            if count > 0:
                return count

    def close(self) -> None:
        if not self.closed:
            self._held.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """An answer that is read through the watch of its connection."""

    def __init__(self, sock: socket.socket, watched: _Watched, method: str) -> None:
        super().__init__(sock, method=method)
        self.fp.close()
        self.fp = io.BufferedReader(watched, _BUFFER)


class Wire:
    """A connection that was made to a checked address."""

    def __init__(self, sock: socket.socket, *, origin: Origin, stall_timeout: float) -> None:
        self._sock = sock
        self._stall_timeout = stall_timeout
        self._canceled: Callable[[], bool] | None = None
        # A connection is kept for its thread; when the thread ends, nobody else closes it.
        self._closer = weakref.finalize(self, sock.close)
        self.idle_since = time.monotonic()
        host = f"[{origin.host}]" if ":" in origin.host else origin.host.encode("idna").decode()
        self._host = host if origin.port == DEFAULT_PORTS[origin.scheme] else f"{host}:{origin.port}"

    def send(self, method: str, target: str, headers: Mapping[str, str], *, canceled: Callable[[], bool]) -> None:
        """Send a request without a body. Raises ``ValueError`` where a header could smuggle another."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._host}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a header holds a line break")
        self._canceled = canceled
        self._sock.settimeout(min(TICK_SECONDS, self._stall_timeout))
        self._sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def receive(self, method: str) -> http.client.HTTPResponse:
        watched = _Watched(self._sock, self._stall_timeout)
        watched.canceled = self._canceled
        answer = _Answer(self._sock, watched, method)
        try:
            answer.begin()
        except BaseException:
            answer.close()
            raise
        return answer

    def close(self) -> None:
        self._closer()


class Response:
    """An answer whose headers are read. Read it to the end or close it; use it as a context manager."""

    def __init__(
        self, *, url: str, answer: http.client.HTTPResponse, release: Callable[[bool], None], host: str
    ) -> None:
        self.url = url
        """Where it came from after redirects, without userinfo."""
        self.host = host
        self.status: int = answer.status
        self.headers: Message = answer.headers
        self.length: int | None = answer.length
        """Bytes of the body that the server announced, if it did."""
        self.received = 0
        self._answer = answer
        self._release: Callable[[bool], None] | None = release

    @property
    def content_type(self) -> str:
        """The media type, lower case, without parameters; empty when the server sent none."""
        return (self.headers.get("Content-Type") or "").partition(";")[0].strip().lower()

    @property
    def encoded(self) -> bool:
        """Whether the body is compressed although identity was asked for."""
        return (self.headers.get("Content-Encoding") or "identity").strip().lower() not in ("", "identity")

    def read_into(self, buffer: bytearray | memoryview) -> int:
        """Read up to ``len(buffer)`` bytes into ``buffer``; 0 at the end.

        Raises :class:`TransientError` when the body breaks off before its announced length or stalls.
        """
        if self._release is None:
            return 0
        try:
            count = self._answer.readinto(buffer)
        except MusicCloudError:
            self.close()
            raise
        except TimeoutError:
            self.close()
            raise TransientError(f"{self.host[:100]} stopped sending.", code="server-stalled") from None
        except (OSError, http.client.HTTPException, ValueError):
            self.close()
            raise TransientError(f"{self.host[:100]} broke off in the middle.", code="connection-lost") from None
        self.received += count
        if count == 0:
            if self.length is not None and self.received < self.length:
                self.close()
                raise TransientError(
                    f"{self.host[:100]} broke off after {self.received} of {self.length} bytes.", code="connection-lost"
                )
            self._finish(reusable=not self._answer.will_close)
        elif self.length is not None and self.received == self.length:
            self._finish(reusable=not self._answer.will_close)
        return count

    def stream(self, chunk: int = 256 * 1024) -> Iterator[bytes]:
        """The rest of the body, in parts of up to ``chunk`` bytes."""
        buffer = bytearray(chunk)
        view = memoryview(buffer)
        while count := self.read_into(view):
            yield bytes(view[:count])

    def discard(self) -> None:
        """Throw the body away, keeping the connection when that is cheap."""
        if self._answer.will_close or self.length is None or self.length > DISCARD_LIMIT:
            self.close()
            return
        with contextlib.suppress(TransientError):
            for _ in self.stream(DISCARD_LIMIT):
                continue

    def close(self) -> None:
        """Close it; a body that was not read to the end costs the connection."""
        self._finish(reusable=False)

    def _finish(self, *, reusable: bool) -> None:
        if self._release is not None:
            release, self._release = self._release, None
            self._answer.close()
            release(reusable)

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
