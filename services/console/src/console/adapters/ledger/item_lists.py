"""Reading items of jobs: counts, single ones, and lists by what is asked of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, literal, not_, select, tuple_

from common.contracts.names import ItemState, Stage
from common.contracts.status import ItemStatus, Reason
from console.adapters.ledger.database import Database
from console.adapters.ledger.tables import item_counts, job_items, job_stages
from console.ports import Counts, Holder, Item, SetAside

_UNENDED = [state for state in ItemState if not state.ended]


class ItemLists:
    """What is known of items."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def counts(self, job_id: int) -> Counts:
        """Items of a job per stage and state."""
        return self.counts_of([job_id]).get(job_id, {})

    def counts_of(self, job_ids: Sequence[int]) -> dict[int, Counts]:
        """The same of several jobs."""
        found: dict[int, Counts] = {}
        query = select(
            item_counts.c.job_run_id,
            item_counts.c.stage_type,
            item_counts.c.status,
            item_counts.c.count.label("items"),
        ).where(item_counts.c.job_run_id.in_(job_ids), item_counts.c.count > 0)
        with self._database.read() as connection:
            for row in connection.execute(query):
                stages = found.setdefault(row.job_run_id, {})
                stages.setdefault(Stage(row.stage_type), {})[ItemState(row.status)] = row.items
        return found

    def succeeded_total(self, stage: Stage) -> int:
        """Items of a stage that succeeded, over all jobs."""
        query = select(func.sum(item_counts.c.count)).where(
            item_counts.c.stage_type == stage.value, item_counts.c.status == ItemState.SUCCEEDED.value
        )
        with self._database.read() as connection:
            return int(connection.scalar(query) or 0)

    def get(self, job_id: int, item_id: int) -> Item | None:
        """One item of a job."""
        query = select(job_items).where(job_items.c.job_run_id == job_id, job_items.c.id == item_id)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return _item(row) if row else None

    def by_subject(self, subject: str) -> Item | None:
        """The item of which STATUS tells under ``subject``."""
        with self._database.read() as connection:
            row = connection.execute(select(job_items).where(job_items.c.subject == subject)).one_or_none()
        return _item(row) if row else None

    def newest_of(self, subjects: Sequence[str]) -> Item | None:
        """The newest item of which STATUS tells under one of ``subjects``."""
        query = select(job_items).where(job_items.c.subject.in_(subjects)).order_by(job_items.c.id.desc()).limit(1)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return _item(row) if row else None

    def page(
        self,
        job_id: int,
        *,
        states: Sequence[ItemState] = (),
        stage: Stage | None = None,
        lost: Collection[Holder] = (),
        after: int,
        limit: int,
    ) -> list[Item]:
        """Items of a job with a number above ``after``, in order; what ``lost`` workers held counts as interrupted."""
        running, held = ItemState.RUNNING, tuple_(job_items.c.item_type, job_items.c.worker_id).in_(list(lost))
        query = select(job_items).where(job_items.c.id > after).order_by(job_items.c.id).limit(limit)
        with self._database.read() as connection:
            if stage is None:
                query = query.where(job_items.c.job_run_id == job_id)
            else:
                # Of a stage alone: with the job's number too, the index of the whole job may be chosen.
                number = _stage_number(connection, job_id, stage)
                query = query.where(job_items.c.job_stage_id == number)
            # One state at a time, by its index: of several together all would be sorted first.
            queries = [query.where(job_items.c.status == state.value) for state in states] or [query]
            if lost and running in states:
                queries[states.index(running)] = query.where(job_items.c.status == running.value, not_(held))
            if lost and ItemState.INTERRUPTED in states:
                queries.append(query.where(job_items.c.status == running.value, held))
            rows = [row for one in queries for row in connection.execute(one)]
        return [_item(row) for row in sorted(rows, key=lambda row: row.id)[:limit]]

    def holders(self, job_id: int) -> dict[Holder, int]:
        """Who runs items of a job, as its statuses tell, and how many."""
        query = (
            select(job_items.c.item_type, job_items.c.worker_id, func.count().label("items"))
            .where(
                job_items.c.job_run_id == job_id,
                job_items.c.status == ItemState.RUNNING.value,
                job_items.c.worker_id.is_not(None),
            )
            .group_by(job_items.c.item_type, job_items.c.worker_id)
        )
        with self._database.read() as connection:
            return {(Stage(row.item_type), row.worker_id): row.items for row in connection.execute(query)}

    def unended(self, job_id: int, *, after: int, limit: int) -> list[Item]:
        """Items of a job that have not ended."""
        return self.page(job_id, states=_UNENDED, after=after, limit=limit)

    def failed(self, job_id: int, *, error_code: str | None, after: int, limit: int) -> list[Item]:
        """Failed items of a job (by one kind of error) with a number above ``after``, in order."""
        query = select(job_items).where(
            job_items.c.job_run_id == job_id, job_items.c.status == ItemState.FAILED.value, job_items.c.id > after
        )
        if error_code is not None:
            query = query.where(job_items.c.error_code == error_code)
        with self._database.read() as connection:
            return [_item(row) for row in connection.execute(query.order_by(job_items.c.id).limit(limit))]

    def set_aside(self, job_id: int, stage: Stage) -> bool:
        """Whether an item of the stage waits for a time of its own."""
        query = (
            select(job_items.c.id)
            .where(
                job_items.c.job_run_id == job_id,
                job_items.c.next_try_at.is_not(None),
                job_items.c.item_type == stage.value,
                job_items.c.status == ItemState.QUEUED.value,
            )
            .limit(1)
        )
        with self._database.read() as connection:
            return connection.scalar(query) is not None

    def due(self, job_id: int, *, after: tuple[datetime, int] | None, until: datetime, limit: int) -> list[Item]:
        """Items that wait for a time up to ``until``, the earliest first; ``after``: time and id of the last one."""
        query = select(job_items).where(
            job_items.c.job_run_id == job_id,
            job_items.c.next_try_at.is_not(None),
            job_items.c.next_try_at <= until,
            job_items.c.status == ItemState.QUEUED.value,
        )
        place = (job_items.c.next_try_at, job_items.c.id)
        if after is not None:
            last = (literal(value, column.type) for value, column in zip(after, place, strict=True))
            query = query.where(tuple_(*place) > tuple_(*last))
        query = query.order_by(*place).limit(limit)
        with self._database.read() as connection:
            return [_item(row) for row in connection.execute(query)]

    def aside(self, job_id: int) -> list[SetAside]:
        """The items that wait for times of their own, by reason; those that keep most come first."""
        query = (
            select(
                job_items.c.error_code,
                job_items.c.last_error,
                func.count().label("items"),
                func.min(job_items.c.next_try_at).label("next_at"),
            )
            .where(
                job_items.c.job_run_id == job_id,
                job_items.c.next_try_at.is_not(None),
                job_items.c.status == ItemState.QUEUED.value,
            )
            .group_by(job_items.c.error_code, job_items.c.last_error)
            .order_by(func.count().desc())
            .limit(10)
        )
        with self._database.read() as connection:
            return [
                SetAside(
                    reason=Reason(code=row.error_code or "retry", message=row.last_error or "It did not work yet."),
                    count=row.items,
                    next_at=row.next_at,
                )
                for row in connection.execute(query)
            ]

    def ahead(self, item: Item, *, limit: int) -> int:
        """How many items of the same lane stand before a queued one, counted up to ``limit``."""
        before = (
            select(job_items.c.id)
            .where(
                job_items.c.job_run_id == item.status.job_id,
                job_items.c.status == ItemState.QUEUED.value,
                job_items.c.id < item.item_id,
                job_items.c.item_type == item.status.stage.value,
                job_items.c.lane == item.status.lane,
                job_items.c.next_try_at.is_(None),
            )
            .limit(limit)
            .subquery()
        )
        with self._database.read() as connection:
            return int(connection.scalar(select(func.count()).select_from(before)) or 0)

    def failures(self, job_ids: Sequence[int], *, limit: int) -> list[Item]:
        """Failed items of these jobs, the newest first."""
        rows: list[Row[Any]] = []
        with self._database.read() as connection:
            # One job at a time, by its index: of several together all failures would be sorted first.
            for job_id in job_ids:
                query = (
                    select(job_items)
                    .where(job_items.c.job_run_id == job_id, job_items.c.status == ItemState.FAILED.value)
                    .order_by(job_items.c.id.desc())
                    .limit(limit)
                )
                rows += connection.execute(query).all()
        return [_item(row) for row in sorted(rows, key=lambda row: -row.id)[:limit]]

    def failed_of_stage(self, stage: Stage, *, error_code: str | None, before: int | None, limit: int) -> list[Item]:
        """Failed items of one stage over all jobs, the newest first."""
        query = select(job_items).where(
            job_items.c.item_type == stage.value, job_items.c.status == ItemState.FAILED.value
        )
        if error_code is not None:
            query = query.where(job_items.c.error_code == error_code)
        if before is not None:
            query = query.where(job_items.c.id < before)
        with self._database.read() as connection:
            return [_item(row) for row in connection.execute(query.order_by(job_items.c.id.desc()).limit(limit))]


def _stage_number(connection: Connection, job_id: int, stage: Stage) -> int | None:
    return connection.scalar(
        select(job_stages.c.id).where(job_stages.c.job_run_id == job_id, job_stages.c.stage_type == stage.value)
    )


def _item(row: Row[Any]) -> Item:
    reason = Reason(code=row.error_code, message=row.last_error or "") if row.error_code else None
    return Item(
        item_id=row.id,
        subject=row.subject,
        status=ItemStatus(
            job_id=row.job_run_id,
            stage=Stage(row.item_type),
            lane=row.lane,
            key=row.item_key,
            title=row.title,
            state=ItemState(row.status),
            tries=row.tries,
            max_tries=row.max_tries,
            interruptions=row.interruptions,
            permanent=row.permanent,
            worker=row.worker_id,
            reason=reason,
            next_try_at=row.next_try_at,
            queued_at=row.queued_at,
            started_at=row.started_at,
            ended_at=row.ended_at,
            result=row.result_json,
            request=row.payload_json,
        ),
    )
