"""``/api/schedules``: jobs that run again and again."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path

from console.ports import Schedule, ScheduleDraft
from console.routes.api_jobs import TheDesk
from console.routes.models import NewSchedule, ScheduleChange

router = APIRouter(prefix="/api/schedules", tags=["schedules"])

ScheduleId = Annotated[int, Path(ge=1, lt=2**53)]


@router.get("")
def list_schedules(desk: TheDesk) -> dict[str, Any]:
    """All schedules, and what became of their last runs."""
    return {"items": [schedule_view(one) for one in desk.schedules.all()], "next": None}


@router.post("", status_code=201)
async def add_schedule(desk: TheDesk, wanted: NewSchedule) -> dict[str, Any]:
    """Let a job run again and again."""
    return schedule_view(await desk.scheduler.add(draft_of(wanted)))


@router.patch("/{schedule_id}")
async def change_schedule(desk: TheDesk, schedule_id: ScheduleId, wanted: ScheduleChange) -> dict[str, Any]:
    """Let it run, or rest."""
    return schedule_view(await desk.scheduler.enable(schedule_id, enabled=wanted.enabled))


@router.delete("/{schedule_id}", status_code=204)
async def remove_schedule(desk: TheDesk, schedule_id: ScheduleId) -> None:
    """Forget it; its jobs stay."""
    await desk.scheduler.remove(schedule_id)


def draft_of(wanted: NewSchedule) -> ScheduleDraft:
    """What was asked for."""
    return ScheduleDraft(
        name=wanted.name,
        job_type=wanted.job_type,
        sources=tuple(wanted.sources),
        download_sources=tuple(wanted.download_sources),
        pool_scope=tuple(wanted.pool_scope),
        priority=wanted.priority,
        cron=wanted.cron,
        every_seconds=wanted.every_seconds,
        jitter_seconds=wanted.jitter_seconds,
    )


def schedule_view(schedule: Schedule) -> dict[str, Any]:
    """A schedule as it is shown."""
    draft = schedule.draft
    return {
        "id": schedule.schedule_id,
        "name": draft.name,
        "job_type": draft.job_type.value,
        "sources": list(draft.sources),
        "download_sources": list(draft.download_sources),
        "pool_scope": list(draft.pool_scope),
        "priority": draft.priority,
        "cron": draft.cron,
        "every_seconds": draft.every_seconds,
        "jitter_seconds": draft.jitter_seconds,
        "enabled": schedule.enabled,
        "next_at": schedule.next_at.isoformat() if schedule.enabled else None,
        "last_at": schedule.last_at.isoformat() if schedule.last_at else None,
        "last_job_id": schedule.last_job_id,
        "note": schedule.note,
    }
