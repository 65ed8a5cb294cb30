"""The one port behind which every source stands.

A source is found through the entry point group ``music_cloud.sources``; the entry point is a
callable that takes the shared settings and returns a :class:`Source`. Methods are plain functions
and may block: callers run them in threads. They raise the errors of :mod:`common.errors`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from common.contracts.work import SongDownload


@dataclass(frozen=True, kw_only=True)
class Health:
    """Whether a source can be used now; ``message`` says what to do when not."""

    available: bool
    configured: bool = True
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class About:
    """What people should know of a source. ``licence``: a sentence on the terms of what comes from it.

    ``rate``: requests a second that each process sends at most; None where no server is asked.
    """

    title: str
    licence: str
    rate: float | None = None
    homepage: str | None = None


TOPLIST = "toplist"
"""The kind of a pool whose playlists stand among the toplists of a snapshot."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """A group of playlists.

    ``kind``: a word such as ``folder``, ``user`` or ``category``; only :data:`TOPLIST` has a meaning. A toplist has
    the ``external_id`` of its pool, the others in that pool this and their own, so that one pool for each is best;
    toplists whose pools have the same ``name`` are one group.
    """

    external_id: str
    name: str
    kind: str
    url: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PlaylistRef:
    """A playlist that a pool lists, not read yet. ``remote_id`` is the source's own id of it."""

    remote_id: str
    name: str
    url: str | None = None


@dataclass(frozen=True, kw_only=True)
class Song:
    """One song as the source lists it. ``remote_id`` is the source's own id of it."""

    remote_id: str
    name: str
    singers: tuple[str, ...] = ()
    album: str | None = None
    duration_seconds: float | None = None
    ext: str | None = None
    size: int | None = None
    fingerprint: str | None = None
    metadata_status: Literal["complete", "pending"] = "complete"
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Playlist:
    """A playlist, read. ``songs`` are in order; a song may stand in it more than once.

    ``problems`` are sentences about entries that could not be taken.
    """

    ref: PlaylistRef
    description: str | None = None
    cover_url: str | None = None
    play_count: int | None = None
    songs: Sequence[Song] = ()
    problems: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class FileCandidate:
    """The song's bytes lie in a folder that this machine reads."""

    source: str
    path: Path
    locator: str
    """relative to the source's folder, / as separator"""


@dataclass(frozen=True, kw_only=True)
class HttpCandidate:
    """The song's bytes are behind a URL. It and ``headers`` may hold a credential: never log them."""

    source: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    allow_private: bool = False
    """Whether a person allowed addresses of the local network for this source."""


Candidate = FileCandidate | HttpCandidate


class KnownSongs(Protocol):
    """What is known of songs from earlier readings."""

    def unchanged(self, fingerprints: Mapping[str, str]) -> Mapping[str, Song]:
        """Of the remote ids given with their fingerprints now: the songs that were listed under the same one."""
        ...


class Progress(Protocol):
    """Told now and then how far a reading is."""

    def __call__(self, done: int, total: int | None = None) -> None:
        """``done`` of ``total`` songs. Raises when the caller no longer wants the reading: let it pass."""
        ...


class Source(Protocol):
    """Everything that can be asked of a source."""

    name: str
    """Lower case; also the platform of its songs and playlists."""

    def health(self) -> Health:
        """Whether it can be used now. Cheap; asked every few seconds."""
        ...

    def pools(self) -> Iterator[Pool]:
        """The pools that it has now. None where it is not configured."""
        ...

    def playlists(self, pool_external_id: str, *, progress: Progress) -> Iterator[PlaylistRef]:
        """The playlists of a pool. ``progress`` as for :meth:`read`."""
        ...

    def read(self, playlist_remote_id: str, *, known: KnownSongs, progress: Progress) -> Playlist:
        """Read one playlist with its songs.

        ``known`` gives what was listed before under the same fingerprint, so that a file whose
        size and time did not change need not be opened again. ``progress`` is to be called at least
        every few seconds: a reading that says nothing for the stall limit is interrupted.
        """
        ...

    def resolve(self, song: SongDownload) -> Sequence[Candidate]:
        """Where the song's bytes can be had, best first. Empty: this source does not have it."""
        ...


@runtime_checkable
class Described(Protocol):
    """A source that says what people should know of it; a plug-in may leave it out."""

    about: About


@runtime_checkable
class Patient(Protocol):
    """A source whose answers may take long; without it one that is searched is given two minutes and a half.

    ``patience``: seconds that an answer may take, an hour at most. Waiting for the turns of its pace does not count.
    """

    patience: float


@dataclass(frozen=True, kw_only=True)
class Licence:
    """Under which terms a song may be had, in the source's own words. ``url``: where they can be read."""

    name: str
    url: str | None = None


@dataclass(frozen=True, kw_only=True)
class SearchQuery:
    """What is looked for: a song as its own source lists it. ``duration_seconds``: where it is known."""

    name: str
    singers: tuple[str, ...] = ()
    album: str | None = None
    duration_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Found:
    """One search result: a recording that ``source`` has and lets be downloaded.

    ``remote_id`` is the source's own id of it, stable; ``size`` in bytes; ``bitrate`` in kbit/s. Only
    what the source says: nothing here is believed before the bytes were checked.
    """

    source: str
    remote_id: str
    name: str
    singers: tuple[str, ...] = ()
    album: str | None = None
    duration_seconds: float | None = None
    ext: str | None = None
    size: int | None = None
    bitrate: int | None = None
    lossless: bool = False
    licence: Licence | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Searchable(Protocol):
    """What a source offers beside :class:`Source` when a song of another one can be looked for in it.

    Blocking like all of a source, and raising the same errors. None of it tries again by itself.
    """

    name: str

    def search(self, query: SearchQuery, *, limit: int) -> Sequence[Found]:
        """At most ``limit`` results, best first as the source orders them, each remote id once. Empty: none."""
        ...

    def refresh(self, remote_id: str) -> Found | None:
        """What the source says of this song now. None when it no longer has it, or no longer gives it away."""
        ...

    def candidates(self, found: Found) -> Sequence[Candidate]:
        """Where the bytes of a result can be had, best first. Only for results of this source."""
        ...
