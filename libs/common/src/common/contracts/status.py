"""What happened to items, what workers are doing, and what could not be handled."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Literal

from pydantic import Field

from .envelope import Message
from .names import Id, ItemState, Stage, Token


class Reason(Message):
    """Why something is as it is: a stable code, and a sentence that says what to do."""

    code: Token
    message: str


class ItemStatus(Message):
    """The last transition of an item; the last message of its subject is its state."""

    TYPE: ClassVar[str] = "item.status"

    job_id: Id
    stage: Stage
    lane: Token
    key: str
    title: str
    state: ItemState
    tries: int = Field(default=0, description="tries that ended without success")
    max_tries: int = 0
    interruptions: int = Field(default=0, description="times that its worker ended or stalled during it")
    worker: str | None = None
    reason: Reason | None = None
    permanent: bool = Field(default=False, description="failed for a reason that further tries would not change")
    next_try_at: datetime | None = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    result: dict[str, Any] = Field(default_factory=dict)
    request: dict[str, Any] = Field(default_factory=dict, description="the item's own payload, for a retry")

    @property
    def subject(self) -> str:
        return f"item.{self.job_id}.{self.stage}.{self.lane}.{self.key}"


class DeadLetter(Message):
    """Something that could not be handled, with its reason and itself."""

    TYPE: ClassVar[str] = "dead.letter"

    from_subject: str
    reason: Reason
    payload: str = Field(description="the original bytes, base64")
    job_id: Id | None = None
    stage: Stage | None = None
    tries: int = 0


class LogEntry(Message):
    """One line of the log that people read on the console."""

    TYPE: ClassVar[str] = "log.entry"

    service: Token
    instance: str
    level: Literal["info", "warning", "error"]
    event: str
    job_id: Id | None = None
    stage: Stage | None = None
    item: str | None = None
    fields: dict[str, Any] = Field(default_factory=dict)


class CurrentItem(Message):
    """An item in the hands of a worker."""

    job_id: Id
    stage: Stage
    lane: Token
    key: str
    title: str
    started_at: datetime
    note: str = ""
    done: int = Field(default=0, description="bytes, or units of the item's own")
    total: int | None = None
    speed: float = Field(default=0.0, description="units per second over the last seconds")


class Hold(Message):
    """A lane that a worker does not poll, and why."""

    job_id: Id | None = None
    stage: Stage
    lane: Token
    reason: Reason
    since: datetime
    until: datetime | None = None


class ServerWait(Message):
    """A server that is asked for nothing for a while: it said so, or it does not answer."""

    server: str = Field(max_length=300, description="host:port")
    reason: Reason
    since: datetime = Field(description="of the first failure since it last answered")
    until: datetime
    given_up: bool = Field(default=False, description="away for so long that its items fail instead of waiting")


class Heartbeat(Message):
    """A live process. Sent every two seconds and at every change, on core NATS; nothing keeps it."""

    TYPE: ClassVar[str] = "service.heartbeat"

    service: Token
    instance: str
    started_at: datetime
    ready: bool
    problems: tuple[Reason, ...] = ()
    jobs_revision: int = Field(default=0, description="the revision of the job state that it last saw")
    settings_revision: int = Field(default=0, description="the version of the live settings that it runs")
    leaving: bool = Field(default=False, description="the last one: the process ends, and nothing of it goes on")
    concurrency: int = 0
    items: tuple[CurrentItem, ...] = ()
    holds: tuple[Hold, ...] = ()
    waits: tuple[ServerWait, ...] = Field(default=(), description="servers that this process asks for nothing now")
    bytes_total: int = Field(default=0, description="bytes moved since the start")
    detail: dict[str, Any] = Field(default_factory=dict)

    @property
    def subject(self) -> str:
        return f"hb.{self.service}.{self.instance}"
