"""The page of the configuration: its versions, a form for the next, what differs, and who runs which."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from console.errors import ClientError
from console.routes.api_config import state_view
from console.routes.api_jobs import TheDesk
from console.routes.desk import Desk
from console.routes.rendering import render

router = APIRouter(include_in_schema=False)

_SHOWN = 30


@router.get("/config")
async def config_page(
    request: Request,
    desk: TheDesk,
    show: Annotated[int | None, Query(ge=1, lt=2**53)] = None,
    against: Annotated[int | None, Query(ge=1, lt=2**53)] = None,
) -> Response:
    """The version that runs, or another one, and what differs from ``against``."""
    return await _page(request, desk, show=show, against=against)


@router.post("/config/revisions")
async def save(
    request: Request,
    desk: TheDesk,
    content_text: Annotated[str, Form(max_length=200_000)],
    note: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    """Keep what was written; what is wrong with it is said beside it."""
    try:
        revision, _ = await desk.configuration.draft(content_text, note=note)
    except ClientError as error:
        return await _page(request, desk, text=content_text, note=note, refused=error)
    return RedirectResponse(f"/config?show={revision.revision_id}", status_code=303)


@router.post("/config/revisions/{revision_id}/apply")
async def apply(request: Request, desk: TheDesk, revision_id: int) -> Response:
    """Make a version the file."""
    try:
        outcome = await desk.configuration.apply(revision_id)
    except ClientError as error:
        return await _page(request, desk, show=revision_id, refused=error)
    return RedirectResponse(f"/config?show={outcome['revision'].revision_id}", status_code=303)


async def _page(
    request: Request,
    desk: Desk,
    *,
    show: int | None = None,
    against: int | None = None,
    text: str | None = None,
    note: str = "",
    refused: ClientError | None = None,
) -> Response:
    configuration = desk.configuration
    shown = await configuration.revision(show) if show is not None else configuration.current
    current = configuration.current
    old = against if against is not None else current.revision_id if current else None
    diff = ""
    if shown is not None and old is not None and old != shown.revision_id:
        diff = await configuration.diff(old, shown.revision_id)
    revisions = await asyncio.to_thread(desk.revisions.page, before=None, limit=_SHOWN)
    values: dict[str, Any] = {
        "state": state_view(desk),
        "revisions": [configuration.view(one) for one in revisions],
        "shown": configuration.view(shown) if shown else None,
        "against": old,
        "diff": diff.splitlines(),
        "text": text if text is not None else shown.text if shown else "",
        "note": note,
        "refused": refused.message if refused else "",
    }
    return render(request, "config.html", status=refused.status if refused else 200, **values)
