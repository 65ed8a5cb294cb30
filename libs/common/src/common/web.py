"""The HTTP parts that services share: health pages, and a server that ends when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from common.contracts.status import Reason
from common.errors import ConfigurationError

_GRACE = 1
"""Seconds that open requests have when the process ends; streams and events end with them."""


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


def health_app(
    *, problems: Callable[[], tuple[Reason, ...]], detail: Callable[[], dict[str, Any]], name: str
) -> Starlette:
    """``/healthz`` the process runs, ``/readyz`` it can work (or why not), ``/metrics`` for Prometheus."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        found = [reason.model_dump() for reason in problems()]
        content = {"service": name, "ready": not found, "problems": found, "detail": detail()}
        return JSONResponse(content, status_code=503 if found else 200)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)])


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
