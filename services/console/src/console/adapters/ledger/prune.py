"""Forgetting old history: ended jobs, their items and log lines, in small steps so that nothing waits for it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, Table, delete, func, select

from common.contracts.names import JobState
from console.adapters.ledger.database import Database
from console.adapters.ledger.tables import (
    item_counts,
    job_commands,
    job_events,
    job_items,
    job_logs,
    job_runs,
    job_stages,
    job_workers,
    sessions,
)

_ENDED = [state.value for state in JobState if state.ended]
_OF_A_JOB: tuple[Table, ...] = (item_counts, job_commands, job_events, job_logs, job_stages)


class Pruner:
    """Removes what ended long ago. Numbers of jobs are never given twice: the newest job always stays."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def step(self, before: datetime, *, rows: int) -> int:
        """Remove up to about ``rows`` rows of what ended before ``before``; 0: nothing is left to remove."""
        with self._database.write() as connection:
            job_id = _oldest(connection, before)
            if job_id is None:
                return _loose(connection, before, rows)
            removed = _items(connection, job_id, rows)
            if removed < rows:
                for table in _OF_A_JOB:
                    removed += connection.execute(delete(table).where(table.c.job_run_id == job_id)).rowcount
                removed += connection.execute(delete(job_runs).where(job_runs.c.id == job_id)).rowcount
            return removed


def _oldest(connection: Connection, before: datetime) -> int | None:
    newest = connection.scalar(select(func.max(job_runs.c.id)))
    return connection.scalar(
        select(job_runs.c.id)
        .where(
            job_runs.c.status.in_(_ENDED),
            job_runs.c.closed.is_(True),
            job_runs.c.swept.is_(True),
            job_runs.c.ended_at < before,
            job_runs.c.id != newest,
        )
        .order_by(job_runs.c.id)
        .limit(1)
    )


def _items(connection: Connection, job_id: int, rows: int) -> int:
    oldest = (
        select(job_items.c.id).where(job_items.c.job_run_id == job_id).order_by(job_items.c.id).limit(rows).subquery()
    )
    return connection.execute(delete(job_items).where(job_items.c.id.in_(select(oldest.c.id)))).rowcount


def _loose(connection: Connection, before: datetime, rows: int) -> int:
    """Log lines of no job, processes that were last heard of long ago, sessions that are over."""
    lines = (
        select(job_logs.c.id)
        .where(job_logs.c.job_run_id.is_(None), job_logs.c.created_at < before)
        .order_by(job_logs.c.id)
        .limit(rows)
        .subquery()
    )
    removed = connection.execute(delete(job_logs).where(job_logs.c.id.in_(select(lines.c.id)))).rowcount
    removed += connection.execute(delete(job_workers).where(job_workers.c.last_seen_at < before)).rowcount
    return removed + connection.execute(delete(sessions).where(sessions.c.expires_at < before)).rowcount
