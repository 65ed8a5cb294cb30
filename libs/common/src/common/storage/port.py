"""The one port behind which every storage backend stands.

Methods are plain functions and may block: callers run them in threads, and one instance serves many threads.
They raise the errors of :mod:`common.errors`, and :class:`common.storage.locators.InvalidLocator`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from common.errors import PermanentError, TransientError

Progress = Callable[[int], None]
"""Told the bytes of the file that were moved so far; called from the thread that moves them."""
Canceled = Callable[[], bool]
"""Asked between chunks; true ends the transfer with :class:`TransferCanceled`."""


class PutResult(StrEnum):
    CREATED = "created"
    ALREADY_THERE = "already_there"


class FileMissing(PermanentError):
    """The file is not where it was said to be."""

    code = "file-missing"


class FileChanged(PermanentError):
    """The file is not the one whose digest was given."""

    code = "file-changed"


class TransferCanceled(TransientError):
    """The transfer was told to stop; nothing of it is left in the backend."""

    code = "transfer-canceled"


@dataclass(frozen=True, kw_only=True)
class Stat:
    """What a backend knows of a file without reading it. ``size`` in bytes; ``sha256`` in hex, if it keeps one."""

    size: int
    sha256: str | None = None
    content_type: str | None = None


class Readable(Protocol):
    """An open file."""

    def read(self, amt: int = -1, /) -> bytes: ...

    def close(self) -> None: ...


class Storage(Protocol):
    """A place where files are kept under locators."""

    def put_file(
        self,
        path: Path,
        locator: str,
        *,
        sha256: str,
        size: int,
        progress: Progress | None = None,
        canceled: Canceled | None = None,
    ) -> PutResult:
        """Put the file ``path`` under ``locator``, whole or not at all, and verified against ``sha256`` and ``size``.

        What lies there with the same content is left as it is; anything else is replaced. Raises
        :class:`FileMissing` or :class:`FileChanged` when ``path`` is not that file.
        """
        ...

    def stat(self, locator: str) -> Stat | None:
        """What lies under ``locator``, or None."""
        ...

    def open(self, locator: str) -> Readable:
        """Open for reading; the caller closes it. Raises :class:`FileMissing`."""
        ...

    def delete(self, locator: str) -> None:
        """Remove what lies under ``locator``; nothing happens when nothing does."""
        ...

    def presign(self, locator: str, *, seconds: int) -> str | None:
        """A URL that anyone can read the file from for ``seconds``, or None where the backend has none."""
        ...

    def check(self) -> None:
        """Raise :class:`common.errors.DependencyDown` when the backend cannot be used now, with what to mend."""
        ...
