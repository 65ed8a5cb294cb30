"""The read database: a snapshot that is kept up to date, so that publishing one costs copying a file.

``read.db`` holds the snapshot's tables and nothing else. ``lineage.db`` beside it holds what of CATALOG they
reflect, the digests of their chunks, and the history. Rows and history are written in one transaction of
SQLite, which after a crash is there in both files or in neither; the digests follow. Whatever cannot be trusted
(no history, another catalog, an older copy, a damaged file, rows that do not have their digests) is made again whole,
and begins a new lineage.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex

from sqlalchemy import Connection

from common.telemetry import get_logger
from exporter.adapters import lineage as history
from exporter.adapters.explained import explained, is_damage
from exporter.adapters.filling import WAIT_FOR_LOCK, count_covers, filled
from exporter.adapters.lineage import Lineage, Published
from exporter.adapters.pair import digest_of, sync
from exporter.adapters.source_file import uri
from exporter.errors import SnapshotError
from exporter.service.manifest import point_in_time
from exporter.service.read_model import READ_MODEL_VERSION, mend, prepare
from exporter.service.refresh import Refresh, backends
from exporter.service.source import Source, inspect
from mirror.errors import ContentError, MirrorError
from mirror.format.digest import ChunkIndex, Content, content_of

_FILES = ("", "-journal", "-wal", "-shm")
_CACHE_KIB = 64 * 1024
_COPY_AT_ONCE = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Reflected:
    """What the read database holds now. ``sequence`` is the last one of CATALOG in it."""

    content: Content
    cover_count: int
    lineage: str
    revision: int
    generated_at: str
    sequence: int | None
    told: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """What the rows were made from. ``catalog`` names the database, not its content.

    ``indexed`` is the revision that the digests of the chunks are of: the one before after a crash between rows
    and digests, which are then taken from what changed since.
    """

    catalog: str
    lineage: str
    revision: int
    indexed: int
    sequence: int | None
    backends: dict[int, tuple[str | None, ...]]


class ReadDatabase:
    """Owned by one exporter; ``update`` and ``copy`` are called by one thread at a time."""

    def __init__(self, *, folder: Path, catalog: Path) -> None:
        """``folder`` is on a local disk; ``catalog`` is the database of the projection, which is only read."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "read.db"
        self.lineage = Lineage(folder / "lineage.db")
        self._catalog = catalog
        self._checked = False

    def newest(self) -> tuple[str, int] | None:
        """The lineage and its newest revision; None where the next update begins a new one, as far as can be told."""
        with suppress(SnapshotError):
            return self.lineage.current(READ_MODEL_VERSION)
        return None

    def update(
        self,
        *,
        after: str | None = None,
        published: tuple[str, int] | None = None,
        rows_ready: Callable[[], object] | None = None,
    ) -> Reflected:
        """Take in what changed in the catalog. ``after`` is when the snapshot before was made.

        ``published``: its lineage and revision. A history that ends before it is an older copy that was put back;
        mirrors would take what follows for a step back, so a new lineage begins.
        ``rows_ready`` may be called as soon as the file can be copied; ``told`` then says whether it still is
        what was copied. Raises SnapshotError; what is there is then as it was, or is made again whole by the next call.
        """
        with explained():
            try:
                reflected = self._updated(after, published, rows_ready)
            except (sqlite3.DatabaseError, MirrorError) as error:
                if isinstance(error, sqlite3.Error) and not is_damage(error):
                    raise
                reflected = None
            if reflected is None:
                reflected = self._made_whole(after)
            self._checked = True
            return reflected

    def copy(self, target: Path) -> str:
        """Copy the database as it is after an update; return its digest, ``sha256:…``."""
        with ThreadPoolExecutor(1) as hasher:
            # The file is read for its digest while the copy goes to the disk.
            # No connection of ours is open: closing a file drops the locks that this process has on it.
            digest = hasher.submit(digest_of, self.path)
            _copy(self.path, target)
            return digest.result()

    def _updated(
        self, after: str | None, published: tuple[str, int] | None, rows_ready: Callable[[], object] | None
    ) -> Reflected | None:
        """Bring it up to date; None where it has to be made whole."""
        if not self.path.exists():
            return None
        with self._opened() as connection:
            connection.execute("ATTACH ? AS source", (uri(self._catalog),))
            # Before the first row is read: all that is read below is of one moment.
            connection.execute("BEGIN")
            state = _state(connection)
            if state is None or state.catalog != _identity(connection):
                return None
            if published is not None and published[0] == state.lineage and published[1] > state.revision:
                get_logger().warning(
                    "the history of snapshots is an older copy: it ends before the newest snapshot; a new one begins"
                )
                return None
            held = inspect(connection)
            if state.sequence is None or held.sequence is None or held.sequence < state.sequence:
                return None
            prepare(connection, held)
            changed = Refresh(connection, held).run(after=state.sequence, backends=state.backends)
            state = replace(state, sequence=held.sequence, backends=backends(connection))
            if any(changed.values()):
                state = replace(state, revision=state.revision + 1)
                history.record_changes(connection, "lineage", changed, revision=state.revision)
                connection.execute(f"PRAGMA main.user_version = {_header(state.revision)}")
            _save(connection, state)
            connection.execute("COMMIT")
            # The rows are final: the file can be copied while their digests are taken.
            told = self._checked and state.revision > state.indexed and rows_ready is not None
            if told and rows_ready is not None:
                rows_ready()
            connection.execute("BEGIN")
            index = ChunkIndex(connection, data="main", index="lineage")
            touched = history.changed_after(connection, "lineage", state.indexed)
            content = index.update(touched) if any(touched.values()) else index.content()
            if not self._checked and content_of(self.path) != content:
                return None
            return _committed(connection, state, content, after, told=told)

    def _made_whole(self, after: str | None) -> Reflected:
        self._forget()
        lineage = token_hex(16)
        with filled(self.path, uri(self._catalog)) as (connection, held):
            state = _State(
                catalog=_identity(connection) or "",
                lineage=lineage,
                revision=1,
                indexed=1,
                sequence=held.sequence if _tells_changes(connection, held) else None,
                backends=backends(connection),
            )
            connection.execute(f"PRAGMA main.application_id = {_header(int(lineage, 16))}")
            connection.execute(f"PRAGMA main.user_version = {_header(1)}")
        sync(self.path)
        sync(self.path.parent)
        with self._opened() as connection:
            connection.execute("BEGIN")
            index = ChunkIndex(connection, data="main", index="lineage")
            content: Content | None = None
            with suppress(ContentError):
                content = index.rebuild()
            if content is None:
                mend(connection)
                content = index.rebuild()
            return _committed(connection, state, content, after, told=False)

    def _forget(self) -> None:
        """Remove the rows, and before them what says that they can be trusted. What was published is remembered."""
        try:
            with closing(sqlite3.connect(self.lineage.path, isolation_level=None)) as connection:
                history.begin_anew(connection)
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            _remove(self.lineage.path)
        _remove(self.path)
        sync(self.path.parent)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """Both files in one connection; a transaction that was not committed is undone at the end."""
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=WAIT_FOR_LOCK)
        with closing(connection):
            connection.execute(f"PRAGMA main.cache_size = -{_CACHE_KIB}")
            # What is withdrawn must not travel on in the free space of the file.
            connection.execute("PRAGMA main.secure_delete = ON")
            connection.execute("ATTACH ? AS lineage", (str(self.lineage.path),))
            history.prepare(connection, "lineage")
            yield connection


def _committed(
    connection: sqlite3.Connection, state: _State, content: Content, after: str | None, *, told: bool
) -> Reflected:
    """Write the state with the digests."""
    published = history.found(connection, "lineage", content.snapshot_id)
    if published is None or (published.lineage, published.revision) != (state.lineage, state.revision):
        published = Published(
            snapshot_id=content.snapshot_id,
            lineage=state.lineage,
            revision=state.revision,
            generated_at=point_in_time(datetime.now(UTC), after=after),
        )
        history.record_published(connection, "lineage", published)
    _save(connection, replace(state, indexed=state.revision))
    covers = count_covers(connection)
    connection.execute("COMMIT")
    return Reflected(
        content=content,
        cover_count=covers,
        lineage=state.lineage,
        revision=state.revision,
        generated_at=published.generated_at,
        sequence=state.sequence,
        told=told,
    )


def _save(connection: sqlite3.Connection, state: _State) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO lineage.state (id, version, catalog, lineage, revision, indexed, sequence, backends)"
        " VALUES (1, ?, ?, ?, ?, ?, ?, ?)",
        (
            READ_MODEL_VERSION,
            state.catalog,
            state.lineage,
            state.revision,
            state.indexed,
            state.sequence,
            json.dumps(list(state.backends.items())),
        ),
    )


def _state(connection: sqlite3.Connection) -> _State | None:
    """The state, if it is of these very rows and of this program's way to make them."""
    row = connection.execute(
        "SELECT version, catalog, lineage, revision, indexed, sequence, backends FROM lineage.state"
    ).fetchone()
    if row is None or row[0] != READ_MODEL_VERSION:
        return None
    _, catalog, lineage, revision, indexed, sequence, known = row
    marks = [connection.execute(f"PRAGMA main.{name}").fetchone()[0] for name in ("application_id", "user_version")]
    try:
        if marks != [_header(int(lineage, 16)), _header(revision)]:
            return None
        of_files = {id: tuple(rest) for id, rest in json.loads(known)}
    except (TypeError, ValueError):
        return None
    return _State(
        catalog=catalog, lineage=lineage, revision=revision, indexed=indexed, sequence=sequence, backends=of_files
    )


def _identity(connection: sqlite3.Connection) -> str | None:
    """Which catalog database is attached, and of which stream it is a projection."""
    if not connection.execute("PRAGMA source.table_info(catalog_identity)").fetchall():
        return None
    row = connection.execute(
        "SELECT token, (SELECT stream_created FROM source.projection_state) FROM source.catalog_identity"
    ).fetchone()
    return f"{row[0]} {row[1]}" if row else None


def name_catalog(connection: Connection) -> None:
    """Give a catalog database a name of its own, once, so that another in its place is noticed."""
    connection.exec_driver_sql(
        "CREATE TABLE IF NOT EXISTS catalog_identity (id INTEGER PRIMARY KEY CHECK (id = 1), token TEXT NOT NULL)"
    )
    connection.exec_driver_sql("INSERT OR IGNORE INTO catalog_identity VALUES (1, ?)", (token_hex(16),))


def _tells_changes(connection: sqlite3.Connection, held: Source) -> bool:
    return held.sequence is not None and bool(
        connection.execute("PRAGMA source.table_info(catalog_changes)").fetchall()
    )


def _header(number: int) -> int:
    """As a field of the file's header can hold it: the two files are told from those of another time."""
    return number & 0x7FFFFFFF


def _remove(database: Path) -> None:
    # The file first: without its journal it may hold half a change, and SQLite takes a journal alone for no one's.
    for suffix in _FILES:
        database.with_name(database.name + suffix).unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    """Within the kernel, and by reference where the file system can; on the disk when this returns."""
    try:
        with source.open("rb") as reader, target.open("wb") as writer:
            while os.copy_file_range(reader.fileno(), writer.fileno(), _COPY_AT_ONCE):
                pass
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        shutil.copyfile(source, target)
    sync(target)
