"""The projection: batches of facts in, rows of the catalog out, with the sequence in one transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Connection, Table

from common.catalog import tables as catalog
from common.contracts.envelope import UndecodableMessage
from common.contracts.facts import (
    BackendDefined,
    Fact,
    FileStored,
    PlaylistCollected,
    PoolDefined,
    SongDescribed,
    SongListed,
    SongPinned,
)
from exporter.service import derive, problems
from exporter.service import fact_tables as facts
from exporter.service.decoding import IGNORED, TABLES, UNREADABLE, Row, Unreadable, fact_row, read_fact
from exporter.service.functions import register


class StoredMessage(Protocol):
    """A message of CATALOG, as the bus hands it over."""

    @property
    def subject(self) -> str: ...
    @property
    def sequence(self) -> int: ...
    @property
    def data(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Position:
    """Where the rows stand. ``content_sequence`` is the last one that may have changed a row."""

    sequence: int
    content_sequence: int
    stream_created: datetime | None


@dataclass
class Batch:
    """Facts that were read, by table, and the keys that they touch."""

    first: int = 0
    last: int = 0
    content: int = 0
    rows: dict[Table, list[Row]] = field(default_factory=lambda: defaultdict(list))
    subjects: dict[Table, list[str]] = field(default_factory=lambda: defaultdict(list))
    unreadable: list[Unreadable] = field(default_factory=list)
    songs: set[int] = field(default_factory=set)
    playlists: set[int] = field(default_factory=set)
    pools: set[int] = field(default_factory=set)
    backends: bool = False

    def add(self, fact: Fact, row: Row, sequence: int) -> None:
        """Take one fact in."""
        table = TABLES[type(fact)]
        self.rows[table].append(row)
        self.subjects[table].append(fact.subject)
        self.content = sequence
        match fact:
            case SongListed() | SongDescribed() | SongPinned():
                self.songs.add(fact.song_id)
            case FileStored():
                self.songs.add(fact.song_id)
                self.backends = True
            case PlaylistCollected():
                self.playlists.add(fact.playlist_id)
            case PoolDefined():
                self.pools.add(fact.pool_id)
            case BackendDefined():
                self.backends = True


def read_batch(messages: Iterable[StoredMessage]) -> Batch:
    """Decode messages; what cannot be decoded is set aside with its reason."""
    batch = Batch()
    for message in messages:
        batch.first = batch.first or message.sequence
        batch.last = message.sequence
        try:
            fact = read_fact(message.subject, message.data)
            if isinstance(fact, IGNORED):
                continue
            batch.add(fact, fact_row(fact, message.sequence), message.sequence)
        except UndecodableMessage as error:
            batch.unreadable.append(Unreadable(message.subject, message.sequence, message.data, str(error)))
    return batch


class Projection:
    """The catalog database as its one writer sees it. Not for use by two threads at once.

    ``library_root`` becomes the base path of the backend ``library``: it stays in this database.
    """

    def __init__(self, connection: Connection, *, library_root: str = "") -> None:
        self._connection = connection
        self._library_root = library_root
        register(connection)
        catalog.metadata.create_all(connection)
        facts.ensure(connection)
        derive.prepare(connection)
        self._upserts = {table: facts.upsert(table) for table in TABLES.values()}
        self._begin()
        derive.backends(connection, library_root=library_root)
        connection.exec_driver_sql("COMMIT")
        self._problems = problems.count(connection)

    @property
    def problems(self) -> int:
        """How many facts are kept out of the rows."""
        return self._problems

    def position(self) -> Position:
        """Where the rows stand; all zero in a new database."""
        row = self._connection.execute(facts.state.select()).one_or_none()
        if row is None:
            return Position(0, 0, None)
        created = datetime.fromisoformat(row.stream_created) if row.stream_created else None
        return Position(row.sequence, row.content_sequence, created)

    def adopt_stream(self, created: datetime | None) -> None:
        """Remember which stream the rows come from. Only for a stream that was found to be the right one."""
        position = self.position()
        self._begin()
        try:
            self._save(position.sequence, position.content_sequence, created)
            self._connection.exec_driver_sql("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def apply(self, batch: Batch) -> None:
        """Write one batch: facts, rows, problems and sequence together, or nothing of it."""
        self._begin()
        try:
            self._write(batch)
            self._connection.exec_driver_sql("COMMIT")
        except BaseException:
            self._roll_back()
            self._problems = problems.count(self._connection)
            raise

    def _write(self, batch: Batch) -> None:
        connection = self._connection
        if self._problems:
            problems.clear(connection, [subject for subjects in batch.subjects.values() for subject in subjects])
        for table, rows in batch.rows.items():
            written = connection.exec_driver_sql(self._upserts[table], rows).rowcount
            if written < len(rows):
                problems.record_collisions(connection, table, rows, batch.subjects[table])
        for unreadable in batch.unreadable:
            problems.record(
                connection,
                subject=unreadable.subject,
                code=UNREADABLE,
                message=unreadable.reason,
                sequence=unreadable.sequence,
            )
        if batch.backends:
            derive.backends(connection, library_root=self._library_root)
        if batch.songs:
            derive.songs(connection, batch.songs, kept_out=bool(self._problems))
        if batch.playlists:
            derive.playlists(connection, batch.playlists, kept_out=bool(self._problems))
        if batch.pools:
            derive.pools(connection, batch.pools)
        position = self.position()
        self._save(batch.last, max(position.content_sequence, batch.content), position.stream_created)
        self._problems = problems.count(connection)

    def _begin(self) -> None:
        self._connection.exec_driver_sql("BEGIN IMMEDIATE")

    def _roll_back(self) -> None:
        # On a full disk SQLite has rolled back already.
        raw: Any = self._connection.connection.driver_connection
        if raw.in_transaction:
            self._connection.exec_driver_sql("ROLLBACK")

    def _save(self, sequence: int, content_sequence: int, created: datetime | None) -> None:
        self._connection.exec_driver_sql(
            "INSERT OR REPLACE INTO projection_state (id, schema_version, sequence, content_sequence, stream_created)"
            " VALUES (1, ?, ?, ?, ?)",
            (facts.SCHEMA_VERSION, sequence, content_sequence, created.isoformat() if created else None),
        )
