"""Errors of databases and disks as sentences for a person."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Iterator

from exporter.errors import SnapshotError
from mirror.errors import MirrorError

_DISK_FULL = "The snapshot cannot be written: the disk is full. Free some space; the last one stays."


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn what SQLite, the file system and the snapshot's format say into a SnapshotError."""
    try:
        yield
    except sqlite3.Error as error:
        raise _database_error(error) from None
    except MirrorError as error:
        raise SnapshotError(f"The snapshot cannot be made ({error.message})") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SnapshotError(_DISK_FULL, code="disk-full") from None
        raise SnapshotError(
            f"The snapshot cannot be written ({error.strerror or 'I/O error'}). Check the target folder's "
            "permissions; the last one stays.",
            code="target-not-writable",
        ) from None


def _database_error(error: sqlite3.Error) -> SnapshotError:
    words = str(error)
    if "full" in words:
        return SnapshotError(_DISK_FULL, code="disk-full")
    if "locked" in words or "busy" in words:
        return SnapshotError(
            "The source is locked by another program. Close it or try again when it is at rest.", code="source-locked"
        )
    if is_damage(error) or "disk I/O" in words:
        return SnapshotError(
            f"The source is damaged ({words}). Restore it from a backup, or rebuild it.", code="source-corrupt"
        )
    if "unable to open" in words or "readonly" in words:
        return SnapshotError(
            f"The source cannot be opened for reading ({words}). If a program left it in the middle of a change, "
            "open it once with that program; if its folder is read-only, copy it with its -wal file to another.",
            code="source-unreadable",
        )
    return SnapshotError(f"The source cannot be read as a catalog ({words}).", code="source-not-a-catalog")


def is_damage(error: sqlite3.Error) -> bool:
    """Whether a database is broken, so that trying again does not help."""
    words = str(error)
    return "malformed" in words or "not a database" in words
