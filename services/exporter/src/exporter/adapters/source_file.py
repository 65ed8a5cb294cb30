"""A catalog database that is not ours: opened so that nothing is ever written beside it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from exporter.errors import SnapshotError

_WAL_VERSION = b"\x02\x02"
_HEADER = b"SQLite format 3\0"

Fingerprint = tuple[int, ...]


def uri(source: Path) -> str:
    """The file as SQLite takes it, to be read."""
    return f"file:{quote(str(source.absolute()))}?mode=ro"


def how_to_read(source: Path) -> tuple[str, Fingerprint | None]:
    """The URI to read the source by without writing anything, and its fingerprint if that is without locks.

    A database in write-ahead mode that nobody has open would be given its side files by a reader:
    it is read as it lies instead, and read again if a writer came meanwhile. Raises SnapshotError.
    """
    try:
        with source.open("rb") as file:
            header = file.read(20)
    except FileNotFoundError:
        raise SnapshotError(
            f"There is no database at {source}. Check the path given with --db.", code="source-missing"
        ) from None
    except IsADirectoryError:
        raise SnapshotError(
            f"{source} is a folder. Give the path of the database file in it.", code="source-missing"
        ) from None
    except PermissionError:
        raise SnapshotError(f"{source} may not be read by this user.", code="source-unreadable") from None
    if header[:16] != _HEADER:
        raise SnapshotError(
            f"{source} is not an SQLite database (or is empty). Give the path of a catalog.db or catalogsync.db.",
            code="source-not-a-catalog",
        )
    log = source.with_name(f"{source.name}-wal")
    if header[18:20] == _WAL_VERSION and not (log.exists() and log.stat().st_size):
        return f"{uri(source)}&immutable=1", fingerprint(source)
    return uri(source), None


def fingerprint(source: Path) -> Fingerprint:
    """Changes whenever somebody writes to the database."""
    log = source.with_name(f"{source.name}-wal")
    found = source.stat()
    return (found.st_ino, found.st_size, found.st_mtime_ns, log.stat().st_size if log.exists() else 0)
