"""The source ``local``: a mounted folder, read-only."""

# ruff: noqa: PTH112, PTH118, PTH119, PTH120

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.contracts.work import SongDownload
from common.errors import DependencyDown, PermanentError
from common.settings import Settings

from .folder import Directory, EntryResolver, Found, songs_in, walk
from .paths import escape, extension, locate, relative_parts
from .playlists.model import Problems, clean_text
from .playlists.sniff import parse_playlist
from .port import About, FileCandidate, Health, KnownSongs, Playlist, PlaylistRef, Pool, Progress, Song
from .tags import fingerprint, name_of_file, read_song

NAME = "local"
POOL = "folder"
MAX_PLAYLIST_BYTES = 16 * 1024 * 1024
ROOT_PLAYLIST = "./"
"""The remote id of the root's own playlist; every directory's ends in a slash, a playlist file's does not."""
_EVERY = 20
"""Files between two reports of progress: on a slow disk that is a second."""


def create(settings: Settings) -> LocalSource:
    """The entry point: the folder at ``LOCAL_MEDIA_IMPORT_PATH``."""
    return LocalSource(root=settings.local_media_import_path)


class LocalSource:
    """A playlist per directory with audio, and every playlist file found."""

    name = NAME
    about = About(title="Folder", licence="Your own files: you know their terms.")

    def __init__(self, *, root: Path | None) -> None:
        self._root = root

    def health(self) -> Health:
        if self._root is None:
            return Health(
                available=False,
                configured=False,
                message="No folder is set. Set LOCAL_MEDIA_IMPORT_PATH to collect from one.",
            )
        if not os.path.isdir(self._root):
            return Health(available=False, message="The folder at LOCAL_MEDIA_IMPORT_PATH is not there. Mount it.")
        if not os.access(self._root, os.R_OK | os.X_OK):
            return Health(
                available=False, message="The folder at LOCAL_MEDIA_IMPORT_PATH may not be read. Allow our user to."
            )
        return Health(available=True)

    def pools(self) -> Iterator[Pool]:
        if self._root is not None:
            yield Pool(external_id=POOL, name=clean_text(escape(self._root.name)) or "Folder", kind="folder")

    def playlists(self, pool_external_id: str, *, progress: Progress) -> Iterator[PlaylistRef]:
        if pool_external_id != POOL:
            raise PermanentError("The folder source has no such pool.", code="pool-missing")
        for directory in walk(self._real_root(), progress):
            yield from _refs(directory)

    def read(self, playlist_remote_id: str, *, known: KnownSongs, progress: Progress) -> Playlist:
        root = self._real_root()
        if playlist_remote_id == ROOT_PLAYLIST:
            return self._read_directory(root, "", known, progress)
        parts = relative_parts(playlist_remote_id.removesuffix("/"))
        relative = "/".join(parts)
        if playlist_remote_id.endswith("/"):
            return self._read_directory(root, relative, known, progress)
        return self._read_file(root, playlist_remote_id, relative, known, progress)

    def resolve(self, song: SongDownload) -> Sequence[FileCandidate]:
        root = self._real_root()
        return (FileCandidate(source=NAME, path=locate(Path(root), song.remote_id), locator=song.remote_id),)

    def _real_root(self) -> str:
        health = self.health()
        if not health.configured or self._root is None:
            raise PermanentError(health.message, code="source-not-configured")
        if not health.available:
            raise DependencyDown(health.message, code="source-unavailable")
        return os.path.realpath(self._root)

    def _read_directory(self, root: str, relative: str, known: KnownSongs, progress: Progress) -> Playlist:
        problems = Problems()
        _check_directory(root, relative)
        try:
            found = songs_in(root, relative, problems)
        except PermissionError:
            raise PermanentError(
                "This folder may not be read. Allow the user that runs us (in containers PUID, PGID) to, "
                "then collect again.",
                code="folder-unreadable",
            ) from None
        except (FileNotFoundError, NotADirectoryError):
            raise PermanentError("This folder is gone. Collect again.", code="playlist-missing") from None
        except OSError as error:
            raise PermanentError(
                f"This folder cannot be read ({error.strerror}). Check the disk, then collect again.",
                code="folder-unreadable",
            ) from None
        return Playlist(
            ref=_directory_ref(relative),
            songs=_songs(found, known, progress),
            problems=problems.sentences(),
        )

    def _read_file(self, root: str, remote_id: str, relative: str, known: KnownSongs, progress: Progress) -> Playlist:
        content = _read_bounded(locate(Path(root), remote_id))
        parsed = parse_playlist(content, name=relative)
        problems = Problems()
        problems.extend(parsed.problems)
        resolver = EntryResolver(root, os.path.dirname(relative))
        found: list[Found] = []
        for number, entry in enumerate(parsed.entries, start=1):
            if entry.location[:8].lower().startswith(("http://", "https://")):
                problems.add(f"Entry {number} is an internet address. Put this playlist into FEEDS to collect it.")
                continue
            match resolver.find(number, entry):
                case str() as sentence:
                    problems.add(sentence)
                case song:
                    found.append(song)
            if number % 1000 == 0:
                progress(number, len(parsed.entries))
        return Playlist(
            ref=PlaylistRef(remote_id=remote_id, name=parsed.title or _file_name(relative)),
            description=parsed.description,
            cover_url=parsed.image,
            songs=_songs(found, known, progress),
            problems=problems.sentences(),
        )


def _refs(directory: Directory) -> Iterator[PlaylistRef]:
    # A folder that may not be read is listed too: its item then says so.
    if directory.has_audio or directory.unreadable:
        yield _directory_ref(directory.relative)
    prefix = f"{directory.relative}/" if directory.relative else ""
    for name in directory.playlists:
        yield PlaylistRef(remote_id=escape(prefix + name), name=_file_name(name))


def _directory_ref(relative: str) -> PlaylistRef:
    if not relative:
        return PlaylistRef(remote_id=ROOT_PLAYLIST, name="Folder")
    readable = escape(relative)
    return PlaylistRef(remote_id=f"{readable}/", name=clean_text(readable.replace("/", " / ")) or "unnamed")


def _file_name(relative: str) -> str:
    name = os.path.basename(relative)
    return name_of_file(name) if extension(name) else clean_text(escape(name)) or "unnamed"


def _check_directory(root: str, relative: str) -> None:
    """A directory reached through a link may lie anywhere."""
    path = os.path.join(root, relative) if relative else root
    if relative and os.path.realpath(path) != path:
        raise PermanentError("This folder is a link now, and links are not followed.", code="outside-folder")


def _read_bounded(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise PermanentError("This is not a plain file.", code="playlist-malformed")
        with path.open("rb") as file:
            content = file.read(MAX_PLAYLIST_BYTES + 1)
    except OSError as error:
        raise PermanentError(
            f"This playlist cannot be read ({error.strerror}). Check its permissions.", code="playlist-unreadable"
        ) from None
    if len(content) > MAX_PLAYLIST_BYTES:
        raise PermanentError(
            f"This playlist is larger than {MAX_PLAYLIST_BYTES // 1024**2} MiB.", code="playlist-too-large"
        )
    return content


def _songs(found: Sequence[Found], known: KnownSongs, progress: Progress) -> tuple[Song, ...]:
    """The songs, each file opened at most once, and not at all if it is known."""
    prints = {song.remote_id: fingerprint(song.stat) for song in found if song.stat is not None}
    songs = dict(known.unchanged(prints))
    for number, one in enumerate(found, start=1):
        if one.remote_id not in songs:
            songs[one.remote_id] = _missing(one) if one.stat is None else _open(one, one.stat)
        if number % _EVERY == 0:
            progress(number, len(found))
    return tuple(songs[one.remote_id] for one in found)


def _open(found: Found, stat: os.stat_result) -> Song:
    return read_song(found.path, remote_id=found.remote_id, stat=stat)


def _missing(found: Found) -> Song:
    """An entry whose file is gone is still listed: its download then says what is wrong."""
    name = os.path.basename(found.path)
    entry = found.entry
    return Song(
        remote_id=found.remote_id,
        name=(entry.title if entry else None) or name_of_file(name),
        singers=entry.singers if entry else (),
        album=entry.album if entry else None,
        duration_seconds=entry.duration_seconds if entry else None,
        ext=extension(name) or None,
        metadata_status="pending",
    )
