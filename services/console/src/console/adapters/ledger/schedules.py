"""Schedules: jobs that run again and again."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, insert, select, update

from common.contracts.names import JobType
from console.adapters.ledger.database import Database
from console.adapters.ledger.tables import job_schedules
from console.ports import Schedule, ScheduleDraft


class ScheduleStore:
    """The console's truth about schedules."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[Schedule]:
        """Every schedule, oldest first."""
        with self._database.read() as connection:
            return [_schedule(row) for row in connection.execute(select(job_schedules).order_by(job_schedules.c.id))]

    def due(self, at: datetime) -> list[Schedule]:
        """The schedules whose time has come, the earliest first."""
        query = (
            select(job_schedules)
            .where(job_schedules.c.enabled.is_(True), job_schedules.c.next_at <= at)
            .order_by(job_schedules.c.next_at)
        )
        with self._database.read() as connection:
            return [_schedule(row) for row in connection.execute(query)]

    def get(self, schedule_id: int) -> Schedule | None:
        """One schedule."""
        with self._database.read() as connection:
            row = connection.execute(select(job_schedules).where(job_schedules.c.id == schedule_id)).one_or_none()
        return _schedule(row) if row else None

    def add(self, draft: ScheduleDraft, *, next_at: datetime, at: datetime) -> Schedule:
        """Keep a new one."""
        values = {
            "name": draft.name,
            "job_type": draft.job_type.value,
            "sources": list(draft.sources),
            "download_sources": list(draft.download_sources),
            "pool_scope_json": list(draft.pool_scope),
            "priority": draft.priority,
            "cron": draft.cron,
            "every_seconds": draft.every_seconds,
            "jitter_seconds": draft.jitter_seconds,
            "enabled": True,
            "next_at": next_at,
            "note": "",
            "created_at": at,
        }
        with self._database.write() as connection:
            inserted = connection.execute(insert(job_schedules).values(values)).inserted_primary_key
        assert inserted is not None
        found = self.get(int(inserted[0]))
        assert found is not None
        return found

    def ran(self, schedule_id: int, *, next_at: datetime, last_at: datetime, job_id: int | None, note: str) -> None:
        """Note a run, and when the next one is due."""
        values: dict[str, Any] = {"next_at": next_at, "last_at": last_at, "note": note}
        if job_id is not None:
            values["last_job_run_id"] = job_id
        self._update(schedule_id, values)

    def enable(self, schedule_id: int, *, enabled: bool, next_at: datetime) -> None:
        """Let it run, or not."""
        self._update(schedule_id, {"enabled": enabled, "next_at": next_at})

    def remove(self, schedule_id: int) -> None:
        """Forget it; its jobs stay."""
        with self._database.write() as connection:
            connection.execute(delete(job_schedules).where(job_schedules.c.id == schedule_id))

    def _update(self, schedule_id: int, values: dict[str, Any]) -> None:
        with self._database.write() as connection:
            connection.execute(update(job_schedules).where(job_schedules.c.id == schedule_id).values(values))


def _schedule(row: Row[Any]) -> Schedule:
    return Schedule(
        schedule_id=row.id,
        draft=ScheduleDraft(
            name=row.name,
            job_type=JobType(row.job_type),
            sources=tuple(row.sources),
            download_sources=tuple(row.download_sources),
            pool_scope=tuple(row.pool_scope_json),
            priority=row.priority,
            cron=row.cron,
            every_seconds=row.every_seconds,
            jitter_seconds=row.jitter_seconds,
        ),
        enabled=row.enabled,
        next_at=row.next_at,
        last_at=row.last_at,
        last_job_id=row.last_job_run_id,
        note=row.note,
    )
