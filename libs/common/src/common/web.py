"""The HTTP parts that services share: health pages, and a server that ends when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from common.contracts.status import Reason
from common.errors import ConfigurationError
from common.metrics import Metrics
from common.metrics_names import HTTP_REQUESTS, HTTP_SECONDS
from common.telemetry import LogContext, get_logger

_GRACE = 1
"""Seconds that open requests have when the process ends; streams and events end with them."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SERVER_ERROR = 500
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_PATH_PARTS = 3
_PATH_CHARS = 64

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]


class HttpServer:
    """One ASGI application on one address, inside a process that has other things to do."""

    def __init__(self, app: Any, *, host: str, port: int) -> None:
        self._socket = _bind(host, port)
        self.host = host
        self.port: int = self._socket.getsockname()[1]
        self._server = _Server(
            uvicorn.Config(
                app,
                loop="none",
                http="httptools",
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=_GRACE,
            )
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop``."""
        serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
        self._server.should_exit = True
        stopped.cancel()
        await serving


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: the process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Observed:
    """ASGI middleware: a request id for the log and the answer, and the numbers of the answers.

    Plain ASGI, because it stands before every stream of the origin. What it logs of a path is its
    beginning: what comes after may be a token.
    """

    def __init__(self, app: Any, *, metrics: Metrics) -> None:
        self._app = app
        self._requests = metrics.counter(HTTP_REQUESTS)
        self._seconds = metrics.histogram(HTTP_SECONDS)

    async def __call__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, method = time.perf_counter(), scope["method"] if scope["method"] in _METHODS else "other"
        request = _request_id(scope)
        status = 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._seconds.add(time.perf_counter() - began)
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request.encode())]
            await send(message)

        with LogContext(request=request):
            try:
                await self._app(scope, receive, observed)
            finally:
                # An application that ends before its answer began has failed; uvicorn then answers 500.
                self._requests.add(1, method, str(status or 500))
                log = get_logger()
                tell = log.debug if status and status < _SERVER_ERROR else log.warning
                path = "/".join(scope["path"].split("/")[:_PATH_PARTS])[:_PATH_CHARS]
                tell("request", method=method, path=path, status=status or 500)


def _request_id(scope: Message) -> str:
    """The id that a proxy gave the request, if it is fit for a log, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value.decode("ascii"))
    return secrets.token_hex(8)


def health_app(
    *,
    problems: Callable[[], tuple[Reason, ...]],
    detail: Callable[[], dict[str, Any]],
    name: str,
    metrics: Metrics,
) -> Starlette:
    """``/healthz`` the process runs, ``/readyz`` it can work (or why not), ``/metrics`` for Prometheus."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        found = [reason.model_dump() for reason in problems()]
        content = {"service": name, "ready": not found, "problems": found, "detail": detail()}
        return JSONResponse(content, status_code=503 if found else 200)

    async def numbers(_: Request) -> Response:
        return Response(await metrics.render(), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", numbers)])


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"Port {port} on {host} cannot be used ({error.strerror}). Stop what holds it, or set another port.",
            code="port-in-use",
        ) from None
    listener.setblocking(False)
    return listener
