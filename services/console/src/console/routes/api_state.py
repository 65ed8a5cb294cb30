"""What goes on: the dashboard, its events, dead letters, sources, stream links."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from sse_starlette import EventSourceResponse, ServerSentEvent

from common.contracts.envelope import now
from common.contracts.names import LIBRARY_BACKEND, BackendKind
from common.tokens import WeakSecret, create_origin_token
from console.adapters.hub import MAX_LISTENERS
from console.adapters.letters import letter_view
from console.errors import InvalidRequest, NotFound, Unavailable
from console.routes.api_jobs import Cursor, Limit, TheDesk, number
from console.routes.models import NewToken
from console.service.findings import findings_view
from console.service.fleet import status_of
from console.service.views import sources_view

router = APIRouter(prefix="/api", tags=["state"])

LetterId = Annotated[int, Path(ge=1, lt=2**53)]


@router.get("/dashboard")
def get_dashboard(desk: TheDesk, include_task_rows: Annotated[bool, Query()] = True) -> dict[str, Any]:
    """Jobs, workers, speed, failures with their reasons, holds. Without task rows: no single items."""
    return desk.dashboard(include_items=include_task_rows)


@router.get("/doctor")
def get_doctor(desk: TheDesk) -> dict[str, Any]:
    """What the services found at their start that is not as it should be, and the command that mends it."""
    at = time.monotonic()
    desk.fleet.observe(desk.beat(), at)
    services = [
        {"worker_name": member.name, "service": member.beat.service, "status": status_of(member, at)}
        for member in desk.fleet.members(at)
    ]
    return {"items": findings_view(desk.fleet, at), "services": services, "next": None}


@router.get("/dead")
async def list_dead(desk: TheDesk, cursor: Cursor = None, limit: Limit = 100) -> dict[str, Any]:
    """What could not be handled, with its reason and itself."""
    found = await desk.letters.page(after=number(cursor) or 0, limit=limit + 1)
    shown = found[:limit]
    return {
        "items": [letter_view(letter) for letter in shown],
        "next": str(shown[-1].sequence) if len(found) > limit else None,
    }


@router.post("/dead/replay", status_code=202)
async def replay_all(desk: TheDesk) -> dict[str, Any]:
    """Try everything again that could not be handled; what cannot be stays listed."""
    replayed, refused = await desk.replays.replay_all()
    return {"replayed": replayed, "refused": refused}


@router.post("/dead/{letter_id}/replay", status_code=202)
async def replay(desk: TheDesk, letter_id: LetterId) -> dict[str, Any]:
    """Try one thing again that could not be handled."""
    return {"message": await desk.replays.replay(letter_id)}


@router.delete("/dead/{letter_id}", status_code=204)
async def remove_letter(desk: TheDesk, letter_id: LetterId) -> None:
    """Forget one thing that could not be handled."""
    await desk.replays.remove(letter_id)


@router.get("/v1/sources")
def list_sources(desk: TheDesk) -> dict[str, Any]:
    """The configured sources and whether they can be used now."""
    return {"items": sources_view(desk.fleet, time.monotonic(), desk.settings.source_names), "next": None}


@router.get("/events/stream")
async def events(desk: TheDesk) -> EventSourceResponse:
    """Server-sent events: ``dashboard`` with the whole of it, whenever it changes."""
    if desk.hub.listeners >= MAX_LISTENERS:
        raise Unavailable("Too many listeners. Close some pages.", code="too-many-listeners", retry_after=30)
    # The first listener must not wait for a change to see anything.
    desk.hub.publish("dashboard", await asyncio.to_thread(desk.dashboard))

    async def stream() -> AsyncIterator[ServerSentEvent]:
        async for name, data in desk.hub.listen():
            yield ServerSentEvent(data=data, event=name)

    return EventSourceResponse(stream(), ping=15, send_timeout=30)


@router.post("/v1/tokens")
async def create_token(desk: TheDesk, wanted: NewToken) -> dict[str, Any]:
    """A link under which the origin streams one file until it expires."""
    if desk.settings.origin_token_secret is None:
        raise Unavailable("ORIGIN_TOKEN_SECRET is not set, so no link can be signed.", code="no-origin-secret")
    locator, backend = wanted.locator, wanted.backend or LIBRARY_BACKEND
    if (wanted.song_id is None) == (locator is None):
        raise InvalidRequest("Give either song_id or locator.", code="song-or-locator")
    if wanted.song_id is not None:
        stored = await desk.catalog.stored(wanted.song_id, backend=wanted.backend)
        if stored is None:
            raise NotFound("No file of this song is stored.", code="song-not-stored")
        if stored.backend_kind is not BackendKind.FILESYSTEM:
            raise InvalidRequest("The origin serves files of this machine's folders only.", code="not-a-folder")
        locator, backend = stored.locator, stored.backend
    assert locator is not None
    expires_at = now() + timedelta(seconds=wanted.ttl_seconds)
    try:
        token = create_origin_token(
            desk.settings.origin_token_secret.get_secret_value(), locator, expires_at, backend=backend
        )
    except WeakSecret as error:
        raise Unavailable(error.message, code=error.code) from None
    except ValueError as error:
        raise InvalidRequest(str(error), code="invalid-locator") from None
    base = desk.settings.origin_public_url.rstrip("/")
    return {
        "token": token,
        "url": f"{base}/api/private-origin/stream/{token}",
        "expires_at": expires_at.replace(microsecond=0).isoformat().replace("+00:00", "Z"),
    }
