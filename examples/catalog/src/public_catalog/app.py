"""Composition: settings in, an ASGI application out."""

from __future__ import annotations

import contextlib
import http
import logging
import sqlite3
from collections.abc import AsyncIterator

import anyio.to_thread
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response

from public_catalog.errors import BadAddress, Busy, NotThere
from public_catalog.follow import Follower
from public_catalog.pages import Pages
from public_catalog.playback import Player
from public_catalog.rendering import Renderer
from public_catalog.settings import Settings
from public_catalog.shelf import Shelf

log = logging.getLogger("public_catalog")


def build(settings: Settings) -> FastAPI:
    """The application; the folder is followed while it runs."""
    shelf = Shelf()
    follower = Follower(
        shelf,
        mirror=settings.mirror,
        cache=settings.cache,
        poll_seconds=settings.poll_seconds,
        connections=settings.connections,
    )
    renderer = Renderer(title=settings.title, covers=settings.covers)
    pages = Pages(shelf=shelf, follower=follower, renderer=renderer, player=Player(settings.origin))

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        follower.start()
        try:
            yield
        finally:
            await anyio.to_thread.run_sync(follower.stop)
            shelf.put(None)

    app = FastAPI(lifespan=life, redirect_slashes=False, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)
    app.include_router(pages.router())

    def refuse(request: Request, status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
        headers = {"Cache-Control": "no-store", **(headers or {})}
        heading = http.HTTPStatus(status).phrase
        return renderer.page(
            request, "error.html", status=status, headers=headers, edition=None, heading=heading, sentence=sentence
        )

    async def refused(request: Request, error: Exception) -> Response:
        match error:
            case NotThere():
                return refuse(request, 404, str(error))
            case BadAddress():
                return refuse(request, 400, str(error))
            case HTTPException(status_code=404):
                return refuse(request, 404, "There is no such page here.")
            case HTTPException():
                return refuse(request, error.status_code, str(error.detail), dict(error.headers or {}))
            case Busy() | sqlite3.OperationalError():
                log.warning("a page could not be made in time: %s", error)
                return refuse(request, 503, "Too many people are here just now. Try again soon.", {"Retry-After": "5"})
            case _:
                return refuse(request, 500, "The catalog could not be read. Its keeper finds the reason in the log.")

    for kind in (NotThere, BadAddress, HTTPException, Busy, sqlite3.OperationalError, Exception):
        app.add_exception_handler(kind, refused)
    return app
