"""The ASGI application: routes, error answers, the gate in front."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from common.errors import BusUnavailable, MusicCloudError
from common.telemetry import get_logger
from console.errors import ClientError, Unavailable
from console.routes import (
    api_config,
    api_jobs,
    api_schedules,
    api_songs,
    api_state,
    config_pages,
    login,
    pages,
    song_pages,
)
from console.routes.desk import Desk
from console.routes.gate import Gate, Keeper, error_response

STATIC = Path(__file__).parent.parent / "static"
_CODES = {404: "not-found", 405: "method-not-allowed", 400: "bad-request"}


def create_app(desk: Desk, *, credential: str) -> ASGIApp:
    """The console's HTTP side. ``credential`` opens everything that is not named open in the gate."""
    app = FastAPI(
        title="Music Cloud console", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json", version="1"
    )
    app.state.desk = desk
    app.state.keeper = keeper = Keeper(credential=credential)
    app.include_router(api_jobs.router)
    app.include_router(api_schedules.router)
    app.include_router(api_config.router)
    app.include_router(api_state.router)
    app.include_router(api_songs.router)
    app.include_router(login.router)
    app.include_router(pages.router)
    app.include_router(song_pages.router)
    app.include_router(config_pages.router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> Response:
        return PlainTextResponse("ok\n")

    app.add_exception_handler(ClientError, _client_error)
    app.add_exception_handler(BusUnavailable, _bus_away)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _bug)
    return Gate(
        app,
        keeper=keeper,
        sessions=desk.sessions,
        web_host=desk.settings.web_host,
        host_names=desk.settings.host_names,
    )


async def _client_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ClientError)
    if _wants_page(request):
        return pages.problem_page(request, error)
    return error_response(error)


async def _bus_away(request: Request, error: Exception) -> Response:
    assert isinstance(error, MusicCloudError)
    get_logger().warning("request without the bus", path=request.url.path, reason=error.message)
    away = Unavailable("The bus is away. Try again in a moment.", code="bus-unavailable", retry_after=5)
    return await _client_error(request, away)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0] if error.errors() else {"loc": (), "msg": "not valid"}
    where = ".".join(str(part) for part in first["loc"] if part != "body")[:200] or "body"
    content = {"code": "invalid-request", "message": f"{where}: {first['msg']}"}
    return JSONResponse(content, status_code=422)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known = ClientError(str(error.detail), code=_CODES.get(error.status_code, "http-error"))
    known.status = error.status_code
    if _wants_page(request):
        return pages.problem_page(request, known)
    return error_response(known)


async def _bug(request: Request, error: Exception) -> Response:
    get_logger().error("a request failed", path=request.url.path, error=type(error).__name__, exc_info=error)
    content = {"code": "internal-error", "message": "That should not happen; the console's log has the details."}
    return JSONResponse(content, status_code=500)


def _wants_page(request: Request) -> bool:
    return not request.url.path.startswith("/api") and "text/html" in request.headers.get("accept", "")
