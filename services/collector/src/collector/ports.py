"""What the decisions are made upon: what is known of songs, playlists and pools."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from common.contracts.facts import PlaylistHeader
from common.contracts.work import FileUpload, PlaylistSync, SongDownload


@dataclass(frozen=True, slots=True)
class KnownSong:
    """A song as it was last listed."""

    song_id: int
    platform: str
    remote_id: str
    digest: str
    """of everything that was listed"""
    wish: str
    """of what a downloader goes by"""
    fingerprint: str | None = None
    owner: int | None = None
    """the playlist whose words these are"""
    removed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Givers:
    """The sources that may give files: each its own songs, and those that can be ``searched`` others' songs as well."""

    listed: frozenset[str] = frozenset()
    searched: frozenset[str] = frozenset()

    def of(self, platform: str) -> frozenset[str]:
        """Those that may give a song of ``platform``."""
        return self.searched | (self.listed & {platform})


NOBODY = Givers()


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenUp:
    """A song that failed for good, for what was listed then and the sources that might have given it."""

    wish: str
    code: str
    givers: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Holding:
    """What there is of a song's files. ``stored``: listing fingerprints of the copies on file systems."""

    stored: frozenset[str | None] = frozenset()
    given_up: GivenUp | None = None


NOTHING = Holding()


@dataclass(frozen=True, kw_only=True)
class KnownPlaylist:
    """A playlist as it was last published."""

    playlist_id: int
    platform: str
    remote_id: str
    top_version: int
    """highest version on any of its pages"""
    whole: bool
    """whether all pages of the set carry the same version"""
    header: PlaylistHeader
    fingerprint: str | None = None
    removed: bool = False
    entries: Callable[[], list[int]] = field(repr=False)
    """the song ids in order; read when asked for"""


@dataclass(frozen=True, kw_only=True)
class KnownPool:
    """A pool as it was last published."""

    pool_id: int
    platform: str
    external_id: str
    name: str
    digest: str
    playlist_ids: tuple[int, ...]
    removed: bool = False


class Record(Protocol):
    """What is known. Every method may block; callers use threads."""

    def songs(self, ids: Iterable[int]) -> Mapping[int, KnownSong]:
        """The songs with these ids, those that are known."""
        ...

    def listings(self, ids: Iterable[int]) -> Mapping[int, SongDownload]:
        """The same songs as requests of job 0."""
        ...

    def holdings(self, ids: Iterable[int], *, givers: Givers = NOBODY) -> Mapping[int, Holding]:
        """What there is of them; a song without anything is left out. ``givers``: those of the job."""
        ...

    def still_listed(self, pairs: Iterable[tuple[int, int]]) -> frozenset[tuple[int, int]]:
        """Of these (playlist, song) pairs, those where the playlist lists the song now."""
        ...

    def playlist(self, playlist_id: int) -> KnownPlaylist | None: ...

    def pool(self, pool_id: int) -> KnownPool | None: ...

    def pools(self, platforms: Iterable[str]) -> list[KnownPool]: ...

    def playlists_to_sync(self, job_id: int, platforms: Iterable[str]) -> list[PlaylistSync]:
        """Current playlists that were published before."""
        ...

    def wanted(
        self,
        job_id: int,
        platforms: Iterable[str],
        *,
        playlists: Collection[int] = (),
        givers: Givers = NOBODY,
        after: int,
        limit: int,
    ) -> list[SongDownload]:
        """Songs with an id above ``after`` that are listed (in ``playlists``, if any are named), not stored
        and not given up with all of ``givers``; by id."""
        ...

    def uploads(self, job_id: int, backend: str, *, after: tuple[int, str], limit: int) -> list[FileUpload]:
        """Stored files beyond (song, variant) ``after`` that ``backend`` lacks; by song and variant."""
        ...
