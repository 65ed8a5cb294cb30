"""The history of the snapshots: which there were, and what has changed since each.

A lineage begins when the read database is made whole and lasts until that has to be done again. For each
group of rows it keeps the revision in which it last changed, also where nothing is left of it. The read
database and this one are written in one transaction of SQLite over both files.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from exporter.adapters.explained import explained
from exporter.service.refresh import Changed
from mirror.format.schema import TABLES, Key

_TABLES = tuple(sorted(TABLES))
_SCHEMA = """
CREATE TABLE IF NOT EXISTS {schema}.state (
    id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL, catalog TEXT NOT NULL, lineage TEXT NOT NULL,
    revision INTEGER NOT NULL, indexed INTEGER NOT NULL, sequence INTEGER, backends TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS {schema}.changes (
    place INTEGER NOT NULL, key NOT NULL, revision INTEGER NOT NULL, PRIMARY KEY (place, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS {schema}.published (
    snapshot_id TEXT PRIMARY KEY, lineage TEXT NOT NULL, revision INTEGER NOT NULL, generated_at TEXT NOT NULL
) WITHOUT ROWID;
"""
_WAIT_FOR_LOCK = 30.0
_AT_ONCE = 10_000
_REMEMBERED = 100_000
"""Snapshots that are remembered: two months of one a minute, a few megabytes."""


@dataclass(frozen=True, slots=True)
class Published:
    """A snapshot that there was. ``generated_at`` as in its manifest."""

    snapshot_id: str
    lineage: str
    revision: int
    generated_at: str


class Lineage:
    """Reads the history; may be used by several threads while the exporter writes it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def current(self, version: int | None = None) -> tuple[str, int] | None:
        """The lineage now and its newest revision; None where there is none (of this version of the read model)."""
        with self._open() as connection:
            if connection is None:
                return None
            row = connection.execute(
                "SELECT lineage, revision FROM state WHERE ?1 IS NULL OR version = ?1", (version,)
            ).fetchone()
            return (str(row[0]), int(row[1])) if row else None

    def find(self, snapshot_id: str) -> Published | None:
        """A snapshot that was made here, also when its files are long gone."""
        with self._open() as connection:
            return None if connection is None else found(connection, "main", snapshot_id)

    def changes(self, *, after: int) -> Iterator[tuple[str, Key]]:
        """The groups that changed after a revision of the current lineage, in the order of tables and keys.

        Read piece by piece, so that no export has to wait: one that is made meanwhile may add some.
        """
        place, key = -1, None
        while True:
            with self._open() as connection:
                if connection is None:
                    return
                found = connection.execute(
                    "SELECT place, key FROM changes WHERE revision > ? AND (place, key) > (?, ?)"
                    " ORDER BY place, key LIMIT ?",
                    (after, place, key, _AT_ONCE),
                ).fetchall()
            for place, key in found:
                yield _TABLES[place], key
            if len(found) < _AT_ONCE:
                return

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection | None]:
        if not self.path.exists():
            yield None
            return
        with explained(), closing(sqlite3.connect(self.path, timeout=_WAIT_FOR_LOCK)) as connection:
            known = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'published'").fetchone()[0]
            yield connection if known else None


def prepare(connection: sqlite3.Connection, schema: str) -> None:
    """Make the tables where they are missing."""
    for statement in _SCHEMA.format(schema=schema).split(";\n"):
        if statement.strip():
            connection.execute(statement)


def begin_anew(connection: sqlite3.Connection) -> None:
    """Forget the rows that there were, and remember what was published. The connection is to the history alone."""
    prepare(connection, "main")
    connection.execute("BEGIN")
    connection.execute("DELETE FROM state")
    connection.execute("DELETE FROM changes")
    connection.execute("DROP TABLE IF EXISTS catalog_chunks")
    connection.execute("COMMIT")


def found(connection: sqlite3.Connection, schema: str, snapshot_id: str) -> Published | None:
    """A snapshot that was made here."""
    row = connection.execute(
        f"SELECT snapshot_id, lineage, revision, generated_at FROM {schema}.published WHERE snapshot_id = ?",  # noqa: S608
        (snapshot_id,),
    ).fetchone()
    return Published(*row) if row else None


def record_changes(connection: sqlite3.Connection, schema: str, changed: Changed, *, revision: int) -> None:
    """Note the revision of every group that changed."""
    for place, table in enumerate(_TABLES):
        connection.executemany(
            f"INSERT INTO {schema}.changes VALUES (?, ?, ?)"  # noqa: S608
            " ON CONFLICT (place, key) DO UPDATE SET revision = excluded.revision",
            ((place, key, revision) for key in sorted(changed[table])),
        )


def changed_after(connection: sqlite3.Connection, schema: str, revision: int) -> Changed:
    """The groups that changed after a revision."""
    changed: Changed = {table: set() for table in _TABLES}
    for place, key in connection.execute(f"SELECT place, key FROM {schema}.changes WHERE revision > ?", (revision,)):  # noqa: S608
        changed[_TABLES[place]].add(key)
    return changed


def record_published(connection: sqlite3.Connection, schema: str, one: Published) -> None:
    """Note a snapshot; the oldest are forgotten when there are very many."""
    connection.execute(
        f"INSERT OR REPLACE INTO {schema}.published VALUES (?, ?, ?, ?)",  # noqa: S608
        (one.snapshot_id, one.lineage, one.revision, one.generated_at),
    )
    connection.execute(
        f"DELETE FROM {schema}.published WHERE snapshot_id IN (SELECT snapshot_id FROM {schema}.published"  # noqa: S608
        f" ORDER BY generated_at DESC LIMIT -1 OFFSET {_REMEMBERED})"
    )
