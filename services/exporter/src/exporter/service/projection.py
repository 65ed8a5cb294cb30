"""The projection: batches of facts in, rows of the catalog out, with the sequence in one transaction."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Connection, Table

from common.catalog import tables as catalog
from common.contracts.envelope import UndecodableMessage
from common.contracts.facts import Fact
from exporter.service import derive, problems
from exporter.service import fact_tables as facts
from exporter.service.decoding import IGNORED, TABLES, UNREADABLE, Unreadable, fact_row, read_fact
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
    """Facts that were read, by table, and the keys that they touch. ``count``: messages; ``size``: their bytes.

    ``mended`` are the subjects that could not be read first, and could later.
    """

    first: int = 0
    last: int = 0
    content: int = 0
    rows: dict[Table, list[facts.Row]] = field(default_factory=lambda: defaultdict(list))
    subjects: list[str] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    mended: set[str] = field(default_factory=set)
    count: int = 0
    size: int = 0
    songs: set[int] = field(default_factory=set)
    playlists: set[int] = field(default_factory=set)
    pools: set[int] = field(default_factory=set)
    backends: bool = False

    def add(self, message: StoredMessage, fact: Fact) -> None:
        """Take one fact in. Raises UndecodableMessage where a value cannot be stored."""
        row = fact_row(fact, message.sequence)
        table = TABLES[type(fact)]
        self.rows[table].append(row)
        self.subjects.append(message.subject)
        self.content = message.sequence
        if self.unreadable:
            self.mended.add(message.subject)

    def packed(self) -> tuple[Any, ...]:
        """All of it in plain values, for another process."""
        values = {name: getattr(self, name) for name in _PLAIN}
        rows = {str(table.name): rows for table, rows in self.rows.items()}
        return values, rows, [dataclasses.astuple(unreadable) for unreadable in self.unreadable]

    @classmethod
    def unpacked(cls, packed: tuple[Any, ...]) -> Batch:
        """What was packed."""
        values, rows, unreadable = packed
        batch = cls(**values, unreadable=[Unreadable(*one) for one in unreadable])
        batch.rows.update((facts.metadata.tables[name], some) for name, some in rows.items())
        return batch

    def touch(self) -> None:
        """Work out which keys the facts touch."""
        for table, key in _SONG_KEYS.items():
            self.songs.update(row[key] for row in self.rows.get(table, ()))
        self.playlists.update(row[0] for row in self.rows.get(facts.playlist_pages, ()))
        self.pools.update(row[0] for row in self.rows.get(facts.pools, ()))
        self.backends = bool(self.rows.get(facts.files) or self.rows.get(facts.backends))


_PLAIN = tuple(one.name for one in dataclasses.fields(Batch) if one.name not in {"rows", "unreadable"})
_SONG_KEYS = {facts.songs_listed: 0, facts.songs_described: 0, facts.songs_pinned: 0, facts.files: 1}
"""Where the song's id stands in the rows of each table."""


def read_batch(messages: Iterable[StoredMessage]) -> Batch:
    """Decode messages; what cannot be decoded is set aside with its reason."""
    batch = Batch()
    for message in messages:
        batch.first = batch.first or message.sequence
        batch.last = message.sequence
        batch.count += 1
        batch.size += len(message.data)
        try:
            fact = read_fact(message.subject, message.data)
            # Not by isinstance, which asks the models' metaclass: that costs more than the rest of this loop.
            if type(fact) not in IGNORED:
                batch.add(message, fact)
        except UndecodableMessage as error:
            batch.mended.discard(message.subject)
            batch.unreadable.append(Unreadable(message.subject, message.sequence, message.data, str(error)))
    batch.touch()
    return batch


class Projection:
    """The catalog database as its one writer sees it. Not for use by two threads at once.

    ``library_root`` becomes the base path of the backend ``library``: it stays in this database.
    """

    def __init__(self, connection: Connection, *, library_root: str = "") -> None:
        self.connection = connection
        self.library_root = library_root
        register(connection)
        catalog.metadata.create_all(connection)
        facts.ensure(connection)
        derive.prepare(connection)
        self._upserts = {table: facts.upsert(table) for table in TABLES.values()}
        self._problems = 0
        with self.transaction():
            derive.backends(connection, library_root=library_root, sequence=self.position().sequence)

    @property
    def problems(self) -> int:
        """How many facts are kept out of the rows."""
        return self._problems

    def position(self) -> Position:
        """Where the rows stand; all zero in a new database."""
        row = self.connection.execute(facts.state.select()).one_or_none()
        if row is None:
            return Position(0, 0, None)
        created = datetime.fromisoformat(row.stream_created) if row.stream_created else None
        return Position(row.sequence, row.content_sequence, created)

    def adopt_stream(self, created: datetime | None) -> None:
        """Remember which stream the rows come from. Only for a stream that was found to be the right one."""
        position = self.position()
        with self.transaction():
            self._save(position.sequence, position.content_sequence, created)

    def apply(self, batch: Batch) -> None:
        """Write one batch: facts, rows, problems and sequence together, or nothing of it."""
        with self.transaction():
            self._write(batch)

    def note(self, batch: Batch) -> None:
        """Write only what is known of facts that cannot be read."""
        if self._problems or batch.unreadable:
            with self.transaction():
                self._note(batch)

    def moved(self, sequence: int, content_sequence: int) -> None:
        """Say in the current transaction what the rows have reached."""
        self._save(sequence, content_sequence, self.position().stream_created)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """What is written within is written together, or nothing of it."""
        self._begin()
        try:
            yield
            self.connection.exec_driver_sql("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._problems = problems.count(self.connection)

    def _note(self, batch: Batch) -> None:
        if self._problems:
            problems.clear(self.connection, batch.subjects)
        for unreadable in batch.unreadable:
            if unreadable.subject not in batch.mended:
                problems.record(
                    self.connection,
                    subject=unreadable.subject,
                    code=UNREADABLE,
                    message=unreadable.reason,
                    sequence=unreadable.sequence,
                )

    def _write(self, batch: Batch) -> None:
        connection = self.connection
        self._note(batch)
        for table, rows in batch.rows.items():
            if facts.write(connection, self._upserts[table], table, rows) < len(rows):
                problems.record_collisions(connection, table, rows)
        if batch.backends:
            derive.backends(connection, library_root=self.library_root, sequence=batch.last)
        if batch.songs:
            derive.songs(connection, batch.songs, kept_out=bool(self._problems), sequence=batch.last)
        if batch.playlists:
            derive.playlists(connection, batch.playlists, kept_out=bool(self._problems), sequence=batch.last)
        if batch.pools:
            derive.pools(connection, batch.pools, sequence=batch.last)
        self.moved(batch.last, max(self.position().content_sequence, batch.content))

    def _begin(self) -> None:
        self.connection.exec_driver_sql("BEGIN IMMEDIATE")

    def _roll_back(self) -> None:
        # On a full disk SQLite has rolled back already.
        raw: Any = self.connection.connection.driver_connection
        if raw.in_transaction:
            self.connection.exec_driver_sql("ROLLBACK")

    def _save(self, sequence: int, content_sequence: int, created: datetime | None) -> None:
        self.connection.exec_driver_sql(
            "INSERT OR REPLACE INTO projection_state (id, schema_version, sequence, content_sequence, stream_created)"
            " VALUES (1, ?, ?, ?, ?)",
            (facts.SCHEMA_VERSION, sequence, content_sequence, created.isoformat() if created else None),
        )
