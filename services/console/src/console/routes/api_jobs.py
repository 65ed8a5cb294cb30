"""``/api/jobs``: jobs, their items, commands to them."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from common.contracts.names import ItemState, JobState, Stage
from console.errors import InvalidRequest, NotFound
from console.ports import Job, Wish
from console.routes.desk import Desk, desk_of
from console.routes.models import NewCommand, NewJob

router = APIRouter(prefix="/api/jobs", tags=["jobs"])

TheDesk = Annotated[Desk, Depends(desk_of)]
Limit = Annotated[int, Query(ge=1, le=500)]
Cursor = Annotated[str | None, Query(max_length=32)]


@router.get("")
def list_jobs(
    desk: TheDesk, state: Annotated[list[JobState] | None, Query()] = None, cursor: Cursor = None, limit: Limit = 50
) -> dict[str, Any]:
    """Jobs, newest first."""
    found = desk.jobs(states=state or [], before=number(cursor), limit=limit + 1)
    shown = found[:limit]
    return {
        "items": [desk.job_view(job, counts) for job, counts in shown],
        "next": str(shown[-1][0].job_id) if len(found) > limit else None,
    }


@router.post("", status_code=202)
async def create_job(desk: TheDesk, wanted: NewJob, response: Response) -> dict[str, Any]:
    """Make a job; 200 with the running one where the same is under way."""
    job, already = await desk.control.submit(
        job_type=wanted.job_type,
        sources=wanted.sources,
        download_sources=wanted.download_sources,
        playlist_scope=wanted.playlist_scope,
        pool_scope=wanted.pool_scope,
        priority=wanted.priority,
    )
    response.status_code = 200 if already else 202
    response.headers["Location"] = f"/api/jobs/{job.job_id}"
    return {**await asyncio.to_thread(desk.job_view, job), "already_running": already}


@router.get("/{job_id}")
def get_job(desk: TheDesk, job_id: int) -> dict[str, Any]:
    """One job with its stages, counts, latest events, and the configuration that it was started with."""
    job = find(desk, job_id)
    events = [{**event, "at": event["at"].isoformat()} for event in desk.runs.events(job_id)]
    return {**desk.job_view(job), "events": events, "config": desk.runs.config(job_id)}


@router.get("/{job_id}/items")
def list_items(
    desk: TheDesk,
    job_id: int,
    state: Annotated[list[ItemState] | None, Query()] = None,
    status: Annotated[list[ItemState] | None, Query(description="the same as state")] = None,
    stage: Stage | None = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> dict[str, Any]:
    """Items of a job, in the order in which they were first seen."""
    job = find(desk, job_id)
    states = [*(state or ()), *(status or ())]
    found = desk.page(job, states=states, stage=stage, after=number(cursor) or 0, limit=limit + 1)
    shown = found[:limit]
    return {
        "items": desk.item_views(job, shown),
        "next": str(shown[-1].item_id) if len(found) > limit else None,
    }


@router.post("/{job_id}/commands", status_code=202)
async def command_job(desk: TheDesk, job_id: int, wanted: NewCommand) -> dict[str, Any]:
    """Pause, resume, cancel, give another priority, or ask for items again."""
    check_number(job_id)
    wish = Wish(
        command=wanted.command_type,
        item_id=wanted.target_item_id,
        error_code=wanted.error_code,
        priority=wanted.priority,
    )
    job = await desk.control.command(job_id, wish)
    return await asyncio.to_thread(desk.job_view, job)


def find(desk: Desk, job_id: int) -> Job:
    """The job. Raises NotFound."""
    check_number(job_id)
    job = desk.runs.get(job_id)
    if job is None:
        raise NotFound(f"There is no job {job_id}.", code="no-such-job")
    return job


def check_number(job_id: int) -> None:
    """Raise NotFound for a number that no job can have: databases refuse to compare with it."""
    if not 0 < job_id < 2**53:
        raise NotFound("There is no such job.", code="no-such-job")


def number(cursor: str | None) -> int | None:
    """The place that a cursor names. Raises InvalidRequest for one that we never gave."""
    if cursor is None:
        return None
    if not cursor.isascii() or not cursor.isdigit() or int(cursor) >= 2**53:
        raise InvalidRequest("This cursor is not one of ours; start from the first page.", code="bad-cursor")
    return int(cursor)
