"""The source ``feed``: playlists that a person named, as files or http(s) URLs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote, urlsplit

from common.contracts.work import SongDownload
from common.errors import ConfigurationError, PermanentError
from common.settings import Settings, split_list

from .addresses import AddressPolicy, Origin
from .folder import EntryResolver
from .http import GuardedHttp, check_status, iter_body
from .paths import escape, extension, is_audio, locate
from .playlists.model import Entry, ParsedPlaylist, Problems, clean_text
from .playlists.sniff import parse_playlist
from .port import (
    About,
    Candidate,
    FileCandidate,
    Health,
    HttpCandidate,
    KnownSongs,
    Playlist,
    PlaylistRef,
    Pool,
    Progress,
    Song,
)
from .tags import fingerprint, name_of_file
from .urls import FeedUrl, file_name, has_userinfo, join

NAME = "feed"
POOL = "feeds"
FILE_PREFIX = "file:"
_ACCEPT = "application/xspf+xml, application/jspf+json, audio/x-mpegurl, application/json;q=0.9, */*;q=0.5"


@dataclass(frozen=True)
class FeedFile:
    """A playlist file that a person named. ``remote_id`` shows its name, never where it lies."""

    path: Path

    @property
    def remote_id(self) -> str:
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:10]
        return f"{FILE_PREFIX}{digest}/{escape(self.path.name)}"

    @property
    def song_prefix(self) -> str:
        """Files beside it have remote ids that begin so."""
        return self.remote_id.rpartition("/")[0] + "/"


def create(settings: Settings) -> FeedSource:
    """The entry point: what FEEDS lists."""
    policy = AddressPolicy.from_setting(
        allow_private_addresses=settings.allow_private_addresses,
        allow_private_hosts=split_list(settings.allow_private_hosts),
    )
    return FeedSource(
        feeds=split_list(settings.feeds),
        http=GuardedHttp(policy=policy, stall_timeout=min(30.0, settings.stall_seconds / 2)),
        max_bytes=settings.feed_max_mib * 1024**2,
    )


class FeedSource:
    """One playlist per feed."""

    name = NAME
    about = About(title="Playlist feeds", licence="Whatever the servers that the feeds name say: look there.")

    def __init__(self, *, feeds: Sequence[str], http: GuardedHttp, max_bytes: int) -> None:
        """Raises :class:`ConfigurationError` for an entry of FEEDS that is neither a path nor an http(s) URL."""
        parsed = [_parse(feed, number) for number, feed in enumerate(feeds, start=1)]
        self._urls = {feed.url: feed for feed in parsed if isinstance(feed, FeedUrl)}
        self._files = {feed.remote_id: feed for feed in parsed if isinstance(feed, FeedFile)}
        self._refs = [feed.url if isinstance(feed, FeedUrl) else feed.remote_id for feed in parsed]
        self._http = http
        self._max_bytes = max_bytes

    def health(self) -> Health:
        if not self._refs:
            return Health(
                available=False, configured=False, message="No feeds are set. Set FEEDS to collect from playlists."
            )
        missing = [feed.path.name for feed in self._files.values() if not feed.path.is_file()]
        if missing and len(missing) == len(self._refs):
            return Health(available=False, message=f"The playlist file {escape(missing[0])} in FEEDS is not there.")
        return Health(available=True)

    def pools(self) -> Iterator[Pool]:
        if self._refs:
            yield Pool(external_id=POOL, name="Feeds", kind="feed")

    def playlists(self, pool_external_id: str, *, progress: Progress) -> Iterator[PlaylistRef]:
        if pool_external_id != POOL:
            raise PermanentError("The feed source has no such pool.", code="pool-missing")
        for remote_id in dict.fromkeys(self._refs):
            if remote_id in self._urls:
                yield PlaylistRef(remote_id=remote_id, name=_title(file_name(remote_id)), url=remote_id)
            else:
                yield PlaylistRef(remote_id=remote_id, name=_title(self._files[remote_id].path.name))

    def read(self, playlist_remote_id: str, *, known: KnownSongs, progress: Progress) -> Playlist:
        if (feed := self._urls.get(playlist_remote_id)) is not None:
            return self._read_url(feed, progress)
        if (file := self._files.get(playlist_remote_id)) is not None:
            return self._read_file(file, progress)
        raise PermanentError("This feed is no longer listed in FEEDS.", code="playlist-missing")

    def resolve(self, song: SongDownload) -> Sequence[Candidate]:
        if song.remote_id.startswith(FILE_PREFIX):
            for file in self._files.values():
                if song.remote_id.startswith(file.song_prefix):
                    relative = song.remote_id.removeprefix(file.song_prefix)
                    return (FileCandidate(source=NAME, path=locate(file.path.parent, relative), locator=relative),)
            raise PermanentError(
                "The feed that this file belongs to is no longer listed in FEEDS.", code="feed-missing"
            )
        origin = Origin.of(song.remote_id)
        headers: dict[str, str] = {}
        allow_private = False
        for feed in self._urls.values():
            if feed.origin == origin:
                allow_private = allow_private or feed.allows_private
                if feed.credential is not None:
                    headers["Authorization"] = feed.credential
        return (HttpCandidate(source=NAME, url=song.remote_id, headers=headers, allow_private=allow_private),)

    def _read_url(self, feed: FeedUrl, progress: Progress) -> Playlist:
        headers = {"Accept": _ACCEPT}
        if feed.credential is not None:
            headers["Authorization"] = feed.credential
        content = bytearray()
        with self._http.open(feed.url, headers=headers, allow_private=feed.allows_private) as response:
            check_status(response)
            if response.encoded:
                raise PermanentError(
                    "The server compresses the playlist although it was asked not to.", code="answer-encoded"
                )
            progress(0)
            for part in iter_body(response, limit=self._max_bytes):
                content += part
                progress(0)
            base, content_type = response.url, response.content_type
        parsed = parse_playlist(bytes(content), content_type=content_type, name=urlsplit(base).path)
        problems = Problems()
        problems.extend(parsed.problems)
        songs: list[Song] = []
        for number, entry in enumerate(parsed.entries, start=1):
            _add(songs, problems, number, entry, base)
            if number % 1000 == 0:
                progress(number, len(parsed.entries))
        name = parsed.title or _title(file_name(feed.url))
        return _playlist(PlaylistRef(remote_id=feed.url, name=name, url=feed.url), parsed, songs, problems)

    def _read_file(self, feed: FeedFile, progress: Progress) -> Playlist:
        try:
            if not feed.path.is_file():
                raise PermanentError("The playlist file in FEEDS is not there.", code="playlist-missing")
            with feed.path.open("rb") as file:
                content = file.read(self._max_bytes + 1)
        except OSError:
            raise PermanentError("The playlist file in FEEDS may not be read.", code="playlist-unreadable") from None
        if len(content) > self._max_bytes:
            raise PermanentError(
                f"The playlist is larger than {self._max_bytes // 1024**2} MiB.", code="answer-too-large"
            )
        parsed = parse_playlist(content, name=feed.path.name)
        problems = Problems()
        problems.extend(parsed.problems)
        resolver = EntryResolver(os.path.realpath(feed.path.parent), "")
        songs: list[Song] = []
        for number, entry in enumerate(parsed.entries, start=1):
            if entry.location[:8].lower().startswith(("http://", "https://")):
                _add(songs, problems, number, entry, None)
            else:
                match resolver.find(number, entry):
                    case str() as sentence:
                        problems.add(sentence)
                    case found:
                        songs.append(
                            _song(
                                entry,
                                remote_id=feed.song_prefix + found.remote_id,
                                name=found.remote_id.rpartition("/")[2],
                                stat=found.stat,
                            )
                        )
            if number % 1000 == 0:
                progress(number, len(parsed.entries))
        name = parsed.title or _title(feed.path.name)
        return _playlist(PlaylistRef(remote_id=feed.remote_id, name=name), parsed, songs, problems)


def _parse(text: str, number: int) -> FeedUrl | FeedFile:
    scheme = text.partition(":")[0].lower()
    if scheme == "file":
        text = unquote(urlsplit(text).path)
    elif "://" in text:
        try:
            return FeedUrl.parse(text)
        except PermanentError as error:
            _refuse(number, error.message)
    if not text or "\0" in text:
        _refuse(number, "It is neither a file nor an address.")
    return FeedFile(Path(os.path.abspath(text)))  # noqa: PTH100 - links stay as the person wrote them


def _refuse(number: int, why: str) -> NoReturn:
    raise ConfigurationError(f"Entry {number} of FEEDS cannot be used: {why}")


def _add(songs: list[Song], problems: Problems, number: int, entry: Entry, base: str | None) -> None:
    """The song of an entry that is an address; a sentence where it cannot be one."""
    try:
        url = join(base, entry.location) if base else join(entry.location, "")
    except PermanentError as error:
        problems.add(f"Entry {number} was left out: {error.message}")
        return
    if has_userinfo(entry.location):
        problems.add(f"Entry {number} carries a user name or password, which was left out: put it into FEEDS.")
    songs.append(_song(entry, remote_id=url, name=file_name(url)))


def _song(entry: Entry, *, remote_id: str, name: str, stat: os.stat_result | None = None) -> Song:
    ext = extension(name) if is_audio(name) else None
    return Song(
        remote_id=remote_id,
        name=entry.title or name_of_file(name),
        singers=entry.singers,
        album=entry.album,
        duration_seconds=entry.duration_seconds,
        ext=ext,
        size=stat.st_size if stat else None,
        fingerprint=fingerprint(stat) if stat else None,
        metadata_status="complete" if entry.title and entry.singers else "pending",
    )


def _playlist(ref: PlaylistRef, parsed: ParsedPlaylist, songs: list[Song], problems: Problems) -> Playlist:
    return Playlist(
        ref=ref,
        description=parsed.description,
        cover_url=_safe_image(parsed.image),
        songs=tuple(songs),
        problems=problems.sentences(),
    )


def _safe_image(image: str | None) -> str | None:
    return None if image is None or has_userinfo(image) else image


def _title(name: str) -> str:
    return name_of_file(name) if extension(name) else clean_text(escape(name)) or "feed"
