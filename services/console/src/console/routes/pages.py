"""The pages for people. They work without scripts; with them, they follow what happens."""

from __future__ import annotations

import time
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from common.contracts.names import Command, ItemState, JobState, JobType, Stage, Token
from console.adapters.letters import letter_view
from console.errors import ClientError
from console.ports import ScheduleDraft, Wish
from console.routes.api_jobs import Cursor, TheDesk, check_number, find, number
from console.routes.api_schedules import ScheduleId, schedule_view
from console.routes.api_state import LetterId
from console.routes.rendering import render
from console.service.access import local_path
from console.service.views import item_view, sources_view

router = APIRouter(include_in_schema=False)

_PAGE = 50


@router.get("/")
def home() -> Response:
    """The dashboard is the first page."""
    return RedirectResponse("/dashboard", status_code=303)


@router.get("/dashboard")
def dashboard_page(request: Request, desk: TheDesk) -> Response:
    """What goes on."""
    sources = sources_view(desk.fleet, time.monotonic(), desk.settings.source_names)
    return render(
        request, "dashboard.html", board=desk.dashboard(), sources=sources, job_types=[kind.value for kind in JobType]
    )


@router.get("/jobs")
def jobs_page(request: Request, desk: TheDesk, state: JobState | None = None, cursor: Cursor = None) -> Response:
    """All jobs."""
    found = desk.jobs(states=[state] if state else [], before=number(cursor), limit=_PAGE + 1)
    shown = found[:_PAGE]
    query = {"state": state.value} if state else {}
    more = f"/jobs?{urlencode({**query, 'cursor': shown[-1][0].job_id})}" if len(found) > _PAGE else None
    return render(
        request,
        "jobs.html",
        jobs=[desk.job_view(job, counts) for job, counts in shown],
        states=[one.value for one in JobState],
        chosen=state.value if state else "",
        more=more,
        job_types=[kind.value for kind in JobType],
        sources=sources_view(desk.fleet, time.monotonic(), desk.settings.source_names),
    )


@router.get("/jobs/{job_id}")
def job_page(
    request: Request,
    desk: TheDesk,
    job_id: int,
    state: Annotated[str, Query(max_length=32)] = "",
    stage: Annotated[str, Query(max_length=32)] = "",
    cursor: Cursor = None,
) -> Response:
    """One job: stages, items, failures, what happened."""
    job = find(desk, job_id)
    # An unknown choice in a link is no choice.
    chosen_state = next((one for one in ItemState if one.value == state), None)
    chosen_stage = next((one for one in Stage if one.value == stage), None)
    found = desk.page(
        job,
        states=[chosen_state] if chosen_state else [],
        stage=chosen_stage,
        after=number(cursor) or 0,
        limit=_PAGE + 1,
    )
    shown = found[:_PAGE]
    query = {"state": chosen_state or "", "stage": chosen_stage or ""}
    more = f"/jobs/{job_id}?{urlencode({**query, 'cursor': shown[-1].item_id})}" if len(found) > _PAGE else None
    board = desk.dashboard(include_items=False)
    return render(
        request,
        "job.html",
        job=desk.job_view(job),
        config=desk.runs.config(job_id),
        items=desk.item_views(job, shown),
        failures=[item_view(item) for item in desk.items.failures([job_id], limit=_PAGE)],
        events=desk.runs.events(job_id, limit=20),
        lines=desk.journal.lines(job_id, limit=20),
        holds=[hold for hold in board["holds"] if hold["job_id"] == job_id],
        states=[one.value for one in ItemState],
        chosen_state=chosen_state or "",
        chosen_stage=chosen_stage or "",
        more=more,
    )


@router.post("/jobs")
async def create_job(
    desk: TheDesk, job_type: Annotated[JobType, Form()], sources: Annotated[list[str] | None, Form()] = None
) -> Response:
    """Start a job from the form, and show it."""
    job, _ = await desk.control.submit(job_type=job_type, sources=sources or [])
    return RedirectResponse(f"/jobs/{job.job_id}", status_code=303)


@router.post("/jobs/{job_id}/commands")
async def command_job(
    desk: TheDesk,
    job_id: int,
    command_type: Annotated[Command, Form()],
    target_item_id: Annotated[int | None, Form(ge=1, lt=2**53)] = None,
    error_code: Annotated[Token | None, Form()] = None,
    priority: Annotated[int | None, Form(ge=-3, le=3)] = None,
    back: Annotated[str | None, Form(max_length=2000)] = None,
) -> Response:
    """Carry out a command, and go back to where it came from."""
    check_number(job_id)
    wish = Wish(command=command_type, item_id=target_item_id, error_code=error_code, priority=priority)
    await desk.control.command(job_id, wish)
    return RedirectResponse(local_path(back) if back else f"/jobs/{job_id}", status_code=303)


@router.get("/schedules")
def schedules_page(request: Request, desk: TheDesk) -> Response:
    """Jobs that run by themselves."""
    return render(
        request,
        "schedules.html",
        schedules=[schedule_view(one) for one in desk.schedules.all()],
        job_types=[kind.value for kind in JobType],
        sources=list(desk.settings.source_names),
    )


@router.post("/schedules")
async def add_schedule(
    desk: TheDesk,
    name: Annotated[str, Form(min_length=1, max_length=100)],
    job_type: Annotated[JobType, Form()],
    cron: Annotated[str, Form(max_length=100)],
    sources: Annotated[list[str] | None, Form()] = None,
) -> Response:
    """Let a job run again and again."""
    await desk.scheduler.add(ScheduleDraft(name=name, job_type=job_type, cron=cron, sources=tuple(sources or ())))
    return RedirectResponse("/schedules", status_code=303)


@router.post("/schedules/{schedule_id}/{action}")
async def change_schedule(desk: TheDesk, schedule_id: ScheduleId, action: Literal["go", "rest", "remove"]) -> Response:
    """Let one run or rest, or forget it."""
    if action == "remove":
        await desk.scheduler.remove(schedule_id)
    else:
        await desk.scheduler.enable(schedule_id, enabled=action == "go")
    return RedirectResponse("/schedules", status_code=303)


@router.get("/dead")
async def dead_page(request: Request, desk: TheDesk, cursor: Cursor = None) -> Response:
    """What could not be handled."""
    found = await desk.letters.page(after=number(cursor) or 0, limit=_PAGE + 1)
    shown = found[:_PAGE]
    more = f"/dead?{urlencode({'cursor': shown[-1].sequence})}" if len(found) > _PAGE else None
    return render(request, "dead.html", letters=[letter_view(letter) for letter in shown], more=more)


@router.post("/dead/replay")
async def replay_all(desk: TheDesk) -> Response:
    """Try all again that can be."""
    await desk.replays.replay_all()
    return RedirectResponse("/dead", status_code=303)


@router.post("/dead/{letter_id}/replay")
async def replay(desk: TheDesk, letter_id: LetterId) -> Response:
    """Try one again."""
    await desk.replays.replay(letter_id)
    return RedirectResponse("/dead", status_code=303)


@router.post("/dead/{letter_id}/remove")
async def remove_letter(desk: TheDesk, letter_id: LetterId) -> Response:
    """Forget one."""
    await desk.replays.remove(letter_id)
    return RedirectResponse("/dead", status_code=303)


def problem_page(request: Request, error: ClientError) -> Response:
    """An expected error, as a page."""
    return render(request, "problem.html", status=error.status, code=error.code, message=error.message)
