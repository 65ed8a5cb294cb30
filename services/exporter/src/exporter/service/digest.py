"""The digest of a snapshot's content: the same for the same rows, however and wherever the file was made.

A row is one line: its values as SQL literals (``NULL``, decimal integers, text in single quotes with
quotes doubled, UTF-8), joined by commas, ended by a line feed. A table's digest is the SHA-256 of its
lines in canonical order. ``snapshot_id`` is the SHA-256 of the lines ``<table> <rows> <digest>`` of
all tables, in the order of their names, after a first line with the schema version.
"""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass

from common.catalog.read_model import CANONICAL_ORDER, SCHEMA_VERSION, metadata

_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class TableDigest:
    """``size`` is the number of bytes of the canonical lines."""

    rows: int
    size: int
    digest: str


def table_digest(connection: sqlite3.Connection, table: str) -> TableDigest:
    """Read a table of the snapshot once, with bounded memory."""
    line = "||','||".join(f'quote("{column.name}")' for column in metadata.tables[table].columns)
    order = ", ".join(f'"{name}"' for name in CANONICAL_ORDER[table])
    hash = hashlib.sha256()
    rows = size = 0
    cursor = connection.cursor()
    cursor.row_factory = None
    cursor.execute(f'SELECT CAST({line} || char(10) AS BLOB) FROM "{table}" ORDER BY {order}')  # noqa: S608
    while chunk := cursor.fetchmany(_ROWS_AT_ONCE):
        data = b"".join([row[0] for row in chunk])
        hash.update(data)
        rows += len(chunk)
        size += len(data)
    return TableDigest(rows=rows, size=size, digest=f"sha256:{hash.hexdigest()}")


def content_digests(connection: sqlite3.Connection) -> dict[str, TableDigest]:
    """The digests of all tables."""
    return {table: table_digest(connection, table) for table in sorted(metadata.tables)}


def snapshot_id(tables: dict[str, TableDigest]) -> str:
    """The id that follows from the content of all tables."""
    lines = [f"music-cloud-catalog {SCHEMA_VERSION}\n"]
    lines += [f"{name} {tables[name].rows} {tables[name].digest}\n" for name in sorted(tables)]
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"
