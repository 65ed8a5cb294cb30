"""Facts: the last message of a subject in CATALOG is the truth about its key."""

from __future__ import annotations

from abc import abstractmethod
from datetime import datetime
from typing import Any, ClassVar, Literal

from pydantic import Field

from .envelope import Message
from .names import MAIN_VARIANT, BackendKind, Id, ImportMode, Token


class Fact(Message):
    """A statement about one key; a higher revision replaces a lower one."""

    revision: int = Field(default=0, ge=0, description="grows with each fact of the same key; set by the writer")
    removed: bool = Field(default=False, description="true withdraws the fact")

    @property
    @abstractmethod
    def subject(self) -> str:
        """Where the fact stands in CATALOG: its type and its key."""


class PoolDefined(Fact):
    """A pool (a folder, a toplist, a user's lists) and the playlists that it lists."""

    TYPE: ClassVar[str] = "pool.defined"

    pool_id: Id
    platform: Token
    pool_kind: str
    external_id: str
    name: str
    url: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    playlist_ids: tuple[Id, ...] = Field(
        default=(), description="in the order in which they came to the pool; those that came together by id"
    )

    @property
    def subject(self) -> str:
        return f"pool.defined.{self.pool_id}"


class SongListed(Fact):
    """What the source says of a song."""

    TYPE: ClassVar[str] = "song.listed"

    song_id: Id
    platform: Token
    remote_id: str = Field(description="the source's own id; a relative path for folders, a URL for feeds")
    name: str
    singers: tuple[str, ...] = ()
    album: str | None = None
    duration_seconds: float | None = None
    ext: str | None = Field(default=None, description="lower case, no dot")
    size: int | None = Field(default=None, description="bytes, as the source says")
    fingerprint: str | None = Field(default=None, description="changes when the source's file does; opaque")
    metadata_status: Literal["complete", "pending"] = "complete"
    metadata: dict[str, Any] = Field(default_factory=dict)

    @property
    def subject(self) -> str:
        return f"song.listed.{self.song_id}"


class PlaylistHeader(Message):
    """What page 0 says of the whole playlist."""

    name: str
    description: str | None = None
    cover_url: str | None = None
    play_count: int | None = None
    url: str | None = None
    song_count: int = Field(ge=0, description="entries over all pages")
    upstream: Literal["ok", "empty", "shrunk"] = Field(
        default="ok",
        description="empty or shrunk: the source suddenly listed nothing or much less; the entries are those of "
        "the last good list, kept until a person confirms",
    )
    notice: str | None = Field(default=None, description="a sentence for people, when upstream is not ok")


class PlaylistCollected(Fact):
    """One page of a playlist. Pages of one set share a version; page 0 is published last."""

    TYPE: ClassVar[str] = "playlist.collected"
    PAGE_SIZE: ClassVar[int] = 500

    playlist_id: Id
    platform: Token
    remote_id: str
    version: int = Field(ge=1, description="the same for all pages of a set; grows")
    page: int = Field(ge=0)
    pages: int = Field(ge=1, description="how many pages the set has; pages at or beyond this number are ignored")
    header: PlaylistHeader | None = Field(default=None, description="on page 0 only")
    entries: tuple[tuple[int, Id], ...] = Field(default=(), description="(position from 0, song id)")
    fingerprint: str | None = Field(default=None, description="on page 0: hash of the whole list; opaque")

    @property
    def subject(self) -> str:
        return f"playlist.collected.{self.platform}.{self.playlist_id}.{self.page}"


class AudioFormat(Message):
    """What the file says of its own encoding."""

    ext: str = Field(description="lower case, no dot")
    mime: str
    codec: str | None = None
    duration_seconds: float | None = None
    bitrate: int | None = Field(default=None, description="bits per second")
    sample_rate: int | None = Field(default=None, description="hertz")
    channels: int | None = None
    lossless: bool | None = None


class FileTags(Message):
    """What the file's tags say of the song."""

    title: str | None = None
    artists: tuple[str, ...] = ()
    album: str | None = None


class FileStored(Fact):
    """A song's file lies in a backend, whole and verified."""

    TYPE: ClassVar[str] = "file.stored"

    backend: Token
    backend_kind: BackendKind = BackendKind.FILESYSTEM
    song_id: Id
    variant: Token = MAIN_VARIANT
    asset_id: Id
    locator: str = Field(description="relative to the backend, / as separator")
    location_id: Id | None = Field(default=None, description="of this copy, where it was adopted; otherwise derived")
    sha256: str = Field(
        pattern=r"^[0-9a-f]{64}$", description="of the content; 64 zeros: an adopted file that was not read yet"
    )
    size: int = Field(ge=0, description="bytes")
    quality_label: str | None = None
    format: AudioFormat
    tags: FileTags = FileTags()
    import_mode: ImportMode | None = None
    candidate_source: str | None = Field(default=None, description="the source whose bytes these are")
    candidate_remote_id: str | None = Field(
        default=None, description="that source's id of the recording, where it is not the song's own"
    )
    listing_fingerprint: str | None = Field(default=None, description="SongListed.fingerprint that was fetched")

    @property
    def subject(self) -> str:
        return f"file.stored.{self.backend}.{self.song_id}.{self.variant}"


class SongDescribed(Fact):
    """What enrichment added to a song."""

    TYPE: ClassVar[str] = "song.described"

    song_id: Id
    name: str | None = None
    singers: tuple[str, ...] = ()
    album: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)

    @property
    def subject(self) -> str:
        return f"song.described.{self.song_id}"


class SongPinned(Fact):
    """A person's choice for a song: these words, this match, never that one."""

    TYPE: ClassVar[str] = "song.pinned"

    song_id: Id
    name: str | None = None
    singers: tuple[str, ...] = ()
    match_source: str | None = None
    match_remote_id: str | None = None
    banned: tuple[str, ...] = Field(default=(), description="source:remote_id of matches never to take")
    by: str | None = None

    @property
    def subject(self) -> str:
        return f"song.pinned.{self.song_id}"


class BackendDefined(Fact):
    """A place where files are kept. Never holds a secret, never a path of the machine."""

    TYPE: ClassVar[str] = "backend.defined"

    backend: Token
    backend_id: Id | None = Field(default=None, description="where it was adopted; otherwise derived from the name")
    kind: BackendKind
    public_base_url: str | None = None
    read_only: bool = False

    @property
    def subject(self) -> str:
        return f"backend.defined.{self.backend}"


class SnapshotPublished(Fact):
    """A snapshot is complete and can be had."""

    TYPE: ClassVar[str] = "snapshot.published"

    catalog: Token
    snapshot_id: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    parent: str | None = None
    sequence: int = Field(description="the last sequence of CATALOG that it holds")
    generated_at: datetime
    locator: str = Field(description="folder of the snapshot, relative to the exporter's snapshot folder")
    manifest: dict[str, Any]

    @property
    def subject(self) -> str:
        return f"snapshot.published.{self.catalog}"


FACTS: tuple[type[Fact], ...] = (
    PoolDefined,
    SongListed,
    PlaylistCollected,
    FileStored,
    SongDescribed,
    SongPinned,
    BackendDefined,
    SnapshotPublished,
)
