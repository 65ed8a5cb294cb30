"""What the console's decisions stand on: jobs and items as its own database knows them, and the bus."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from common.contracts.facts import FileStored, SongListed, SongPinned
from common.contracts.jobs import ActiveJob, JobsState, KeptSettings, Lane
from common.contracts.names import Command, ItemState, JobState, JobType, Stage
from common.contracts.settings import LiveSettings
from common.contracts.status import ItemStatus, Reason, ServerWait
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
    pool_scope: tuple[int, ...] = ()
    priority: int = 0
    upload_backend: str | None = None
    kept: KeptSettings | None = None
    """As the downloaders had them when the job was made; None: none was running yet."""
    notes: tuple[str, ...] = ()

    def same_work(self, other: JobDraft) -> bool:
        """Whether ``other`` asks for the same again."""
        return self._work == other._work

    @property
    def _work(self) -> tuple[object, ...]:
        lists = (self.sources, self.download_sources, self.playlist_scope, self.pool_scope)
        sets = tuple(frozenset[str | int](one) for one in lists)
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
class ScheduleDraft:
    """A job that is to run again and again. Either ``cron`` or ``every_seconds``; ``jitter_seconds`` spreads it."""

    name: str
    job_type: JobType
    sources: tuple[str, ...] = ()
    download_sources: tuple[str, ...] = ()
    pool_scope: tuple[int, ...] = ()
    priority: int = 0
    cron: str | None = None
    every_seconds: int | None = None
    jitter_seconds: int = 0


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A schedule as it is kept. ``note``: what became of its last run."""

    schedule_id: int
    draft: ScheduleDraft
    enabled: bool
    next_at: datetime
    last_at: datetime | None = None
    last_job_id: int | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Revision:
    """A version of the configuration file; ``text`` with its secrets masked, ``digest`` that of this text."""

    revision_id: int
    file_path: str
    text: str
    digest: str
    note: str
    created_at: datetime
    applied_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class SetAside:
    """Items of a job that wait for times of their own, by the reason that they share."""

    reason: Reason
    count: int
    next_at: datetime


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A command as a person gave it. ``error_code``: only what failed by it."""

    command: Command
    item_id: int | None = None
    error_code: str | None = None
    priority: int | None = None


@dataclass(frozen=True, kw_only=True)
class PendingCommand:
    """A command that was accepted and not yet carried out."""

    command_id: int
    job_id: int
    wish: Wish


Counts = dict[Stage, dict[ItemState, int]]
Holder = tuple[Stage, str]
"""A worker that has items of a stage."""


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A dead letter. ``payload`` are the original bytes; ``from_subject`` is empty where it is not one of ours."""

    sequence: int
    subject: str
    from_subject: str
    code: str
    message: str
    payload: bytes
    job_id: int | None = None
    stage: Stage | None = None
    tries: int = 0
    at: datetime | None = None


class Commands(Protocol):
    """Who carries out commands."""

    async def command(self, job_id: int, wish: Wish) -> Job: ...


class SongFacts(Protocol):
    """What CATALOG says of one song. Methods raise BusUnavailable."""

    async def listed(self, song_id: int) -> SongListed | None: ...
    async def copies(self, song_id: int) -> list[FileStored]: ...
    async def pinned(self, song_id: int) -> SongPinned: ...
    async def pin(self, choice: SongPinned) -> None: ...


class Letters(Protocol):
    """Dead letters."""

    async def page(self, *, after: int, limit: int) -> list[Letter]: ...
    async def last(self) -> int: ...
    async def get(self, sequence: int) -> Letter | None: ...
    async def put_back(self, letter: Letter) -> None: ...
    async def remove(self, sequence: int) -> None: ...


class Runs(Protocol):
    """Jobs in the ledger. Methods block."""

    def newest(self, *, states: Sequence[JobState], before: int | None, limit: int) -> list[Job]: ...
    def keep(self, job_id: int, kept: KeptSettings) -> None: ...
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
        wish: Wish | None = None,
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
    def by_subject(self, subject: str) -> Item | None: ...
    def newest_of(self, subjects: Sequence[str]) -> Item | None: ...
    def unended(self, job_id: int, *, after: int, limit: int) -> Sequence[Item]: ...
    def failed(self, job_id: int, *, error_code: str | None, after: int, limit: int) -> list[Item]: ...
    def set_aside(self, job_id: int, stage: Stage) -> bool: ...
    def due(self, job_id: int, *, after: tuple[datetime, int] | None, until: datetime, limit: int) -> list[Item]: ...


class Schedules(Protocol):
    """Schedules in the ledger. Methods block."""

    def all(self) -> list[Schedule]: ...
    def due(self, at: datetime) -> list[Schedule]: ...
    def get(self, schedule_id: int) -> Schedule | None: ...
    def add(self, draft: ScheduleDraft, *, next_at: datetime, at: datetime) -> Schedule: ...
    def ran(self, schedule_id: int, *, next_at: datetime, last_at: datetime, job_id: int | None, note: str) -> None: ...
    def enable(self, schedule_id: int, *, enabled: bool, next_at: datetime) -> None: ...
    def remove(self, schedule_id: int) -> None: ...


class Revisions(Protocol):
    """Versions of the configuration in the ledger. Methods block."""

    def add(self, *, file_path: str, text: str, digest: str, note: str, at: datetime) -> Revision: ...
    def get(self, revision_id: int) -> Revision | None: ...
    def by_digest(self, digest: str) -> Revision | None: ...
    def current(self) -> Revision | None: ...
    def applied(self, revision_id: int, *, at: datetime) -> None: ...


class EnvFileStore(Protocol):
    """The configuration file. Methods block; they raise ConfigurationError where it cannot be read."""

    @property
    def path(self) -> Path: ...
    @property
    def judges_names(self) -> bool: ...
    def signature(self) -> object: ...
    def read(self) -> str | None: ...
    def write(self, text: str, *, instead_of: str | None) -> None: ...


class Announcer(Protocol):
    """Tells all services the live settings."""

    async def announce(self, settings: LiveSettings) -> None: ...


class Projection(Protocol):
    """How far STATUS has been read into the ledger."""

    async def wait_for(self, sequence: int, timeout: float) -> bool: ...


class JobsStore(Protocol):
    """The job state on the bus. Only the console writes it."""

    async def read(self) -> JobsState: ...
    async def write(
        self, jobs: Sequence[ActiveJob], *, last_job_id: int, waits: Sequence[ServerWait] | None = None
    ) -> JobsState: ...


class WorkQueue(Protocol):
    """Consumers and items of WORK."""

    @property
    def connected(self) -> bool: ...
    async def ensure_streams(self) -> None: ...
    async def ensure_lane(self, lane: Lane) -> None: ...
    def limit_of(self, name: str) -> int | None: ...
    def share(self, lane: Lane, count: int) -> None: ...
    async def read_lane(self, lane: Lane) -> Reading | None: ...
    async def read_uploader(self) -> Reading | None: ...
    async def purge_lane(self, lane: Lane) -> None: ...
    async def drop_lane(self, lane: Lane) -> None: ...
    async def plan(self, items: Iterable[WorkItem], *, cause: str, job_id: int, trace: str) -> None: ...
    async def ask_again(
        self, status: ItemStatus, item: WorkItem, lane: Lane, *, cause: str, trace: str, stranded: bool = False
    ) -> None: ...
    async def put_back(self, item: WorkItem, lane: Lane, *, cause: str, trace: str, stranded: bool = False) -> bool: ...
    async def tell(self, statuses: Iterable[ItemStatus], *, cause: str, trace: str) -> None: ...
    async def status_end(self) -> int: ...
