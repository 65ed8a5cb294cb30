"""What a catalog database holds, ours or one of the older system, which may lack tables and columns."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from common.catalog.tables import NEEDED_COLUMNS, NEWER_TABLES, metadata
from exporter.errors import SnapshotError

NOT_A_CATALOG = "source-not-a-catalog"


@dataclass(frozen=True)
class Source:
    """The tables of the database attached as ``source``, with the columns that each has."""

    columns: dict[str, frozenset[str]]
    sequence: int | None
    keeps_pool_facts: bool = False
    """Whether the facts are there from which the pools come, as they are in a catalog of ours."""

    def has(self, table: str) -> bool:
        """Whether the table is there."""
        return table in self.columns

    @property
    def has_files(self) -> bool:
        """Whether there can be files of songs."""
        return self.has("file_assets") and self.has("file_locations") and self.has("storage_backends")

    def column(self, table: str, name: str, alias: str) -> str:
        """The column as SQL, or NULL where this database lacks it."""
        return f'{alias}."{name}"' if name in self.columns.get(table, frozenset()) else "NULL"


def inspect(connection: sqlite3.Connection) -> Source:
    """Look at the attached database. Raises SnapshotError when it is not a catalog."""
    columns: dict[str, frozenset[str]] = {}
    for name in metadata.tables:
        found = frozenset(str(row[1]) for row in connection.execute(f"PRAGMA source.table_info({name})"))
        if not found:
            if name in NEWER_TABLES:
                continue
            raise SnapshotError(
                f"This database is not a catalog: it has no table {name}. Give the path of a catalog.db, "
                "or of a catalogsync.db of the older system.",
                code=NOT_A_CATALOG,
            )
        lacking = [column for column in NEEDED_COLUMNS[name] if column not in found]
        if lacking:
            raise SnapshotError(
                f"This database is not a catalog that we know: its table {name} has no column {', '.join(lacking)}.",
                code=NOT_A_CATALOG,
            )
        columns[name] = found
    facts = {str(row[1]) for row in connection.execute("PRAGMA source.table_info(fact_pools)")}
    return Source(
        columns=columns,
        sequence=_sequence(connection),
        keeps_pool_facts={"pool_id", "playlist_ids", "removed"} <= facts,
    )


def _sequence(connection: sqlite3.Connection) -> int | None:
    """The last sequence of CATALOG in the rows; None in a database that is no projection."""
    if not connection.execute("PRAGMA source.table_info(projection_state)").fetchall():
        return None
    row = connection.execute("SELECT sequence FROM source.projection_state").fetchone()
    return int(row[0]) if row else None
