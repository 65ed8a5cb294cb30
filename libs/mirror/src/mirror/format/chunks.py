"""Cutting the rows of a table into chunks, and the digests of these."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from mirror.errors import ContentError
from mirror.format.rows import encoder, problem_of
from mirror.format.schema import Key, Row, TableSpec

_ROWS_AT_ONCE = 1024

Span = tuple[Key | None, Key | None]
"""Keys from the first to one before the second; None: from or to the end of the table."""


@dataclass(frozen=True, slots=True)
class TableDigest:
    """``size`` is the number of bytes of the rows."""

    rows: int
    size: int
    digest: str


class Chunk(NamedTuple):
    """Rows from one boundary to the next. ``first`` is the key of its first group; ``digest`` has 32 bytes."""

    first: Key
    rows: int
    size: int
    digest: bytes


def combine(chunks: Iterable[Chunk]) -> TableDigest:
    """The digest of a table from those of its chunks, in order."""
    hash = hashlib.sha256()
    rows = size = 0
    for chunk in chunks:
        hash.update(b"%d %s\n" % (chunk.rows, chunk.digest.hex().encode()))
        rows += chunk.rows
        size += chunk.size
    return TableDigest(rows=rows, size=size, digest=f"sha256:{hash.hexdigest()}")


def read_chunks(
    connection: sqlite3.Connection,
    table: TableSpec,
    *,
    schema: str = "main",
    spans: Iterable[Span] = ((None, None),),
) -> Iterator[Chunk]:
    """Read the groups of ascending spans, each of which begins with a boundary or the table, cut into chunks.

    Memory holds some thousand rows, or the largest group. Raises ContentError on what a snapshot may not hold.
    """
    encode = encoder()
    chunk: _Open | None = None
    for keys, rows in _whole_groups(table, _fetched(connection, table, schema, spans)):
        lines = list(map(encode, rows))
        if table.indexed != table.order:
            lines = [line for _, line in sorted(zip(keys, lines, strict=True))]
        if chunk is None:
            chunk = _Open(keys[0])
        done = 0
        for key in table.boundaries(keys if table.single else dict.fromkeys(keys)):
            if key != chunk.first:
                place = bisect_left(keys, key, done)
                chunk.add(lines[done:place])
                yield chunk.closed()
                chunk, done = _Open(key), place
        chunk.add(lines[done:])
    if chunk is not None:
        yield chunk.closed()


class _Open:
    """A chunk whose end has not been read."""

    def __init__(self, first: Key) -> None:
        self.first = first
        self._rows = self._size = 0
        self._hash = hashlib.sha256()

    def add(self, lines: list[bytes]) -> None:
        data = b"".join(lines)
        self._hash.update(data)
        self._rows += len(lines)
        self._size += len(data)

    def closed(self) -> Chunk:
        return Chunk(first=self.first, rows=self._rows, size=self._size, digest=self._hash.digest())


def _whole_groups(table: TableSpec, fetched: Iterable[list[Row]]) -> Iterator[tuple[list[Any], list[Row]]]:
    """Whole groups, some thousand rows at once, with the key of each row."""
    place = table.group_index
    rows: list[Row] = []
    wanted = _ROWS_AT_ONCE
    for some in fetched:
        rows += some
        if len(rows) < wanted:
            continue
        keys = _keys(table, rows)
        # The last group may go on.
        end = bisect_left(keys, rows[-1][place])
        if end:
            yield keys[:end], rows[:end]
            rows = rows[end:]
        wanted = max(_ROWS_AT_ONCE, 2 * len(rows))
    if rows:
        yield _keys(table, rows), rows


def _keys(table: TableSpec, rows: list[Row]) -> list[Any]:
    if problem := problem_of(table, rows, stored=True):
        raise ContentError("content-invalid", f"The database does not hold a snapshot: {problem}.")
    place = table.group_index
    return [row[place] for row in rows]


def _fetched(
    connection: sqlite3.Connection, table: TableSpec, schema: str, spans: Iterable[Span]
) -> Iterator[list[Row]]:
    # Names without quotes: SQLite would take a quoted one that is no column for a text.
    columns, order = ", ".join(table.columns), ", ".join(table.indexed)
    cursor = connection.cursor()
    cursor.row_factory = None
    with _explained():
        for since, before in spans:
            limits = [f"{table.group} >= ?"] * (since is not None) + [f"{table.group} < ?"] * (before is not None)
            cursor.execute(
                f'SELECT {columns} FROM "{schema}".{table.name}'  # noqa: S608
                f" WHERE {' AND '.join(limits) or 'true'} ORDER BY {order}",
                [key for key in (since, before) if key is not None],
            )
            while some := cursor.fetchmany(_ROWS_AT_ONCE):
                yield some
                if len(some) < _ROWS_AT_ONCE:
                    break


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """A table that is not there and text that is not UTF-8 make no snapshot; a failing disk is another matter."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) != sqlite3.SQLITE_ERROR:
            raise
        raise ContentError(
            "content-invalid",
            "The database does not hold a snapshot: a table, a column or the text of a value is not valid.",
        ) from error
