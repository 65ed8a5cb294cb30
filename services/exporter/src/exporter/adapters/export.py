"""Exporting: from a catalog database, which is only read, to a complete snapshot folder."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from common.catalog.read_model import DATABASE_FILE, MANIFEST_FILE
from exporter.adapters.pair import put_in_place, staging_folder
from exporter.errors import SnapshotError
from exporter.service.digest import content_digests
from exporter.service.manifest import Manifest, make_manifest
from exporter.service.read_model import create_tables, fill
from exporter.service.source import inspect

_WAIT_FOR_LOCK = 5.0
"""Seconds that a source may be locked by a writer."""
_CACHE_KIB = 64 * 1024
_ATTEMPTS = 3
_WAL_VERSION = b"\x02\x02"
_HEADER = b"SQLite format 3\0"


class _SourceChanged(Exception):
    """A writer came while the source was read without locks."""


def export_snapshot(source_db: str | Path, target_dir: str | Path) -> Manifest:
    """Make a snapshot of any catalog database in ``target_dir``, in place of an older one; return its manifest.

    The source is never written. Raises SnapshotError with one sentence when it cannot be read or the
    target cannot be written; an older snapshot is then as it was.
    """
    source, target = Path(source_db), Path(target_dir).absolute()
    if target.is_symlink():
        target = target.resolve()
    if target.exists() and not target.is_dir():
        raise SnapshotError("The target is a file. Give a folder.", code="target-not-writable")
    before = read_manifest(target)
    with explained(), staging_folder(target) as staging:
        manifest = build(source, staging, parent=before["snapshot_id"] if before else None)
        put_in_place(staging, target)
    return manifest


def build(source: Path, folder: Path, *, parent: str | None, own: bool = False) -> Manifest:
    """Write database and manifest into an empty folder; return the manifest. Raises SnapshotError.

    ``own``: this process has the source open. It is then read through SQLite alone: opening and
    closing the file in any other way would drop the locks of the process on it.
    """
    with explained():
        for _ in range(_ATTEMPTS):
            uri, alone = (_uri(source), None) if own else _read_only(source)
            try:
                return _build(source, uri, alone, folder, parent)
            except _SourceChanged:
                (folder / DATABASE_FILE).unlink(missing_ok=True)
        raise SnapshotError(
            "The source is being written all the time. Try again when it is at rest.", code="source-locked"
        )


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a snapshot folder; None if there is none that can be read."""
    try:
        content = json.loads((folder / MANIFEST_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    known = isinstance(content, dict) and isinstance(content.get("snapshot_id"), str)
    return content if known else None


def _build(source: Path, uri: str, alone: tuple[int, ...] | None, folder: Path, parent: str | None) -> Manifest:
    database = folder / DATABASE_FILE
    connection = sqlite3.connect(f"file:{quote(str(database))}", uri=True, isolation_level=None, timeout=_WAIT_FOR_LOCK)
    with contextlib.closing(connection):
        for pragma in (
            # The file appears when it is complete, so a journal would protect nothing.
            "main.journal_mode = OFF",
            "main.synchronous = OFF",
            "main.locking_mode = EXCLUSIVE",
            f"main.cache_size = -{_CACHE_KIB}",
            "main.page_size = 4096",
        ):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("ATTACH ? AS source", (uri,))
        connection.execute("PRAGMA source.cache_size = -16384")
        connection.execute("BEGIN")
        held = inspect(connection)
        create_tables(connection)
        fill(connection, held)
        connection.execute("COMMIT")
        tables = content_digests(connection)
        covers = connection.execute(
            "SELECT count(*) FROM catalog_playlists WHERE cover_url IS NOT NULL AND cover_url <> ''"
        ).fetchone()[0]
    if alone is not None and alone != _fingerprint(source):
        raise _SourceChanged
    with database.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    manifest = make_manifest(
        tables=tables,
        cover_count=covers,
        sequence=held.sequence,
        parent=parent,
        generated_at=datetime.now(UTC),
        file_size=database.stat().st_size,
        file_digest=f"sha256:{digest}",
    )
    text = json.dumps(manifest, ensure_ascii=False, indent=2)
    (folder / MANIFEST_FILE).write_text(text + "\n", "utf-8")
    return manifest


def _read_only(source: Path) -> tuple[str, tuple[int, ...] | None]:
    """How to open the source without writing anything, and its fingerprint if that is without locks.

    A database in write-ahead mode that nobody has open would be given its side files by a reader:
    it is read as it lies instead, and read again if a writer came meanwhile.
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
    uri = _uri(source)
    log = source.with_name(f"{source.name}-wal")
    if header[18:20] == _WAL_VERSION and not (log.exists() and log.stat().st_size):
        return f"{uri}&immutable=1", _fingerprint(source)
    return uri, None


def _uri(source: Path) -> str:
    return f"file:{quote(str(source.absolute()))}?mode=ro"


def _fingerprint(source: Path) -> tuple[int, ...]:
    log = source.with_name(f"{source.name}-wal")
    found = source.stat()
    return (found.st_ino, found.st_size, found.st_mtime_ns, log.stat().st_size if log.exists() else 0)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Errors of the database and the disk as sentences."""
    try:
        yield
    except sqlite3.Error as error:
        raise _database_error(error) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SnapshotError(
                "The snapshot cannot be written: the disk is full. Free some space; the last one stays.",
                code="disk-full",
            ) from None
        raise SnapshotError(
            f"The snapshot cannot be written ({error.strerror or 'I/O error'}). Check the target folder's "
            "permissions; the last one stays.",
            code="target-not-writable",
        ) from None


def _database_error(error: sqlite3.Error) -> SnapshotError:
    words = str(error)
    if "full" in words:
        return SnapshotError(
            "The snapshot cannot be written: the disk is full. Free some space; the last one stays.", code="disk-full"
        )
    if "locked" in words or "busy" in words:
        return SnapshotError(
            "The source is locked by another program. Close it or try again when it is at rest.", code="source-locked"
        )
    if "malformed" in words or "not a database" in words or "disk I/O" in words:
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
