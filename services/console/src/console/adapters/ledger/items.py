"""Items of jobs, projected from STATUS in batches: rows, counts and the sequence commit together."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from common.contracts.names import ItemState, JobState, JobType, Stage
from common.contracts.status import ItemStatus
from console.adapters.ledger.database import Database
from console.adapters.ledger.item_lists import ItemLists
from console.adapters.ledger.runs import insert_stages
from console.adapters.ledger.tables import item_counts, job_events, job_items, job_runs, job_stages, projections

_NAME = "status"
_RECOVERED = "recovered"
_CHUNK = 500
"""Subjects per query: databases limit the parameters of one statement."""
_LARGEST = 2**63
"""Beyond it no database has integers, and no id of ours is."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """A status as STATUS holds it."""

    sequence: int
    at: datetime
    status: ItemStatus


class ItemStore(ItemLists):
    """What STATUS tells of items; never written otherwise."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._stages: dict[tuple[int, Stage], int] = {}
        self._lanes: set[tuple[int, Stage, str]] = set()

    def position(self) -> tuple[int, str | None]:
        """The sequence up to which STATUS was read, and when that stream was created."""
        with self._database.read() as connection:
            row = connection.execute(select(projections).where(projections.c.name == _NAME)).one_or_none()
        return (row.sequence, row.stream_created) if row else (0, None)

    def restart(self, stream_created: str | None) -> None:
        """Read STATUS from its beginning: it is another stream than before. Rows stay."""
        with self._database.write() as connection:
            _set_position(connection, 0, stream_created)

    def apply(self, told: Sequence[Told], *, sequence: int) -> None:
        """Take over statuses, and ``sequence`` as the place reached."""
        try:
            self._apply(told, sequence=sequence)
        except BaseException:
            # What was written with them is gone, too.
            self._stages.clear()
            self._lanes.clear()
            raise

    def _apply(self, told: Sequence[Told], *, sequence: int) -> None:
        last = {one.status.subject: one for one in told}
        with self._database.write() as connection:
            known = _known(connection, list(last))
            new: list[dict[str, Any]] = []
            changed: list[dict[str, Any]] = []
            delta: Counter[tuple[int, Stage, str]] = Counter()
            for subject, one in last.items():
                status = one.status
                row = _row(one, self._stage_id(connection, status.job_id, status.stage, one.at))
                self._see_lane(connection, status)
                delta[status.job_id, status.stage, status.state.value] += 1
                if subject in known:
                    row_id, before = known[subject]
                    delta[status.job_id, status.stage, before] -= 1
                    changed.append(row | {"row_id": row_id})
                else:
                    new.append(row | {"subject": subject})
            if new:
                connection.execute(insert(job_items), new)
            if changed:
                names = [name for name in changed[0] if name != "row_id"]
                connection.execute(
                    update(job_items)
                    .where(job_items.c.id == bindparam("row_id"))
                    .values({name: bindparam(name) for name in names}),
                    changed,
                )
            _count(connection, delta)
            _mend_ended(
                connection, {one.status.job_id for one in last.values() if one.status.state is ItemState.FAILED}
            )
            _set_position(connection, sequence, None)

    def _stage_id(self, connection: Connection, job_id: int, stage: Stage, at: datetime) -> int:
        key = (job_id, stage)
        if key not in self._stages:
            found = _find_stage(connection, job_id, stage)
            if found is None:
                if connection.scalar(select(job_runs.c.id).where(job_runs.c.id == job_id)) is None:
                    _recover_run(connection, job_id, stage, at)
                insert_stages(connection, job_id, (stage,))
                found = _find_stage(connection, job_id, stage)
            assert found is not None
            self._stages[key] = found
        return self._stages[key]

    def _see_lane(self, connection: Connection, status: ItemStatus) -> None:
        lane = (status.job_id, status.stage, status.lane)
        if lane not in self._lanes:
            _recover_lane(connection, status)
            self._lanes.add(lane)


def _find_stage(connection: Connection, job_id: int, stage: Stage) -> int | None:
    return connection.scalar(
        select(job_stages.c.id).where(job_stages.c.job_run_id == job_id, job_stages.c.stage_type == stage.value)
    )


def _recover_run(connection: Connection, job_id: int, stage: Stage, at: datetime) -> None:
    """A job that only STATUS remembers: it has ended, or it would have been found on the bus."""
    named = {kind.stages[0]: kind for kind in JobType if len(kind.stages) == 1}
    connection.execute(
        insert(job_runs).values(
            id=job_id,
            job_type=named.get(stage, JobType.FULL).value,
            status=JobState.COMPLETED.value,
            priority=0,
            sources=[],
            download_sources=[],
            playlist_scope_json=[],
            notes_json=["Known from STATUS only: this database was made anew after the job."],
            config_snapshot_json={},
            trace=secrets.token_hex(8),
            created_at=at,
            ended_at=at,
            planned=True,
            closed=True,
            swept=True,
        )
    )
    connection.execute(
        insert(job_events).values(
            job_run_id=job_id, event_type=_RECOVERED, message="rebuilt from what STATUS holds", created_at=at
        )
    )


def _recover_lane(connection: Connection, status: ItemStatus) -> None:
    """A job that only STATUS remembers serves what its items tell of: they can be tried again."""
    if status.stage is Stage.PLAN:
        return
    told = (job_events.c.job_run_id == status.job_id) & (job_events.c.event_type == _RECOVERED)
    if connection.scalar(select(job_events.c.id).where(told)) is None:
        return
    run = job_runs.c.id == status.job_id
    if status.stage is Stage.UPLOAD:
        connection.execute(update(job_runs).where(run).values(upload_backend=status.lane))
        return
    sources = connection.scalar(select(job_runs.c.sources).where(run)) or []
    if status.lane not in sources:
        connection.execute(update(job_runs).where(run).values(sources=[*sources, status.lane]))


def _mend_ended(connection: Connection, job_ids: Iterable[int]) -> None:
    """A failure that is told after the end still belongs to how the job ended."""
    for job_id in job_ids:
        connection.execute(
            update(job_runs)
            .where(job_runs.c.id == job_id, job_runs.c.status == JobState.COMPLETED.value)
            .values(status=JobState.COMPLETED_WITH_ERRORS.value)
        )


def _known(connection: Connection, subjects: list[str]) -> dict[str, tuple[int, str]]:
    found: dict[str, tuple[int, str]] = {}
    for start in range(0, len(subjects), _CHUNK):
        query = select(job_items.c.subject, job_items.c.id, job_items.c.status).where(
            job_items.c.subject.in_(subjects[start : start + _CHUNK])
        )
        found |= {row.subject: (row.id, row.status) for row in connection.execute(query)}
    return found


def _count(connection: Connection, delta: Counter[tuple[int, Stage, str]]) -> None:
    for (job_id, stage, state), change in delta.items():
        if change == 0:
            continue
        where = (
            (item_counts.c.job_run_id == job_id)
            & (item_counts.c.stage_type == stage.value)
            & (item_counts.c.status == state)
        )
        done = connection.execute(update(item_counts).where(where).values(count=item_counts.c.count + change))
        if done.rowcount == 0:
            connection.execute(
                insert(item_counts).values(job_run_id=job_id, stage_type=stage.value, status=state, count=change)
            )


def _set_position(connection: Connection, sequence: int, stream_created: str | None) -> None:
    values: dict[str, Any] = {"sequence": sequence}
    if stream_created is not None:
        values["stream_created"] = stream_created
    done = connection.execute(update(projections).where(projections.c.name == _NAME).values(values))
    if done.rowcount == 0:
        connection.execute(insert(projections).values(name=_NAME, **values))


def _row(told: Told, stage_id: int) -> dict[str, Any]:
    status = told.status
    number = int(status.key) if status.key.isdigit() else None
    return {
        "job_run_id": status.job_id,
        "job_stage_id": stage_id,
        "sequence": told.sequence,
        "item_type": status.stage.value,
        "lane": status.lane,
        "item_key": status.key,
        "title": status.title,
        "pool_id": number if status.stage is Stage.COLLECT else None,
        "playlist_id": number if status.stage is Stage.SYNC else None,
        "song_id": _number(status.request.get("song_id")),
        "location_id": _number(status.result.get("location_id")),
        "payload_json": status.request,
        "result_json": status.result,
        "status": status.state.value,
        "worker_id": status.worker,
        "tries": status.tries,
        "max_tries": status.max_tries,
        "interruptions": status.interruptions,
        "permanent": status.permanent,
        "error_code": status.reason.code if status.reason else None,
        "last_error": status.reason.message if status.reason else None,
        "next_try_at": status.next_try_at,
        "queued_at": status.queued_at,
        "started_at": status.started_at,
        "ended_at": status.ended_at,
        "updated_at": told.at,
    }


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and abs(value) < _LARGEST else None
