"""Workers as they were last heard of, and the log that people read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select, update

from common.contracts.status import LogEntry
from console.adapters.ledger.database import Database
from console.adapters.ledger.tables import job_logs, job_workers, projections

_NAME = "log"
KEPT_LINES = 200_000
"""As many as the stream LOG keeps; older ones go with it."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of the log as LOG holds it."""

    sequence: int
    at: datetime
    entry: LogEntry


@dataclass(frozen=True, kw_only=True)
class WorkerSeen:
    """A process and when it was last heard of."""

    name: str
    service: str
    instance: str
    status: str
    started_at: datetime
    seen_at: datetime


class JournalStore:
    """What is kept for people to look up later."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def position(self) -> tuple[int, str | None]:
        """The sequence up to which LOG was read, and when that stream was created."""
        with self._database.read() as connection:
            row = connection.execute(select(projections).where(projections.c.name == _NAME)).one_or_none()
        return (row.sequence, row.stream_created) if row else (0, None)

    def restart(self, stream_created: str | None) -> None:
        """Read LOG from its beginning: it is another stream than before. Lines stay."""
        with self._database.write() as connection:
            connection.execute(delete(projections).where(projections.c.name == _NAME))
            connection.execute(insert(projections).values(name=_NAME, sequence=0, stream_created=stream_created))

    def add(self, lines: Sequence[Line], *, sequence: int) -> None:
        """Keep lines, and ``sequence`` as the place reached; the oldest beyond the limit go."""
        rows = [
            {
                "sequence": line.sequence,
                "job_run_id": line.entry.job_id,
                "stage_type": line.entry.stage.value if line.entry.stage else None,
                "service": line.entry.service,
                "instance": line.entry.instance,
                "level": line.entry.level,
                "event": line.entry.event,
                "item": line.entry.item,
                "fields_json": line.entry.fields,
                "created_at": line.at,
            }
            for line in lines
        ]
        with self._database.write() as connection:
            if rows:
                connection.execute(insert(job_logs), rows)
                newest = connection.scalar(select(func.max(job_logs.c.id))) or 0
                connection.execute(delete(job_logs).where(job_logs.c.id <= newest - KEPT_LINES))
            connection.execute(update(projections).where(projections.c.name == _NAME).values(sequence=sequence))

    def lines(self, job_id: int, *, limit: int = 50) -> list[dict[str, Any]]:
        """The log of a job, newest first."""
        query = select(job_logs).where(job_logs.c.job_run_id == job_id).order_by(job_logs.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [
                {"at": row.created_at, "level": row.level, "service": row.service, "event": row.event, "item": row.item}
                for row in connection.execute(query)
            ]

    def seen(self, workers: Sequence[WorkerSeen]) -> None:
        """Note who was heard of."""
        with self._database.write() as connection:
            for worker in workers:
                where = (job_workers.c.service == worker.service) & (job_workers.c.instance == worker.instance)
                values = {
                    "worker_name": worker.name,
                    "status": worker.status,
                    "started_at": worker.started_at,
                    "last_seen_at": worker.seen_at,
                }
                if connection.execute(update(job_workers).where(where).values(values)).rowcount == 0:
                    connection.execute(
                        insert(job_workers).values(service=worker.service, instance=worker.instance, **values)
                    )
