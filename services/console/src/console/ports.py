"""What the console's decisions stand on: jobs and items as its own database knows them, and the bus."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from common.contracts.jobs import ActiveJob, JobsState, Lane
from common.contracts.names import Command, ItemState, JobState, JobType, Stage
from common.contracts.status import ItemStatus
from common.contracts.work import WorkItem


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a consumer said of itself: messages not delivered yet, and delivered but not acked."""

    pending: int
    unacked: int

    @property
    def empty(self) -> bool:
        return self.pending == 0 and self.unacked == 0


@dataclass(frozen=True, kw_only=True)
class JobDraft:
    """A job as it will be made. ``notes`` are sentences for the person who asked."""

    job_type: JobType
    stages: tuple[Stage, ...]
    sources: tuple[str, ...]
    download_sources: tuple[str, ...] = ()
    playlist_scope: tuple[int, ...] = ()
    priority: int = 0
    upload_backend: str | None = None
    notes: tuple[str, ...] = ()

    def same_work(self, other: JobDraft) -> bool:
        """Whether ``other`` asks for the same again."""
        return self._work == other._work

    @property
    def _work(self) -> tuple[object, ...]:
        sets = (frozenset(self.sources), frozenset(self.download_sources), frozenset(self.playlist_scope))
        return (self.job_type, self.stages, *sets)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as the ledger has it."""

    job_id: int
    state: JobState
    draft: JobDraft
    trace: str
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    planned: bool = False
    closed: bool = False
    """An ended job whose consumers are gone."""
    stage_states: dict[Stage, JobState] = field(default_factory=dict)

    @property
    def job_type(self) -> JobType:
        return self.draft.job_type


@dataclass(frozen=True, kw_only=True)
class Item:
    """An item as STATUS told it last."""

    item_id: int
    subject: str
    status: ItemStatus


@dataclass(frozen=True, kw_only=True)
class PendingCommand:
    """A command that was accepted and not yet carried out."""

    command_id: int
    job_id: int
    command: Command
    item_id: int | None


Counts = dict[Stage, dict[ItemState, int]]


class Runs(Protocol):
    """Jobs in the ledger. Methods block."""

    def create(self, draft: JobDraft, *, after: int, trace: str, config: dict[str, Any], at: datetime) -> Job: ...
    def adopt(self, job: ActiveJob, *, trace: str, config: dict[str, Any], at: datetime) -> None: ...
    def get(self, job_id: int) -> Job | None: ...
    def unended(self) -> list[Job]: ...
    def unclosed(self) -> list[Job]: ...
    def unswept(self, *, ended_before: datetime) -> list[Job]: ...
    def last_id(self) -> int: ...
    def set_state(
        self,
        job_id: int,
        state: JobState,
        *,
        at: datetime,
        event: str,
        command: tuple[Command, int | None] | None = None,
    ) -> int | None: ...
    def set_stage(self, job_id: int, stage: Stage, state: JobState, *, at: datetime) -> None: ...
    def mark(
        self, job_id: int, *, planned: bool | None = None, closed: bool | None = None, swept: bool | None = None
    ) -> None: ...
    def pending_commands(self) -> list[PendingCommand]: ...
    def applied(self, command_id: int, *, at: datetime) -> None: ...


class Items(Protocol):
    """Items in the ledger. Methods block."""

    def counts(self, job_id: int) -> Counts: ...
    def get(self, job_id: int, item_id: int) -> Item | None: ...
    def unended(self, job_id: int, *, after: int, limit: int) -> Sequence[Item]: ...


class Projection(Protocol):
    """How far STATUS has been read into the ledger."""

    async def wait_for(self, sequence: int, timeout: float) -> bool: ...


class JobsStore(Protocol):
    """The job state on the bus. Only the console writes it."""

    async def read(self) -> JobsState: ...
    async def write(self, jobs: Sequence[ActiveJob], *, last_job_id: int) -> JobsState: ...


class WorkQueue(Protocol):
    """Consumers and items of WORK."""

    @property
    def connected(self) -> bool: ...
    async def ensure_streams(self) -> None: ...
    async def ensure_lane(self, lane: Lane) -> None: ...
    async def read_lane(self, lane: Lane) -> Reading | None: ...
    async def read_uploader(self) -> Reading | None: ...
    async def purge_lane(self, lane: Lane) -> None: ...
    async def drop_lane(self, lane: Lane) -> None: ...
    async def plan(self, items: Iterable[WorkItem], *, cause: str, job_id: int, trace: str) -> None: ...
    async def ask_again(self, status: ItemStatus, item: WorkItem, lane: Lane, *, cause: str, trace: str) -> None: ...
    async def tell(self, statuses: Iterable[ItemStatus], *, cause: str, trace: str) -> None: ...
    async def status_end(self) -> int: ...
