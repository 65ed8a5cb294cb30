"""Items of WORK: one message is one item, its subject is its key."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from pydantic import Field

from .envelope import Message
from .names import BackendKind, Id, Stage, Token


class WorkItem(Message):
    """One thing to do for one job."""

    STAGE: ClassVar[Stage]

    job_id: Id

    @property
    @abstractmethod
    def lane(self) -> str:
        """The source or backend whose limits this item obeys."""

    @property
    @abstractmethod
    def key(self) -> str:
        """What the item is about, unique in its job and stage."""

    @property
    def title(self) -> str:
        """The item in words a person knows."""
        return self.key

    @property
    def subject(self) -> str:
        return f"{self.TYPE}.{self.job_id}.{self.lane}.{self.key}"

    @property
    def status_subject(self) -> str:
        return f"item.{self.job_id}.{self.STAGE}.{self.lane}.{self.key}"


class JobPlan(WorkItem):
    """Put the items of one stage of a job into WORK."""

    TYPE: ClassVar[str] = "job.plan.requested"
    STAGE: ClassVar[Stage] = Stage.PLAN

    stage: Stage

    @property
    def lane(self) -> str:
        return "job"

    @property
    def key(self) -> str:
        return str(self.stage)

    @property
    def title(self) -> str:
        return f"plan {self.stage}"

    @property
    def subject(self) -> str:
        return f"{self.TYPE}.{self.job_id}.{self.stage}"


class PoolCollect(WorkItem):
    """Read which playlists a pool lists."""

    TYPE: ClassVar[str] = "pool.collect.requested"
    STAGE: ClassVar[Stage] = Stage.COLLECT

    source: Token
    pool_id: Id
    external_id: str
    name: str
    pool_kind: str = "folder"

    @property
    def lane(self) -> str:
        return self.source

    @property
    def key(self) -> str:
        return str(self.pool_id)

    @property
    def title(self) -> str:
        return self.name


class PlaylistSync(WorkItem):
    """Read one playlist, publish what it lists, ask for the songs that are missing."""

    TYPE: ClassVar[str] = "playlist.sync.requested"
    STAGE: ClassVar[Stage] = Stage.SYNC

    source: Token
    playlist_id: Id
    remote_id: str
    name: str

    @property
    def lane(self) -> str:
        return self.source

    @property
    def key(self) -> str:
        return str(self.playlist_id)

    @property
    def title(self) -> str:
        return self.name


class SongDownload(WorkItem):
    """Find, fetch, verify and file one song."""

    TYPE: ClassVar[str] = "song.download.requested"
    STAGE: ClassVar[Stage] = Stage.DOWNLOAD

    source: Token = Field(description="the song's platform")
    song_id: Id
    remote_id: str
    name: str
    singers: tuple[str, ...] = ()
    album: str | None = None
    duration_seconds: float | None = None
    ext: str | None = None
    size: int | None = None
    fingerprint: str | None = None
    givers: tuple[Token, ...] = Field(
        default=(), description="the sources that might give it when it was asked for; given up, it is again for others"
    )
    force: bool = Field(default=False, description="a person asked again: fetch even if it is stored")

    @property
    def lane(self) -> str:
        return self.source

    @property
    def key(self) -> str:
        return str(self.song_id)

    @property
    def title(self) -> str:
        return f"{', '.join(self.singers)} - {self.name}" if self.singers else self.name


class FileUpload(WorkItem):
    """Copy one stored file into an object store."""

    TYPE: ClassVar[str] = "file.upload.requested"
    STAGE: ClassVar[Stage] = Stage.UPLOAD

    backend: Token = Field(description="where to")
    from_backend: Token
    from_kind: BackendKind = BackendKind.FILESYSTEM
    song_id: Id
    variant: Token
    asset_id: Id
    locator: str
    sha256: str
    size: int
    stored: dict[str, Any] = Field(description="the file.stored payload of the copy that is read")

    @property
    def lane(self) -> str:
        return self.backend

    @property
    def key(self) -> str:
        return str(self.asset_id)

    @property
    def title(self) -> str:
        return self.locator


ITEMS: tuple[type[WorkItem], ...] = (JobPlan, PoolCollect, PlaylistSync, SongDownload, FileUpload)
ITEM_OF_STAGE: dict[Stage, type[WorkItem]] = {item.STAGE: item for item in ITEMS}
