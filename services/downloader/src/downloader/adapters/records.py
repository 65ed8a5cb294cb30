"""A small note per song, ``<song>.json``, written and removed at the least cost.

Notes are not made and deleted but taken from and put back to a few spare files: ext4 passes over every
inode that was freed within the last minute when it makes a file, so that a file made and deleted per song
costs ten times as much as one that is renamed.
"""

# ruff: noqa: PTH104, PTH108 - a Path costs more than these calls, which are made for every song

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path

SPARE = "spare-"


@dataclass
class _Sheet:
    """An open file. ``length``: bytes that were written to it."""

    fd: int
    name: str
    length: int = 0


class Records:
    """The notes in ``root``. Whoever writes or removes one has its song's lock."""

    def __init__(self, root: Path) -> None:
        self._prefix = f"{root}/"
        self._guard = threading.Lock()
        self._spares: list[_Sheet] = []
        self._taken: dict[int, _Sheet] = {}
        self._numbers = itertools.count()
        self._owner = f"{os.getpid()}-{secrets.token_hex(3)}"

    def read(self, song_id: int) -> bytes | None:
        """The note of a song, if there is one."""
        try:
            fd = os.open(self._path(song_id), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        with os.fdopen(fd, "rb") as file:
            return file.read()

    def write(self, song_id: int, content: bytes) -> None:
        """Write a note; another of the song is replaced."""
        with self._guard:
            sheet = self._taken.get(song_id) or (self._spares.pop() if self._spares else None)
        if sheet is None:
            name = f"{self._prefix}{SPARE}{self._owner}-{next(self._numbers)}"
            sheet = _Sheet(fd=os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), name=name)
        # Blanks are no part of JSON: they cover what a longer note left behind.
        padded = content.ljust(sheet.length)
        sheet.length = len(padded)
        os.pwrite(sheet.fd, padded, 0)
        if song_id not in self._taken:
            os.rename(sheet.name, self._path(song_id))
            with self._guard:
                self._taken[song_id] = sheet

    def remove(self, song_id: int) -> None:
        """Remove a note, if there is one."""
        with self._guard:
            sheet = self._taken.pop(song_id, None)
        if sheet is None:
            path = self._path(song_id)
            if os.path.lexists(path):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
            return
        os.rename(self._path(song_id), sheet.name)
        with self._guard:
            self._spares.append(sheet)

    def let_go(self, song_id: int) -> None:
        """A note that stays may be replaced by another copy from now on: do not write to it any more."""
        with self._guard:
            sheet = self._taken.pop(song_id, None)
        if sheet is not None:
            os.close(sheet.fd)

    def close(self) -> None:
        """Remove the spare files."""
        with self._guard:
            spares, self._spares = self._spares, []
        for sheet in spares:
            os.close(sheet.fd)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(sheet.name)

    def _path(self, song_id: int) -> str:
        return f"{self._prefix}{song_id}.json"
