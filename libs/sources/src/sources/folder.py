"""Reading a folder of music: which directories hold audio, which files are songs, where playlists point.

Plain strings and ``os`` throughout: names may be no valid text, and a library has a hundred
thousand of them. Symbolic links to directories are not entered, so that there are no loops and no
song twice; links to files count when they stay inside the root.
"""

# ruff: noqa: PTH114, PTH116, PTH118, PTH120

from __future__ import annotations

import os
import stat as stat_of
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from .paths import MAX_REMOTE_ID, contained, escape, extension, is_audio
from .playlists.model import Entry, Problems
from .playlists.sniff import EXTENSIONS as PLAYLIST_EXTENSIONS
from .port import Progress

MAX_DEPTH = 64
SKIPPED_DIRECTORIES = frozenset(
    {"@eadir", "#recycle", "#snapshot", "@tmp", "lost+found", "$recycle.bin", "system volume information"}
)
"""What NAS systems keep beside the music."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Directory:
    """A directory below the root. ``relative`` is its path as Python gives it, empty for the root."""

    relative: str
    has_audio: bool = False
    playlists: tuple[str, ...] = ()
    unreadable: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A file that is a song, or an entry whose file is gone (``stat`` is None)."""

    remote_id: str
    path: str
    stat: os.stat_result | None
    entry: Entry | None = None


def walk(root: str, progress: Progress) -> Iterator[Directory]:
    """The directories below ``root`` that matter, in order: those with audio, playlists, or no permission."""
    waiting = [""]
    walked = 0
    while waiting:
        relative = waiting.pop()
        walked += 1
        if walked % 20 == 0:
            progress(walked)
        children: list[str] = []
        playlists: list[str] = []
        has_audio = False
        try:
            with os.scandir(os.path.join(root, relative)) as entries:
                for entry in entries:
                    name = entry.name
                    if name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        if name.lower() not in SKIPPED_DIRECTORIES:
                            children.append(name)
                    elif is_audio(name):
                        has_audio = True
                    elif extension(name) in PLAYLIST_EXTENSIONS:
                        playlists.append(name)
        except FileNotFoundError:
            continue
        except OSError:
            yield Directory(relative=relative, unreadable=True)
            continue
        if has_audio or playlists:
            yield Directory(relative=relative, has_audio=has_audio, playlists=tuple(sorted(playlists)))
        if relative.count("/") < MAX_DEPTH:
            prefix = f"{relative}/" if relative else ""
            waiting.extend(prefix + name for name in sorted(children, reverse=True))


def songs_in(root: str, relative: str, problems: Problems) -> list[Found]:
    """The songs directly in one directory, by name. Raises ``OSError`` when it cannot be read."""
    found: list[Found] = []
    prefix = f"{relative}/" if relative else ""
    with os.scandir(os.path.join(root, relative)) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(".") or not is_audio(name) or entry.is_dir(follow_symlinks=False):
                continue
            try:
                if entry.is_symlink() and not contained(root, entry.path):
                    problems.add(f"{escape(name)} is a link that leads outside the folder, and was left out.")
                    continue
                stat = entry.stat()
            except OSError:
                problems.add(f"{escape(name)} cannot be read, and was left out.")
                continue
            if not stat_of.S_ISREG(stat.st_mode):
                problems.add(f"{escape(name)} is not a plain file, and was left out.")
                continue
            remote_id = escape(prefix + name)
            if len(remote_id) > MAX_REMOTE_ID:
                problems.add(f"{escape(name)[:80]}… has a path that is too long, and was left out.")
                continue
            found.append(Found(remote_id=remote_id, path=entry.path, stat=stat))
    found.sort(key=lambda song: (song.remote_id.casefold(), song.remote_id))
    return found


class EntryResolver:
    """Finds the files that a playlist's entries mean, inside ``root`` (a real path) and nowhere else."""

    def __init__(self, root: str, base: str) -> None:
        """``base``: the playlist's own directory, relative to the root."""
        self._root = root
        self._base = base
        self._real_directories: dict[str, bool] = {}

    def find(self, number: int, entry: Entry) -> Found | str:
        """The file of an entry, or a sentence that says why it was left out."""
        location = entry.location
        scheme = location.partition(":")[0].lower()
        if scheme == "file":
            location = unquote(urlsplit(location).path, errors="surrogateescape")
        elif "://" in location[:20] or (scheme == "data" and location != scheme):
            return f"Entry {number} is an address ({scheme[:10]}), not a file of the folder."
        if "\0" in location:
            return f"Entry {number} holds a NUL character, and was left out."
        first: str | None = None
        for spelling in _spellings(location):
            relative = self._inside(spelling)
            if relative is None:
                continue
            path = os.path.join(self._root, relative)
            try:
                stat = os.stat(path)
            except OSError:
                first = first or relative
                continue
            if not self._stays_inside(path):
                return f"Entry {number} leads outside the folder through a link, and was left out."
            return self._take(number, entry, relative, path, stat)
        if first is None:
            return f"Entry {number} points outside the folder, and was left out."
        return self._take(number, entry, first, os.path.join(self._root, first), None)

    def _take(self, number: int, entry: Entry, relative: str, path: str, stat: os.stat_result | None) -> Found | str:
        if not is_audio(relative) or (stat is not None and not stat_of.S_ISREG(stat.st_mode)):
            return f"Entry {number} is not an audio file, and was left out."
        remote_id = escape(relative)
        if len(remote_id) > MAX_REMOTE_ID:
            return f"Entry {number} has a path that is too long, and was left out."
        return Found(remote_id=remote_id, path=path, stat=stat, entry=entry)

    def _inside(self, location: str) -> str | None:
        """The path relative to the root, by its words alone; None when it leads out."""
        if location.startswith("/"):
            plain = os.path.normpath("/" + location.lstrip("/"))
            prefix = self._root.rstrip("/") + "/"
            relative = plain[len(prefix) :] if plain.startswith(prefix) else ""
        else:
            relative = os.path.normpath(os.path.join(self._base, location))
        if relative in ("", ".", "..") or relative.startswith(("../", "/")):
            return None
        return relative

    def _stays_inside(self, path: str) -> bool:
        """Like :func:`contained`, remembering directories: a playlist names the same ones over and over."""
        if os.path.islink(path):
            return contained(self._root, path)
        directory = os.path.dirname(path)
        if directory not in self._real_directories:
            self._real_directories[directory] = directory == self._root or contained(self._root, directory)
        return self._real_directories[directory]


def _spellings(location: str) -> Iterator[str]:
    """How a writer may have meant a path: as it stands, with other slashes, escaped, in an old encoding."""
    tried: set[str] = set()
    variants = [location, location.replace("\\", "/")]
    variants += [unquote(variant, errors="surrogateescape") for variant in variants if "%" in variant]
    if any("\udc80" <= char <= "\udcff" for char in location):
        western = location.encode("utf-8", "surrogateescape").decode("cp1252", "replace")
        variants += [western, western.replace("\\", "/")]
    for variant in variants:
        if variant not in tried and "\0" not in variant:
            tried.add(variant)
            yield variant
