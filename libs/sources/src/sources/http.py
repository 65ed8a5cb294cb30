"""Fetching from servers that nobody vouches for.

Every connection goes to an address that was checked: a name is resolved once, its address is
checked, and that address is connected to, so that a name cannot change its mind in between. Every
redirect is checked in the same way. Connections are kept open, per thread; ``http.client`` is used
as it is, which costs the least of what we measured. Proxies of the environment are not used: behind
one, no address could be checked.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from functools import cached_property
from types import TracebackType
from urllib.parse import urljoin, urlsplit, urlunsplit

from common.breaker import UNAVAILABLE, Breakers
from common.errors import MusicCloudError, PermanentError, TransientError

from .addresses import AddressPolicy, Origin, resolve, split_http_url
from .wire import Response, Wire

_BUSY = frozenset({408, 425, 429})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_IDLE_CONNECTIONS = 8
"""Kept per thread; the oldest is closed first."""
MAX_SERVER_NAME = 255
"""Characters; no name that can be found is longer."""
IDLE_SECONDS = 30.0
"""Servers close idle connections; one that idled longer is not tried again."""
_PORTABLE_HEADERS = frozenset({"accept", "accept-encoding", "user-agent", "range", "if-range"})
"""All other headers of the caller may hold a credential, and never go to another origin."""


def _never() -> bool:
    return False


class GuardedHttp:
    """An HTTP client for hostile input. One per process; safe to share between threads.

    ``connect_timeout`` and ``stall_timeout`` are seconds; the latter is the longest time without
    progress, not the longest transfer.
    """

    def __init__(
        self,
        *,
        policy: AddressPolicy,
        connect_timeout: float = 10.0,
        stall_timeout: float = 30.0,
        max_redirects: int = 5,
        user_agent: str = "music-cloud/0.1",
        breakers: Breakers | None = None,
    ) -> None:
        """``breakers``: servers that do not answer, or ask for a pause, are left alone for a while."""
        self._policy = policy
        self._connect_timeout = connect_timeout
        self._stall_timeout = stall_timeout
        self._max_redirects = max_redirects
        self._user_agent = user_agent
        self._breakers = breakers
        self._threads = threading.local()

    def open(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        range_from: int | None = None,
        if_range: str | None = None,
        allow_private: bool = False,
        method: str = "GET",
        canceled: Callable[[], bool] = _never,
    ) -> Response:
        """Ask for ``url`` and return the answer with its headers read; the body is streamed from it.

        ``allow_private`` allows addresses of the local network for the host and port of ``url``
        itself; a redirect elsewhere is judged by the policy alone. Any status that is not a redirect
        is returned: see :func:`check_status`. Raises :class:`TransientError` (not reachable, stalled,
        broken off) or :class:`PermanentError` (address refused, too many redirects, not http); with
        breakers also Waiting and Unreachable.
        """
        first = Origin.of(url)
        sent = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": self._user_agent, **(headers or {})}
        if range_from:
            sent["Range"] = f"bytes={range_from}-"
            if if_range:
                sent["If-Range"] = if_range
        for _ in range(self._max_redirects + 1):
            origin = Origin.of(url)
            private = (allow_private and origin == first) or self._policy.allows_private(origin.host, origin.port)
            response = self._guarded(url, origin, sent, private=private, method=method, canceled=canceled)
            if response.status not in REDIRECTS or not (location := response.headers.get("Location")):
                return response
            response.discard()
            target = _redirect_target(url, location)
            if Origin.of(target) != origin:
                sent = {name: value for name, value in sent.items() if name.lower() in _PORTABLE_HEADERS}
            url = target
        raise PermanentError(
            f"The server redirects more than {self._max_redirects} times. Check the address.", code="too-many-redirects"
        )

    def close(self) -> None:
        """Close the idle connections of the calling thread."""
        for wire in self._idle().values():
            wire.close()
        self._idle().clear()

    def __enter__(self) -> GuardedHttp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Made when it is first needed: reading the system's authorities takes a while."""
        return ssl.create_default_context()

    def _idle(self) -> dict[tuple[Origin, bool], Wire]:
        if not hasattr(self._threads, "idle"):
            self._threads.idle = {}
        idle: dict[tuple[Origin, bool], Wire] = self._threads.idle
        return idle

    def _guarded(
        self,
        url: str,
        origin: Origin,
        headers: Mapping[str, str],
        *,
        private: bool,
        method: str,
        canceled: Callable[[], bool],
    ) -> Response:
        """A request through the breaker of its server."""
        if self._breakers is None:
            return self._request(url, origin, headers, private=private, method=method, canceled=canceled)
        server = server_name(origin)
        self._breakers.check(server)
        try:
            response = self._request(url, origin, headers, private=private, method=method, canceled=canceled)
            if response.status in _BUSY or response.status >= 500:
                check_status(response)
        except BaseException as error:
            if isinstance(error, TransientError) and error.code in UNAVAILABLE:
                raise self._breakers.failed(server, error) from None
            self._breakers.undecided(server)
            raise
        self._breakers.succeeded(server)
        return response

    def _request(
        self,
        url: str,
        origin: Origin,
        headers: Mapping[str, str],
        *,
        private: bool,
        method: str,
        canceled: Callable[[], bool],
    ) -> Response:
        key = (origin, private)
        idle = self._idle()
        wire = idle.pop(key, None)
        if wire is not None and time.monotonic() - wire.idle_since > IDLE_SECONDS:
            wire.close()
            wire = None
        reused = wire is not None
        while True:
            if wire is None:
                wire = self._connect(origin, private=private)
            try:
                wire.send(method, _request_target(url), headers, canceled=canceled)
                answer = wire.receive(method)
                break
            except MusicCloudError:
                wire.close()
                raise
            except (http.client.HTTPException, OSError, ValueError) as error:
                wire.close()
                wire = None
                # A kept connection may have been closed by the server meanwhile: once more on a new one.
                if reused and isinstance(error, (http.client.RemoteDisconnected, ConnectionError)):
                    reused = False
                    continue
                raise _failure(error, origin) from None
        owner = threading.get_ident()
        used = wire

        def release(reusable: bool) -> None:
            if reusable and threading.get_ident() == owner and key not in idle:
                used.idle_since = time.monotonic()
                idle[key] = used
                if len(idle) > MAX_IDLE_CONNECTIONS:
                    idle.pop(next(iter(idle))).close()
            else:
                used.close()

        return Response(url=_without_userinfo(url), answer=answer, release=release, host=origin.host)

    def _connect(self, origin: Origin, *, private: bool) -> Wire:
        error: OSError | None = None
        for family, place in resolve(origin.host, origin.port, allow_private=private):
            try:
                return Wire(self._socket(family, place, origin), origin=origin, stall_timeout=self._stall_timeout)
            except OSError as failed:
                error = failed
        assert error is not None
        raise _failure(error, origin) from None

    def _socket(self, family: socket.AddressFamily, place: tuple[str, int], origin: Origin) -> socket.socket:
        plain = socket.socket(family, socket.SOCK_STREAM)
        try:
            plain.settimeout(self._connect_timeout)
            plain.connect(place)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if origin.scheme == "https":
                return self._tls.wrap_socket(plain, server_hostname=origin.host)
        except BaseException:
            plain.close()
            raise
        return plain


def server_name(origin: Origin) -> str:
    """What a server is called among the breakers."""
    return f"{origin.host[:MAX_SERVER_NAME]}:{origin.port}"


def check_status(response: Response) -> None:
    """Raise what an HTTP status means for an item: permanent, transient with ``retry_after``, or nothing for 2xx."""
    status = response.status
    if 200 <= status < 300:
        return
    response.discard()
    where = response.host[:100]
    if status in (401, 403):
        raise PermanentError(
            f"{where} refuses access ({status}). Check the user name and password.", code="access-refused"
        )
    if status in (404, 410):
        raise PermanentError(f"{where} does not have it ({status}).", code="source-file-missing")
    if status in (408, 425, 429) or status >= 500:
        raise TransientError(
            f"{where} cannot answer now ({status}).",
            code="server-busy" if status in (429, 503) else "server-error",
            retry_after=_retry_after(response.headers.get("Retry-After")),
        )
    raise PermanentError(f"{where} answered with status {status}.", code="http-status")


def _retry_after(value: str | None) -> float | None:
    """Seconds, from the number or the date that the server sent; bounded to a day."""
    if value is None:
        return None
    with contextlib.suppress(ValueError):
        return min(max(float(int(value)), 0.0), 86_400.0)
    try:
        return min(max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0), 86_400.0)
    except (ValueError, TypeError, OverflowError):
        return None


def _redirect_target(url: str, location: str) -> str:
    """The absolute address of a redirect; a credential that the server put into it is left out."""
    try:
        target = urljoin(url, location.strip())
        # Servers send raw spaces and non-ASCII; both are percent-encoded as browsers do.
        encoded = "".join(
            char if 0x20 < ord(char) < 0x7F else "".join(f"%{byte:02X}" for byte in char.encode("latin-1", "replace"))
            for char in target
        )
    except ValueError:
        raise PermanentError("The server redirects to something that is not a URL.", code="url-invalid") from None
    split_http_url(encoded)
    return _without_userinfo(encoded)


def _without_userinfo(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _request_target(url: str) -> str:
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _failure(error: Exception, origin: Origin) -> MusicCloudError:
    """The error of ours that a failed exchange stands for; never repeats what the other side said."""
    host = origin.host[:100]
    if isinstance(error, ssl.SSLCertVerificationError):
        return PermanentError(
            f"The certificate of {host} is not valid: {error.verify_message[:200]}.", code="certificate-invalid"
        )
    if isinstance(error, TimeoutError):
        return TransientError(f"{host} does not answer in time.", code="server-stalled")
    if isinstance(error, ssl.SSLError):
        return TransientError(f"{host} does not speak TLS as it should.", code="tls-failed")
    if isinstance(error, (http.client.RemoteDisconnected, ConnectionError)):
        return TransientError(f"{host} cannot be reached, or closed the connection.", code="connection-failed")
    if isinstance(error, (http.client.HTTPException, ValueError)):
        return TransientError(f"{host} does not answer in HTTP.", code="bad-answer")
    return TransientError(f"{host} cannot be reached.", code="connection-failed")


def iter_body(response: Response, *, limit: int, chunk: int = 256 * 1024) -> Iterator[bytes]:
    """The body in chunks. Raises :class:`PermanentError` as soon as it is longer than ``limit`` bytes."""
    total = 0
    for part in response.stream(chunk):
        total += len(part)
        if total > limit:
            response.close()
            raise PermanentError(f"The answer is larger than {limit // 1024**2} MiB.", code="answer-too-large")
        yield part
