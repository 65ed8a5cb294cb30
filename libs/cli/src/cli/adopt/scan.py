"""What lies in the library: one walk, so that no file is asked for twice over a network."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from cli.adopt.older import Older
from cli.adopt.report import Report
from common.errors import ConfigurationError

_BATCH = 2000
_OF_THE_NAS = frozenset({"@eaDir", "#recycle", "#snapshot", "lost+found", "$RECYCLE.BIN", "System Volume Information"})
"""Folders that a NAS makes by itself in every shared folder."""


def folded(locator: str) -> str:
    """The name as file systems compare it that know neither case nor two spellings of one character."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", locator).casefold())


def scan(library: Path, older: Older, report: Report, *, progress: Callable[[int], None]) -> int:
    """Note every file below ``library``; return how many. Links are not followed.

    Raises ConfigurationError when the folder cannot be read.
    """
    count, found = 0, _walk(library, report)
    while batch := list(islice(found, _BATCH)):
        with older.writing() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO adopt_files (locator, folded, size, plain) VALUES (?, ?, ?, ?)", batch
            )
        count += len(batch)
        progress(count)
    return count


def _walk(library: Path, report: Report) -> Iterator[tuple[str, str, int, bool]]:
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            entries = sorted(os.scandir(library / folder), key=lambda entry: entry.name)
        except OSError as error:
            if not folder:
                raise ConfigurationError(
                    f"The library {library} cannot be read ({error.strerror}). Is its disk mounted?"
                ) from None
            report.leave("file-unreadable", "folder", name=folder)
            continue
        for entry in entries:
            if entry.name in _OF_THE_NAS or (not folder and entry.name.startswith(".")):
                continue  # our own spool, trash and mark are there, too
            locator = f"{folder}/{entry.name}" if folder else entry.name
            try:
                locator.encode()
                found = entry.stat(follow_symlinks=False)
            except UnicodeEncodeError:
                shown = locator.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
                report.leave("unknown-file", "file", name=shown)
                continue
            except OSError:
                report.leave("file-unreadable", "file", name=locator)
                continue
            if stat.S_ISDIR(found.st_mode):
                folders.append(locator)
            else:
                yield locator, folded(locator), found.st_size, stat.S_ISREG(found.st_mode)
