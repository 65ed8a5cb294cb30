"""Jobs, their stages, commands and events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, insert, select, update

from common.contracts.jobs import ActiveJob, KeptSettings
from common.contracts.names import Command, JobState, JobType, Stage
from console.adapters.ledger.database import Database
from console.adapters.ledger.tables import job_commands, job_events, job_runs, job_stages
from console.ports import Job, JobDraft, PendingCommand, Wish
from console.service.drafts import draft_of

_UNENDED = [state.value for state in JobState if not state.ended]


class RunStore:
    """The console's truth about jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, draft: JobDraft, *, after: int, trace: str, config: dict[str, Any], at: datetime) -> Job:
        """Enter a new job with a number above ``after`` and above all numbers here."""
        with self._database.write() as connection:
            job_id = max(after, connection.scalar(select(func.max(job_runs.c.id))) or 0) + 1
            _insert(connection, job_id, draft, JobState.QUEUED, trace=trace, config=config, at=at)
            _event(connection, job_id, "created", "; ".join((f"{draft.job_type} asked for", *draft.notes)), at)
        job = self.get(job_id)
        assert job is not None
        return job

    def adopt(self, job: ActiveJob, *, trace: str, config: dict[str, Any], at: datetime) -> None:
        """Enter a job that runs on the bus and is not known here: this database was lost."""
        with self._database.write() as connection:
            _insert(connection, job.job_id, draft_of(job), job.state, trace=trace, config=config, at=at, started=at)
            connection.execute(update(job_runs).where(job_runs.c.id == job.job_id).values(planned=True))
            _event(connection, job.job_id, "adopted", "found running on the bus; its earlier history is not here", at)

    def get(self, job_id: int) -> Job | None:
        """One job."""
        return next(iter(self._jobs(select(job_runs).where(job_runs.c.id == job_id))), None)

    def config(self, job_id: int) -> dict[str, Any]:
        """The configuration that a job was started with, secrets masked; empty where there is no such job."""
        query = select(job_runs.c.config_snapshot_json, job_runs.c.kept_settings_json).where(job_runs.c.id == job_id)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return {**row.config_snapshot_json, **(row.kept_settings_json or {})} if row else {}

    def keep(self, job_id: int, kept: KeptSettings) -> None:
        """Note the settings of the downloaders that a job keeps."""
        values = {"kept_settings_json": kept.model_dump(mode="json")}
        with self._database.write() as connection:
            connection.execute(update(job_runs).where(job_runs.c.id == job_id).values(values))

    def unended(self) -> list[Job]:
        """Jobs that have not ended, oldest first."""
        return self._jobs(select(job_runs).where(job_runs.c.status.in_(_UNENDED)).order_by(job_runs.c.id))

    def unclosed(self) -> list[Job]:
        """Ended jobs whose consumers may still be there."""
        return self._jobs(select(job_runs).where(job_runs.c.status.not_in(_UNENDED), job_runs.c.closed.is_(False)))

    def unswept(self, *, ended_before: datetime) -> list[Job]:
        """Ended jobs whose items have not been purged a second time."""
        return self._jobs(
            select(job_runs).where(
                job_runs.c.status.not_in(_UNENDED),
                job_runs.c.closed.is_(True),
                job_runs.c.swept.is_(False),
                job_runs.c.ended_at < ended_before,
            )
        )

    def newest(self, *, states: Sequence[JobState], before: int | None, limit: int) -> list[Job]:
        """Jobs below the number ``before``, newest first; of these states, or of all."""
        query = select(job_runs).order_by(job_runs.c.id.desc()).limit(limit)
        if states:
            query = query.where(job_runs.c.status.in_([state.value for state in states]))
        if before is not None:
            query = query.where(job_runs.c.id < before)
        return self._jobs(query)

    def count_by_state(self) -> dict[JobState, int]:
        """How many jobs stand where."""
        query = select(job_runs.c.status, func.count()).group_by(job_runs.c.status)
        with self._database.read() as connection:
            return {JobState(status): count for status, count in connection.execute(query)}

    def last_id(self) -> int:
        """The highest number that a job here has; 0 without jobs."""
        with self._database.read() as connection:
            return connection.scalar(select(func.max(job_runs.c.id))) or 0

    def set_state(
        self,
        job_id: int,
        state: JobState,
        *,
        at: datetime,
        event: str,
        wish: Wish | None = None,
    ) -> int | None:
        """Commit a state, and with it the command that led to it; return the command's number."""
        values: dict[str, Any] = {"status": state.value, "ended_at": at if state.ended else None}
        with self._database.write() as connection:
            before = connection.scalar(select(job_runs.c.status).where(job_runs.c.id == job_id))
            if before != state.value:
                if state is JobState.RUNNING and before == JobState.QUEUED:
                    values["started_at"] = at
                values |= {"closed": False, "swept": False}
                connection.execute(update(job_runs).where(job_runs.c.id == job_id).values(values))
                _event(connection, job_id, state.value, event, at)
            if wish is None:
                return None
            if wish.priority is not None:
                connection.execute(update(job_runs).where(job_runs.c.id == job_id).values(priority=wish.priority))
            inserted = connection.execute(
                insert(job_commands).values(
                    job_run_id=job_id,
                    command_type=wish.command.value,
                    target_item_id=wish.item_id,
                    error_code=wish.error_code,
                    status="pending",
                    created_at=at,
                )
            )
            return int(inserted.inserted_primary_key[0]) if inserted.inserted_primary_key else None

    def set_stage(self, job_id: int, stage: Stage, state: JobState, *, at: datetime) -> None:
        """Say where a stage stands; the same again changes nothing."""
        where = (job_stages.c.job_run_id == job_id) & (job_stages.c.stage_type == stage.value)
        values: dict[str, Any] = {"status": state.value, "ended_at": at if state.ended else None}
        with self._database.write() as connection:
            row = connection.execute(select(job_stages.c.status, job_stages.c.started_at).where(where)).one_or_none()
            if row is None or row.status == state.value:
                return
            if row.started_at is None:
                values["started_at"] = at
            connection.execute(update(job_stages).where(where).values(values))

    def mark(
        self, job_id: int, *, planned: bool | None = None, closed: bool | None = None, swept: bool | None = None
    ) -> None:
        """Note which steps of a job's beginning and end are done."""
        values = {"planned": planned, "closed": closed, "swept": swept}
        with self._database.write() as connection:
            connection.execute(
                update(job_runs)
                .where(job_runs.c.id == job_id)
                .values({name: value for name, value in values.items() if value is not None})
            )

    def pending_commands(self) -> list[PendingCommand]:
        """Commands that were accepted and not carried out, oldest first."""
        query = select(job_commands).where(job_commands.c.status == "pending").order_by(job_commands.c.id)
        with self._database.read() as connection:
            return [
                PendingCommand(
                    command_id=row.id,
                    job_id=row.job_run_id,
                    wish=Wish(command=Command(row.command_type), item_id=row.target_item_id, error_code=row.error_code),
                )
                for row in connection.execute(query)
            ]

    def applied(self, command_id: int, *, at: datetime) -> None:
        """A command was carried out."""
        with self._database.write() as connection:
            connection.execute(
                update(job_commands).where(job_commands.c.id == command_id).values(status="applied", applied_at=at)
            )

    def events(self, job_id: int, *, limit: int = 50) -> list[dict[str, Any]]:
        """What happened to a job, newest first."""
        query = (
            select(job_events).where(job_events.c.job_run_id == job_id).order_by(job_events.c.id.desc()).limit(limit)
        )
        with self._database.read() as connection:
            return [
                {"type": row.event_type, "message": row.message, "at": row.created_at}
                for row in connection.execute(query)
            ]

    def _jobs(self, query: Select[Any]) -> list[Job]:
        with self._database.read() as connection:
            rows = connection.execute(query).all()
            stages = _stages(connection, [row.id for row in rows])
        return [_job(row, stages.get(row.id, {})) for row in rows]


def _insert(
    connection: Connection,
    job_id: int,
    draft: JobDraft,
    state: JobState,
    *,
    trace: str,
    config: dict[str, Any],
    at: datetime,
    started: datetime | None = None,
) -> None:
    connection.execute(
        insert(job_runs).values(
            id=job_id,
            job_type=draft.job_type.value,
            status=state.value,
            priority=draft.priority,
            sources=list(draft.sources),
            download_sources=list(draft.download_sources),
            playlist_scope_json=list(draft.playlist_scope),
            pool_scope_json=list(draft.pool_scope),
            upload_backend=draft.upload_backend,
            kept_settings_json=draft.kept.model_dump(mode="json") if draft.kept else None,
            notes_json=list(draft.notes),
            config_snapshot_json=config,
            trace=trace,
            created_at=at,
            started_at=started,
            planned=False,
            closed=False,
            swept=False,
        )
    )
    insert_stages(connection, job_id, (Stage.PLAN, *draft.stages))


def insert_stages(connection: Connection, job_id: int, stages: Iterable[Stage]) -> None:
    """Enter the stages of a job, in their order."""
    connection.execute(
        insert(job_stages),
        [
            {"job_run_id": job_id, "stage_type": stage.value, "seq_no": list(Stage).index(stage), "status": "queued"}
            for stage in stages
        ],
    )


def _event(connection: Connection, job_id: int, kind: str, message: str, at: datetime) -> None:
    connection.execute(insert(job_events).values(job_run_id=job_id, event_type=kind, message=message, created_at=at))


def _stages(connection: Connection, job_ids: Sequence[int]) -> dict[int, dict[Stage, JobState]]:
    found: dict[int, dict[Stage, JobState]] = {}
    query = select(job_stages).where(job_stages.c.job_run_id.in_(job_ids)).order_by(job_stages.c.seq_no)
    for row in connection.execute(query):
        found.setdefault(row.job_run_id, {})[Stage(row.stage_type)] = JobState(row.status)
    return found


def _job(row: Row[Any], stages: dict[Stage, JobState]) -> Job:
    return Job(
        job_id=row.id,
        state=JobState(row.status),
        draft=JobDraft(
            job_type=JobType(row.job_type),
            stages=tuple(stage for stage in stages if stage is not Stage.PLAN),
            sources=tuple(row.sources),
            download_sources=tuple(row.download_sources),
            playlist_scope=tuple(row.playlist_scope_json),
            pool_scope=tuple(row.pool_scope_json),
            priority=row.priority,
            upload_backend=row.upload_backend,
            kept=KeptSettings.model_validate(row.kept_settings_json) if row.kept_settings_json else None,
            notes=tuple(row.notes_json),
        ),
        trace=row.trace,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        planned=row.planned,
        closed=row.closed,
        stage_states=stages,
    )
