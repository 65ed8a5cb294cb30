"""A real HTTP server on loopback that behaves, or misbehaves, as each path is told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FeedServer:
    """``routes`` maps a path to what answers it; ``seen`` are the requests, with their headers."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.connections = 0
        self.stopping = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                outer.connections += 1

            def do_GET(self) -> None:
                outer.seen.append((self.path, dict(self.headers)))
                route = outer.routes.get(self.path.partition("?")[0], Route(status=404))
                if route.act is not None:
                    route.act(self)
                    return
                self.send_response(route.status)
                for name, value in route.headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in route.headers:
                    self.send_header("Content-Length", str(len(route.body)))
                self.end_headers()
                self.wfile.write(route.body)

            def log_message(self, format: str, *args: object) -> None:
                return

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                return  # clients that hang up are what is tested

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=lambda: self._server.serve_forever(poll_interval=0.02), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serve(self, path: str, body: bytes | str, content_type: str = "audio/x-mpegurl", **headers: str) -> str:
        """Answer ``path`` with ``body``; return its URL."""
        content = body.encode() if isinstance(body, str) else body
        self.routes[path] = Route(body=content, headers={"Content-Type": content_type, **headers})
        return self.url + path

    def redirect(self, path: str, to: str) -> str:
        """Answer ``path`` with a redirect; return its URL."""
        self.routes[path] = Route(status=302, headers={"Location": to})
        return self.url + path

    def stall(self, path: str, first: bytes = b"") -> str:
        """Send ``first`` of an announced megabyte, then nothing until the server stops."""

        def act(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Length", "1000000")
            handler.end_headers()
            handler.wfile.write(first)
            handler.wfile.flush()
            self.stopping.wait(30)

        self.routes[path] = Route(act=act)
        return self.url + path

    def close(self) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@dataclass
class Route:
    """How one path is answered."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    act: Callable[[BaseHTTPRequestHandler], None] | None = None


@contextmanager
def feed_server() -> Iterator[FeedServer]:
    server = FeedServer()
    try:
        yield server
    finally:
        server.close()
