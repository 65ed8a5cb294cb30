"""The older system's database: a copy of it is read, with whatever its tables and columns hold."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.catalog.tables import NEEDED_COLUMNS, NEWER_TABLES, metadata
from common.errors import ConfigurationError

_MAX_ID = 2**53 - 1
_INDEXES = {
    "file_assets": "id",
    "file_locations": "file_asset_id",
    "storage_backends": "id",
    "playlist_songs": "playlist_id",
    "pool_playlists": "pool_id",
}
_OUR_TABLES = """
CREATE TABLE adopt_songs (
    id INTEGER PRIMARY KEY, kept INTEGER NOT NULL, platform TEXT NOT NULL, remote_id TEXT NOT NULL
);
CREATE INDEX adopt_songs_key ON adopt_songs (platform, remote_id);
CREATE TABLE adopt_playlists (
    id INTEGER PRIMARY KEY, kept INTEGER NOT NULL, platform TEXT NOT NULL, remote_id TEXT NOT NULL
);
CREATE INDEX adopt_playlists_key ON adopt_playlists (platform, remote_id);
CREATE TABLE adopt_files (
    locator TEXT PRIMARY KEY, folded TEXT NOT NULL, size INTEGER NOT NULL, plain INTEGER NOT NULL,
    named INTEGER NOT NULL DEFAULT 0, taken INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX adopt_files_folded ON adopt_files (folded);
"""


def open_copy(database: Path, work: Path) -> Older:
    """Copy the database, with its write-ahead log if it has one, to ``work``, and open the copy.

    The original is only read. Raises ConfigurationError when it is not there or not a catalog.
    """
    discard(work)
    try:
        if not database.is_file():
            raise ConfigurationError(f"{database} is not a file. Give the older system's catalogsync.db with --db.")
        shutil.copyfile(database, work)
        for suffix in ("-wal", "-journal"):
            beside = database.with_name(database.name + suffix)
            if beside.is_file():
                shutil.copyfile(beside, work.with_name(work.name + suffix))
    except PermissionError:
        raise ConfigurationError(
            f"{database} may not be read by this user. Allow it, or run this as its owner."
        ) from None
    connection = sqlite3.connect(work, isolation_level=None)
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        older = Older(connection)
        older.prepare()
    except sqlite3.DatabaseError as error:
        connection.close()
        raise ConfigurationError(
            f"{database} cannot be read as a database ({error}). Stop the older system, or give a good copy of it."
        ) from None
    except BaseException:
        connection.close()
        raise
    return older


def discard(work: Path) -> None:
    """Remove the copy."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        work.with_name(work.name + suffix).unlink(missing_ok=True)


class Older:
    """The copy, with tables of ours beside the older ones."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._columns: dict[str, frozenset[str]] = {}

    def prepare(self) -> None:
        """Look at the tables, and make ours. Raises ConfigurationError when it is not a catalog."""
        for name in metadata.tables:
            found = frozenset(str(row[1]) for row in self.connection.execute(f"PRAGMA table_info({name})"))
            if not found and name in NEWER_TABLES:
                continue
            lacking = [column for column in NEEDED_COLUMNS[name] if column not in found]
            if lacking and name in NEWER_TABLES:
                continue
            if lacking:
                raise ConfigurationError(
                    f"This database is not the older system's: its table {name} has no {', '.join(lacking)}. "
                    "Give catalogsync.db with --db."
                )
            self._columns[name] = found
        for table, column in _INDEXES.items():
            if self.has(table):
                self.connection.execute(f"CREATE INDEX adopt_ix_{table} ON {table} ({column})")
        self.connection.executescript(_OUR_TABLES)

    def close(self) -> None:
        self.connection.close()

    def has(self, table: str) -> bool:
        """Whether the table is there."""
        return table in self._columns

    def count(self, table: str) -> int:
        """Rows of a table; 0 where it is missing."""
        if not self.has(table):
            return 0
        return int(self.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608

    def column(self, table: str, name: str, alias: str) -> str:
        """The column as SQL, or NULL where this database lacks it."""
        return f'{alias}."{name}"' if name in self._columns.get(table, frozenset()) else "NULL"

    def rows(self, table: str, *, order: str = "id") -> Iterator[dict[str, Any]]:
        """All rows of a table with the columns that we know, each as it is."""
        if not self.has(table):
            return
        names = [column.name for column in metadata.tables[table].columns]
        columns = ", ".join(self.column(table, name, "t") for name in names)
        for row in self.connection.execute(f"SELECT {columns} FROM {table} t ORDER BY t.{order}"):  # noqa: S608
            yield dict(zip(names, row, strict=True))

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction on our tables."""
        self.connection.execute("BEGIN")
        try:
            yield self.connection
        finally:
            self.connection.execute("COMMIT")


def whole(value: object) -> int | None:
    """The value as a whole number, also where it was written as text; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    text_value = text(value).strip()
    digits = text_value.removeprefix("-")
    return int(text_value) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None


def identifier(value: object) -> int | None:
    """An id that can be carried: a whole number that JavaScript holds."""
    number = whole(value)
    return number if number is not None and 0 <= number <= _MAX_ID else None


def natural(value: object) -> int | None:
    """A count or a size; None where it is none."""
    number = whole(value)
    return number if number is not None and 0 <= number < 2**63 else None


def text(value: object) -> str:
    """The value as text that UTF-8 can hold; empty for nothing."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value).encode("utf-8", "replace").decode()


def content(value: object) -> dict[str, Any] | None:
    """The object in a column of JSON; empty for nothing, None where it cannot be read."""
    if value is None or not text(value).strip():
        return {}
    try:
        found = json.loads(text(value))
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
