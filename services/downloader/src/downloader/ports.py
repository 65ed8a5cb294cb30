"""What the service needs of the world, and what passes between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from common.contracts.facts import AudioFormat, FileStored, FileTags
from common.contracts.names import ImportMode
from common.contracts.status import Reason
from common.contracts.work import SongDownload
from sources.port import Candidate, Found, SearchQuery

Progress = Callable[[int, int | None, str], None]
"""Bytes done, bytes in all if known, a word on what is being done."""


@dataclass(frozen=True, kw_only=True)
class Watch:
    """How a blocking step says how far it is, and learns that it must stop."""

    progress: Progress
    canceled: Callable[[], bool]


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A song's bytes, complete as far as the source can tell, not verified yet.

    ``head`` is the beginning of the content; ``owned``: the file is ours to change; ``borrowed``: it
    lies in the source's own folder and stays there.
    """

    path: Path
    sha256: str
    size: int
    head: bytes
    owned: bool = True
    borrowed: bool = False
    import_mode: ImportMode | None = None


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """What a file says of itself."""

    format: AudioFormat
    tags: FileTags
    exact_duration: bool = False
    """Whether the duration was counted or declared in frames, so that a decoder must reach it."""
    pcm: bool = False
    """Uncompressed: a complete container is all there is to check."""
    frames: int | None = None
    """Sample frames that the container declares."""
    md5: bytes | None = None
    """MD5 of the decoded samples, where the container has it."""
    bits: int | None = None


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What a decoder made of a file."""

    frames: int
    sample_rate: int
    md5: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class FetchState:
    """What must be known to go on with a part: whose bytes they are, and how the server names that version."""

    url_digest: str
    etag: str | None = None
    modified: str | None = None
    total: int | None = None


@dataclass(frozen=True, kw_only=True)
class Placing:
    """A verified file on its way into the library: enough to find it again after a crash."""

    cause: str
    fact: FileStored
    path: Path
    """where it lies in the spool until the rename"""
    targets: tuple[str, ...]
    inode: int
    old: str | None = None
    """the locator of the file that this one replaces"""
    result: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Torn:
    """A record that a power cut spoiled: the song's file may be in the library already."""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Where the file is. ``replaced``: it took the place of the old one, which is in the trash."""

    locator: str
    replaced: bool = False


class SongLock(Protocol):
    """The exclusive right to work on one song, over all copies of the downloader.

    ``waited``: another had it meanwhile, so that what was read before may be old.
    """

    waited: bool

    def held_for(self, item: str) -> None: ...

    def release(self) -> None: ...


class Spool(Protocol):
    """Where songs are before they are in the library."""

    def lock(self, song_id: int, *, canceled: Callable[[], bool]) -> SongLock:
        """Raises SongBusy when another copy keeps it."""
        ...

    def part(self, song_id: int) -> Path: ...

    def recall(self, song_id: int) -> FetchState | Placing | Torn | None:
        """What an earlier try left noted."""
        ...

    def remember_fetch(self, song_id: int, state: FetchState) -> None: ...

    def remember_placing(self, song_id: int, state: Placing) -> None: ...

    def drop_part(self, song_id: int) -> None: ...

    def forget(self, song_id: int, *, only_record: bool = False) -> None:
        """Remove part and record. ``only_record``: the part is known to be gone."""
        ...


class Fetcher(Protocol):
    """Brings the bytes of a candidate into the spool."""

    def fetch(
        self, candidate: Candidate, song_id: int, *, mode: ImportMode, noted: FetchState | None, watch: Watch
    ) -> Fetched:
        """``noted``: what is known of the part that an earlier try left."""
        ...


class Inspector(Protocol):
    """Reads containers and decodes them."""

    def inspect(self, fetched: Fetched, kind: str) -> Inspected:
        """Raises Rejected when the container is broken or cut off."""
        ...

    def decodes(self, kind: str) -> bool: ...

    def decode(self, path: Path, kind: str, inspected: Inspected, *, watch: Watch) -> Decoded:
        """Raises Rejected when a decoder gives up."""
        ...


class Tagger(Protocol):
    """Writes tags."""

    def fill(self, fetched: Fetched, kind: str, wanted: FileTags) -> Fetched:
        """A tagged copy beside the file, which stays as it was. Raises TaggingFailed."""
        ...


class TaggingFailed(Exception):
    """The tags could not be written; the message says why in a few words."""


class RejectMemory(Protocol):
    """Content that was refused before, shared by all copies."""

    def get(self, sha256: str) -> Reason | None: ...

    def put(self, sha256: str, reason: Reason) -> None: ...


class Library(Protocol):
    """Where songs are kept."""

    def holds(self, locator: str, size: int) -> bool: ...

    def place(self, part: Path, targets: Sequence[str], *, replace: str | None, twin: str | None = None) -> Placed:
        """Move ``part`` to the first free target, or over ``replace`` where that is the same file.

        ``twin``: a file with this sha256 that has one of the names is the song's own, from before a crash.
        """
        ...

    def adopt(self, placing: Placing) -> str | None:
        """The locator where an interrupted placing left its file, if it did."""
        ...

    def trash(self, locator: str) -> None: ...

    def remove(self, locator: str) -> None:
        """Remove a file that nobody knows of yet."""
        ...


Waited = Callable[[float], None]
"""Told every few seconds for how long an answer is waited for; raises to give it up."""


class SourceAccess(Protocol):
    """The sources in use, as the resolver asks them. Everything may block, and raises the errors of common."""

    def own(self, song: SongDownload, *, waited: Waited) -> Sequence[Candidate]:
        """Where the song's own source has its bytes, best first."""
        ...

    def in_use(self) -> Sequence[str]:
        """All sources in use, in their configured order."""
        ...

    def can_search(self, source: str) -> bool: ...

    def search(self, source: str, query: SearchQuery, *, waited: Waited) -> Sequence[Found]: ...

    def refresh(self, source: str, remote_id: str, *, waited: Waited) -> Found | None: ...

    def candidates(self, found: Found, *, waited: Waited) -> Sequence[Candidate]: ...


class Statistics(Protocol):
    """What was learned of who has what. Never raises."""

    def order(self, origin: str, sources: Sequence[str]) -> Sequence[tuple[str, str]]:
        """``sources`` in the order to ask them, each with why it stands there."""
        ...

    def record_fallback_result(self, origin: str, candidate: str, *, succeeded: bool) -> None: ...

    def record_verification(self, origin: str, candidate: str, *, passed: bool) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a person decided about a song: this recording, never those. Each is a source and its remote id."""

    match: tuple[str, str] | None = None
    banned: frozenset[tuple[str, str]] = frozenset()


NO_CHOICE = Choice()


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A search result and what was thought of it; ``reasons`` as codes with sentences."""

    found: Found
    verdict: str
    score: float
    reasons: Sequence[Reason] = ()


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A source that was searched for a song. ``why``: it was asked at this place; ``problem``: it did not answer.

    ``results``: how many it had, of which so many were ``accepted``; ``verified``: whether the bytes of one of
    these were the song, None where none was fetched; ``refused``: why none of them ever will be. ``at``: when it
    answered, in seconds since the epoch; ``waits_since``: since when the song waits for it.
    """

    source: str
    why: str
    results: int = 0
    accepted: int = 0
    verified: bool | None = None
    problem: str | None = None
    refused: str | None = None
    at: float = 0.0
    waits_since: float | None = None

    @property
    def settled(self) -> bool:
        """Whether it need not be asked again: it answered, and has nothing that could still be the song."""
        return self.problem is None and (not self.accepted or self.refused is not None)


@dataclass(frozen=True, kw_only=True)
class Searched:
    """A search that was kept: who was asked, and the best of what they had."""

    asked: Sequence[Asked] = ()
    found: Sequence[Found] = ()


class Matches(Protocol):
    """The last search of each song that its own source could not give. Never raises: no song fails for it."""

    def last(self, song_id: int, *, job_id: int) -> Searched:
        """The last search for the song, where it was done for this job."""
        ...

    def keep(self, song_id: int, judged: Sequence[Judged], asked: Sequence[Asked], *, job_id: int) -> None:
        """In place of what was kept for this song before."""
        ...
