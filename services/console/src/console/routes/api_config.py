"""``/api/config``: versions of the configuration file, and who runs which."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from common.contracts.settings import LIVE_SETTINGS
from console.errors import NotFound
from console.ports import Revision
from console.routes.api_jobs import Cursor, Limit, TheDesk, number
from console.routes.desk import Desk
from console.routes.models import NewRevision
from console.service.configuration import workers_view

router = APIRouter(prefix="/api/config", tags=["configuration"])


@router.get("")
def get_config(desk: TheDesk) -> dict[str, Any]:
    """The version that runs, what the environment overrides, and which version each process runs."""
    return state_view(desk)


@router.get("/revisions")
def list_revisions(desk: TheDesk, cursor: Cursor = None, limit: Limit = 50) -> dict[str, Any]:
    """Versions, newest first."""
    found = desk.revisions.page(before=number(cursor), limit=limit + 1)
    shown = found[:limit]
    return {
        "items": [desk.configuration.view(one) for one in shown],
        "next": str(shown[-1].revision_id) if len(found) > limit else None,
    }


@router.post("/revisions", status_code=201)
async def add_revision(desk: TheDesk, wanted: NewRevision, response: Response) -> dict[str, Any]:
    """Keep a version; 200 with the one that has this text already. Nothing changes before it is applied."""
    revision, known = await desk.configuration.draft(wanted.content_text, note=wanted.note)
    response.status_code = 200 if known else 201
    return whole_view(desk, revision)


@router.get("/revisions/{revision_id}")
async def get_revision(desk: TheDesk, revision_id: int) -> dict[str, Any]:
    """One version with its text, secrets masked."""
    return whole_view(desk, await desk.configuration.revision(revision_id))


@router.get("/revisions/{revision_id}/diff")
async def get_diff(
    desk: TheDesk,
    revision_id: int,
    against: Annotated[int | None, Query(description="the older one; default: the one that runs")] = None,
) -> dict[str, Any]:
    """What differs, as a unified diff."""
    current = desk.configuration.current
    old = against if against is not None else current.revision_id if current else None
    if old is None:
        raise NotFound("No version runs, so there is nothing to compare with.", code="no-such-revision")
    return {"old": old, "new": revision_id, "diff": await desk.configuration.diff(old, revision_id)}


@router.post("/revisions/{revision_id}/apply", status_code=202)
async def apply_revision(desk: TheDesk, revision_id: int) -> dict[str, Any]:
    """Write a version to the file and announce it; ``live`` settings change within seconds, the rest at a restart."""
    outcome = await desk.configuration.apply(revision_id)
    return {**outcome, "revision": await asyncio.to_thread(whole_view, desk, outcome["revision"])}


def whole_view(desk: Desk, revision: Revision) -> dict[str, Any]:
    """A version with its text."""
    return {**desk.configuration.view(revision), "content_text": revision.text}


def state_view(desk: Desk) -> dict[str, Any]:
    """What runs, and where."""
    at = time.monotonic()
    desk.fleet.observe(desk.beat(), at)
    configuration = desk.configuration
    live = [(member.name, member.beat) for member in desk.fleet.members(at) if member.live(at)]
    return {
        "current": configuration.view(configuration.current) if configuration.current else None,
        "problem": configuration.problem or None,
        "live_settings": sorted(LIVE_SETTINGS),
        "workers": workers_view(live),
    }
