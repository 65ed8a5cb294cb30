"""Loading a new catalog from the whole stream: all facts first, then all rows, each table written from end to end.

Keys are hashes, so that facts arrive all over the tables: written one batch after the other, each page
of a large catalog is read and written many times. Here facts are put aside in the order of arrival, in
a database that a crash may destroy; then one transaction moves them in the order of their keys and
derives every row once. Until it is committed, the catalog is as empty as it was.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from sqlalchemy import Index, Table

from common.catalog import tables as catalog
from exporter.service import derive, problems
from exporter.service import fact_tables as facts
from exporter.service.decoding import TABLES
from exporter.service.projection import Batch, Projection

SCHEMA = "load"
"""The name that the database beside is attached under."""

Tell = Callable[[str, int, int], None]
"""Is told of progress: the step, how much of it is done, of how much."""

_FACTS_OF_A_RUN = 32_000
_BYTES_OF_A_RUN = 64_000_000
"""Facts are sorted in memory this many at a time; reading them in the order of keys then merges such runs."""


class Load:
    """One load. The database beside is attached already, and is empty; it is of no use afterwards."""

    def __init__(self, projection: Projection) -> None:
        self._projection = projection
        self._connection = projection.connection
        self._run: dict[Table, list[facts.Row]] = defaultdict(list)
        self._facts = 0
        self._bytes = 0
        self._counts: dict[Table, int] = defaultdict(int)
        self._playlists = 0
        self._tables = tuple(TABLES.values())
        self.sequence = 0
        """The last sequence that was read."""
        self._content = 0
        with projection.transaction():
            # Of a load that came to nothing.
            self._connection.exec_driver_sql("DELETE FROM projection_problems")
            for table in self._tables:
                columns = ", ".join(column.name for column in table.c)
                self._connection.exec_driver_sql(f"CREATE TABLE {SCHEMA}.{table.name} ({columns})")

    @property
    def count(self) -> int:
        """How many facts were put aside."""
        return sum(self._counts.values())

    def add(self, batch: Batch) -> None:
        """Put the facts of a batch aside; what could not be read of it is reported."""
        self._projection.note(batch)
        for table, rows in batch.rows.items():
            self._run[table] += rows
            self._facts += len(rows)
            self._counts[table] += len(rows)
        self._playlists += sum(1 for row in batch.rows.get(facts.playlist_pages, ()) if not row[2])
        self._bytes += batch.size
        self.sequence = batch.last
        self._content = max(self._content, batch.content)
        if self._facts >= _FACTS_OF_A_RUN or self._bytes >= _BYTES_OF_A_RUN:
            self._put_aside()

    def finish(self, tell: Tell) -> None:
        """Make the catalog of what was put aside: all of it, or nothing."""
        self._put_aside()
        with self._projection.transaction():
            self._finish(tell)

    def _put_aside(self) -> None:
        with self._projection.transaction():
            for table, rows in self._run.items():
                rows.sort()
                facts.write(self._connection, f"INSERT INTO {SCHEMA}.{table.name} {facts.values(table)}", table, rows)
        self._run.clear()
        self._facts = self._bytes = 0

    def _finish(self, tell: Tell) -> None:
        connection = self._connection
        indexes = _indexes()
        for index in indexes:
            index.drop(connection, checkfirst=True)
        done, whole = 0, self.count
        for table in self._tables:
            tell("facts", done, whole)
            self._move(table)
            done += self._counts[table]
        derive.backends(connection, library_root=self._projection.library_root, sequence=self.sequence)
        for done in derive.all_songs(connection, sequence=self.sequence):
            tell("songs", done, self._counts[facts.songs_listed])
        for done in derive.all_playlists(connection, sequence=self.sequence):
            tell("playlists", done, self._playlists)
        pools = connection.exec_driver_sql("SELECT pool_id FROM fact_pools").scalars()
        derive.pools(connection, list(pools), sequence=self.sequence)
        for number, index in enumerate(indexes):
            tell("indexes", number, len(indexes))
            index.create(connection)
        self._projection.moved(self.sequence, self._content)
        tell("disk", 0, 1)

    def _move(self, table: Table) -> None:
        """Take the facts of one table over in the order of their keys; of one key, in the order of arrival."""
        run = self._connection.exec_driver_sql
        name = f"{SCHEMA}.{table.name}"
        key = ", ".join([*(column.name for column in table.primary_key), "sequence"])
        run(f"CREATE INDEX {SCHEMA}.ix_{table.name} ON {table.name} ({key})")
        columns = ", ".join(column.name for column in table.c)
        # By the index, not by sorting: whole facts are more than fits into memory.
        source = f"SELECT {columns} FROM {name} INDEXED BY ix_{table.name} WHERE true ORDER BY {key}"  # noqa: S608
        if run(facts.upsert(table, source=source)).rowcount < self._counts[table]:
            problems.record_collisions_of(self._connection, table, source=name)


def _indexes() -> list[Index]:
    """What is faster made at the end: the indexes that no row of the load is looked up by."""
    found = {index for table in catalog.metadata.tables.values() for index in table.indexes}
    return sorted(found, key=lambda index: str(index.name))
