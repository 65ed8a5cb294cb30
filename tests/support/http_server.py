"""A real HTTP server on loopback that misbehaves as it is told to."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

_RANGE = re.compile(r"bytes=(\d+)-(\d*)$")


@dataclass(frozen=True, kw_only=True)
class Behavior:
    """How one request to a path is answered.

    ``announce``: the Content-Length that is claimed (None: the true one; -1: none, the end is the close);
    ``send``: bytes of the body after which the connection is closed; ``stall_after``: bytes after which
    nothing more comes until the server stops; ``pause``: seconds between chunks of ``chunk`` bytes.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = "audio/flac"
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: str | None = None
    last_modified: str | None = None
    ranges: bool = True
    announce: int | None = None
    send: int | None = None
    stall_after: int | None = None
    pause: float = 0.0
    chunk: int = 64 * 1024


@dataclass(frozen=True)
class Request:
    """What a client asked."""

    method: str
    path: str
    headers: Mapping[str, str]
    at: float = 0.0


class ScriptedServer:
    """``serve(path, behavior, …)``: one answer after another; the last one stays."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.requests: list[Request] = []
        self._scripts: dict[str, list[Behavior]] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._server = _Server((host, port), _handler(self))
        self.host, self.port = host, int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def serve(self, path: str, *behaviors: Behavior) -> str:
        """Answer ``path`` so from now on; return its URL."""
        with self._lock:
            self._scripts[path] = list(behaviors)
        return self.url(path)

    def serve_file(self, path: str, body: bytes, **options: Any) -> str:
        """Answer ``path`` with ``body``, as an honest server does."""
        return self.serve(path, Behavior(body=body, **options))

    def redirect(self, path: str, location: str, *, status: int = 302) -> str:
        """Answer ``path`` with a redirect."""
        return self.serve(path, Behavior(status=status, headers={"Location": location}))

    def url(self, path: str) -> str:
        return f"http://{self.host}:{self.port}{path}"

    def requests_to(self, path: str) -> list[Request]:
        """The requests to ``path`` so far."""
        with self._lock:
            return [request for request in self.requests if request.path == path]

    def wait_for_requests(self, path: str, count: int, *, timeout: float = 10.0) -> None:
        """Wait until ``path`` was asked for ``count`` times."""
        deadline = time.monotonic() + timeout
        while len(self.requests_to(path)) < count:
            assert time.monotonic() < deadline, f"{path} was asked for {len(self.requests_to(path))} times"
            time.sleep(0.01)

    def next(self, request: Request) -> Behavior:
        with self._lock:
            self.requests.append(request)
            script = self._scripts.get(request.path)
            if not script:
                return Behavior(status=404, content_type="text/plain", body=b"not found")
            return script.pop(0) if len(script) > 1 else script[0]

    def wait_stopping(self, seconds: float) -> bool:
        return self._stopping.wait(seconds)

    def stop(self) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""


def _handler(owner: ScriptedServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            return

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, *, body: bool) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers, time.monotonic())
            behavior = owner.next(request)
            status, content, extra = _select(behavior, request)
            announced = len(content) if behavior.announce is None else behavior.announce
            self.send_response(status)
            self.send_header("Content-Type", behavior.content_type)
            if announced >= 0:
                self.send_header("Content-Length", str(announced))
            else:
                self.send_header("Connection", "close")
                self.close_connection = True
            for name, value in {**extra, **behavior.headers}.items():
                self.send_header(name, value)
            if behavior.etag:
                self.send_header("ETag", behavior.etag)
            if behavior.last_modified:
                self.send_header("Last-Modified", behavior.last_modified)
            self.end_headers()
            if body:
                self._send(content, behavior)

        def _send(self, content: bytes, behavior: Behavior) -> None:
            limit = len(content) if behavior.send is None else behavior.send
            place = 0
            while place < min(limit, len(content)):
                if behavior.stall_after is not None and place >= behavior.stall_after:
                    owner.wait_stopping(60.0)
                    self.close_connection = True
                    return
                size = behavior.chunk
                if behavior.stall_after is not None:
                    size = min(size, behavior.stall_after - place)
                part = content[place : min(place + size, limit)]
                self.wfile.write(part)
                place += len(part)
                if behavior.pause and owner.wait_stopping(behavior.pause):
                    break
            if place < len(content) or (behavior.announce or 0) > len(content):
                self.close_connection = True
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)

    return Handler


def _select(behavior: Behavior, request: Request) -> tuple[int, bytes, dict[str, str]]:
    """Status and body of a request, ranges served as RFC 9110 says."""
    if behavior.status != 200 or not behavior.ranges:
        return behavior.status, behavior.body, {}
    match = _RANGE.match(request.headers.get("range", ""))
    validator = request.headers.get("if-range")
    if match is None or (validator is not None and validator not in (behavior.etag, behavior.last_modified)):
        return 200, behavior.body, {"Accept-Ranges": "bytes"}
    start, total = int(match[1]), len(behavior.body)
    if start >= total:
        return 416, b"", {"Content-Range": f"bytes */{total}"}
    stop = min(int(match[2]) + 1, total) if match[2] else total
    return 206, behavior.body[start:stop], {"Content-Range": f"bytes {start}-{stop - 1}/{total}"}


@pytest.fixture
def http_server() -> Iterator[ScriptedServer]:
    """A scripted server of this test's own; import it into the test module to use it."""
    server = ScriptedServer()
    yield server
    server.stop()
