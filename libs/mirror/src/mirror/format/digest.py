"""The digest of a snapshot's content: the same for the same rows, however and wherever the file was made."""

from __future__ import annotations

import hashlib
import sqlite3
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirror.format.chunks import Chunk, Span, TableDigest, combine, read_chunks
from mirror.format.helper import read_by_two
from mirror.format.schema import SCHEMA_VERSION, TABLES, Key, TableSpec

__all__ = ["ChunkIndex", "Content", "TableDigest", "content_of"]

WORTH_A_HELPER = 64 * 1024 * 1024
"""Bytes of a file from which on a second process reads half of it: below, starting one takes longer."""
_LINES_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Content:
    """What a snapshot holds, by table."""

    tables: dict[str, TableDigest]

    @property
    def snapshot_id(self) -> str:
        """The id that follows from the content of all tables."""
        lines = [f"music-cloud-catalog {SCHEMA_VERSION}\n"]
        lines += [f"{name} {self.tables[name].rows} {self.tables[name].digest}\n" for name in sorted(self.tables)]
        return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def content_of(source: str | Path | sqlite3.Connection) -> Content:
    """Read a whole snapshot once, with bounded memory. Raises ContentError on what is not one.

    A large file is read by two processes. A connection sees its own uncommitted changes, and reads alone.
    """
    if isinstance(source, sqlite3.Connection):
        return Content({name: combine(read_chunks(source, table)) for name, table in TABLES.items()})
    path = Path(source).absolute()
    with closing(sqlite3.connect(path.as_uri() + "?mode=ro", uri=True)) as connection:
        if path.stat().st_size < WORTH_A_HELPER:
            return content_of(connection)
        return Content(read_by_two(path, connection))


class ChunkIndex:
    """The chunk digests of the tables in schema ``data``, kept in ``catalog_chunks`` of schema ``index``.

    The caller owns the transaction.
    """

    def __init__(self, connection: sqlite3.Connection, *, data: str = "main", index: str = "main") -> None:
        self._connection = connection
        self._data = data
        self._chunks = f'"{index}"."catalog_chunks"'

    def rebuild(self) -> Content:
        """Read everything. Raises ContentError."""
        self._connection.execute(f"DROP TABLE IF EXISTS {self._chunks}")
        self._connection.execute(
            f"CREATE TABLE {self._chunks} (table_name TEXT NOT NULL, first_key NOT NULL,"
            " rows INTEGER NOT NULL, size INTEGER NOT NULL, digest BLOB NOT NULL,"
            " PRIMARY KEY (table_name, first_key)) WITHOUT ROWID"
        )
        for table in TABLES.values():
            self._insert(table, read_chunks(self._connection, table, schema=self._data))
        return self.content()

    def update(self, touched: Mapping[str, Collection[Key]]) -> Content:
        """Read the chunks again that hold, or held, the groups named: key by table. Raises ContentError."""
        for name, keys in touched.items():
            table = TABLES[name]
            first_keys = self._first_keys(table)
            spans = list(_spans(first_keys, keys))
            self._connection.executemany(
                f"DELETE FROM {self._chunks} WHERE table_name = ? AND first_key = ?",  # noqa: S608
                ((name, first) for span in spans for first in _within(first_keys, *span)),
            )
            self._insert(table, read_chunks(self._connection, table, schema=self._data, spans=spans))
        return self.content()

    def content(self) -> Content:
        """What the chunk digests add up to."""
        return Content({name: self._combined(table) for name, table in TABLES.items()})

    def _combined(self, table: TableSpec) -> TableDigest:
        """The same as ``combine`` makes of the chunks, many lines at once."""
        cursor = self._connection.cursor()
        cursor.row_factory = None
        rows, size = cursor.execute(
            f"SELECT coalesce(sum(rows), 0), coalesce(sum(size), 0) FROM {self._chunks} WHERE table_name = ?",  # noqa: S608
            (table.name,),
        ).fetchone()
        cursor.execute(
            f"SELECT rows, digest FROM {self._chunks} WHERE table_name = ? ORDER BY first_key",  # noqa: S608
            (table.name,),
        )
        hash = hashlib.sha256()
        while lines := cursor.fetchmany(_LINES_AT_ONCE):
            hash.update("".join([f"{count} {digest.hex()}\n" for count, digest in lines]).encode())
        return TableDigest(rows=rows, size=size, digest=f"sha256:{hash.hexdigest()}")

    def _first_keys(self, table: TableSpec) -> list[Any]:
        cursor = self._connection.cursor()
        cursor.row_factory = None
        cursor.execute(f"SELECT first_key FROM {self._chunks} WHERE table_name = ? ORDER BY 1", (table.name,))  # noqa: S608
        return [key for (key,) in cursor]

    def _insert(self, table: TableSpec, chunks: Iterable[Chunk]) -> None:
        self._connection.executemany(
            f"INSERT INTO {self._chunks} VALUES (?, ?, ?, ?, ?)",  # noqa: S608
            ((table.name, chunk.first, chunk.rows, chunk.size, chunk.digest) for chunk in chunks),
        )


def _within(first_keys: list[Any], since: Any, before: Any) -> list[Any]:
    """Those of the sorted keys that lie in a span."""
    start = 0 if since is None else bisect_left(first_keys, since)
    end = len(first_keys) if before is None else bisect_left(first_keys, before)
    return first_keys[start:end]


def _spans(first_keys: list[Any], touched: Collection[Key]) -> Iterator[Span]:
    """The ranges of keys to read again, from one boundary to another (None: the end of the table).

    A touched group lies in the chunk that begins before it. Where it began a chunk itself it may be gone, and
    the chunk before it grows: so that is read as well. The chunk after it begins with a boundary, and stays.
    """
    since: Any = None
    before: Any = None
    begun = False
    for key in sorted(touched):
        place = bisect_left(first_keys, key) - 1
        start = first_keys[place] if place >= 0 else None
        after = bisect_right(first_keys, key)
        # What precedes the first chunk joins it if its first key is no boundary.
        after = max(after, 1)
        end = first_keys[after] if after < len(first_keys) else None
        if begun and (before is None or start is None or start < before):
            before = end
            continue
        if begun:
            yield since, before
        since, before, begun = start, end, True
    if begun:
        yield since, before
