"""The last value of every fact, as it came: all rows of the catalog are derived from these tables.

Rows are never deleted: a withdrawn fact keeps its place with ``removed``, as it does on the bus.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from sqlalchemy import Boolean, Column, Connection, Float, Index, Integer, MetaData, Table, Text
from sqlalchemy.dialects import sqlite

metadata = MetaData()


def _id(name: str) -> Column[int]:
    return Column(name, Integer, primary_key=True, autoincrement=False)


def _names_list() -> Column[str]:
    return Column("singers_list", Text, comment="as JSON, where `singers` cannot be taken apart again")


def _version() -> tuple[Column[int], Column[int], Column[bool]]:
    return (
        Column("revision", Integer, nullable=False),
        Column("sequence", Integer, nullable=False),
        Column("removed", Boolean(create_constraint=False), nullable=False),
    )


songs_listed = Table(
    "fact_songs_listed",
    metadata,
    _id("song_id"),
    *_version(),
    Column("platform", Text, nullable=False),
    Column("remote_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("singers", Text),
    Column("album", Text),
    Column("duration_seconds", Float),
    Column("ext", Text),
    Column("size", Integer),
    Column("fingerprint", Text),
    Column("metadata_status", Text, nullable=False),
    Column("metadata", Text),
    _names_list(),
)

songs_described = Table(
    "fact_songs_described",
    metadata,
    _id("song_id"),
    *_version(),
    Column("name", Text),
    Column("singers", Text),
    Column("album", Text),
    Column("metadata", Text),
    _names_list(),
)

songs_pinned = Table(
    "fact_songs_pinned",
    metadata,
    _id("song_id"),
    *_version(),
    Column("name", Text),
    Column("singers", Text),
    Column("choice", Text, comment="match, bans and who chose, as JSON; never leaves this database"),
    _names_list(),
)

files = Table(
    "fact_files",
    metadata,
    Column("backend", Text, primary_key=True),
    _id("song_id"),
    Column("variant", Text, primary_key=True),
    *_version(),
    Column("backend_kind", Text, nullable=False),
    Column("asset_id", Integer, nullable=False),
    Column("location_id", Integer, nullable=False),
    Column("locator", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("size", Integer, nullable=False),
    Column("quality_label", Text),
    Column("ext", Text, nullable=False),
    Column("title", Text),
    Column("singers", Text),
    Column("album", Text),
    Column("format", Text, nullable=False, comment="codec, bitrate and so on, as JSON"),
    Column("origin", Text, nullable=False, comment="where the bytes came from, as JSON"),
    _names_list(),
    # By backend first: a song's files are then found with one search per backend, and there are few.
    sqlite_with_rowid=False,
)

playlist_pages = Table(
    "fact_playlist_pages",
    metadata,
    _id("playlist_id"),
    Column("platform", Text, primary_key=True),
    _id("page"),
    *_version(),
    Column("remote_id", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("pages", Integer, nullable=False),
    Column("name", Text, comment="this and the next ones on page 0 only"),
    Column("description", Text),
    Column("cover_url", Text),
    Column("play_count", Integer),
    Column("url", Text),
    Column("song_count", Integer),
    Column("upstream", Text),
    Column("notice", Text),
    Column("fingerprint", Text),
    Column("entries", Text, nullable=False, comment="[[position, song id], ...]"),
    sqlite_with_rowid=False,
)

pools = Table(
    "fact_pools",
    metadata,
    _id("pool_id"),
    *_version(),
    Column("platform", Text, nullable=False),
    Column("pool_kind", Text, nullable=False),
    Column("external_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("url", Text),
    Column("metadata", Text),
    Column("playlist_ids", Text, nullable=False),
)

backends = Table(
    "fact_backends",
    metadata,
    Column("backend", Text, primary_key=True),
    *_version(),
    Column("kind", Text, nullable=False),
    Column("public_base_url", Text),
    Column("read_only", Boolean(create_constraint=False), nullable=False),
    Column("backend_id", Integer, comment="where it was adopted; otherwise derived from the name"),
    sqlite_with_rowid=False,
)

state = Table(
    "projection_state",
    metadata,
    _id("id"),
    Column("schema_version", Integer, nullable=False),
    Column("sequence", Integer, nullable=False, comment="the last sequence of CATALOG that is in the rows"),
    Column("content_sequence", Integer, nullable=False, comment="the last one that may have changed a row"),
    Column("stream_created", Text, comment="tells the stream that was read from another of the same name"),
)

problems = Table(
    "projection_problems",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("kind", Text, comment="song or playlist, where another id holds the key"),
    Column("item_id", Integer),
    Column("platform", Text),
    Column("remote_id", Text),
    Index("ix_projection_problems_key", "kind", "platform", "remote_id"),
)

changes = Table(
    "catalog_changes",
    metadata,
    Column("kind", Text, primary_key=True, comment="song, playlist, pool or backend"),
    _id("key"),
    Column("sequence", Integer, nullable=False, comment="of CATALOG, of the batch in which its rows may have changed"),
    # No index by sequence: it would be written anew for each thing, and an export reads this small table as fast.
    sqlite_with_rowid=False,
)

SCHEMA_VERSION = 1

Row = tuple[Any, ...]

_ROWS_OF_A_STEP = (1000, 100, 10, 1)
"""With the widest table this stays below the 32,766 values that SQLite takes at once."""

KEYS_OF_THINGS = {
    "fact_songs_listed": ("platform", "remote_id"),
    "fact_playlist_pages": ("remote_id",),
    "fact_pools": ("platform", "external_id"),
}
"""What an id stands for. The same id with another key is a collision, and the second is kept out."""


def ensure(connection: Connection) -> None:
    """Make what is missing: the tables, and columns that an older version did not have. Its index goes."""
    metadata.create_all(connection)
    for table in metadata.tables.values():
        present = {row.name for row in connection.exec_driver_sql(f"PRAGMA table_info({table.name})")}
        for column in table.c:
            if column.name not in present:
                kind = column.type.compile(connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {column.name} {kind}")
    connection.exec_driver_sql("DROP INDEX IF EXISTS ix_catalog_changes_sequence")


def subject(table: Table, key: Row) -> str:
    """Where the fact with this key stands in CATALOG, for the tables in ``KEYS_OF_THINGS``."""
    if table is playlist_pages:
        playlist, platform, page = key
        return f"playlist.collected.{platform}.{playlist}.{page}"
    return f"{'song.listed' if table is songs_listed else 'pool.defined'}.{key[0]}"


def upsert(table: Table, *, source: str = "") -> str:
    """The statement that stores a fact unless a newer one, or another thing of the same id, is held.

    It takes the values of one row, or the rows that ``source`` selects.
    """
    statement = sqlite.insert(table)
    held, new = table.c, statement.excluded
    newer = (new.revision > held.revision) | ((new.revision == held.revision) & (new.sequence > held.sequence))
    key = [held[name] == new[name] for name in KEYS_OF_THINGS.get(table.name, ())]
    if key:
        same = key[0]
        for part in key[1:]:
            same = same & part
        newer = newer & (held.removed | same)
    columns = {column.name: new[column.name] for column in table.c if not column.primary_key}
    text = str(
        statement.on_conflict_do_update(set_=columns, where=newer).compile(dialect=sqlite.dialect(paramstyle="qmark"))
    )
    return text.replace(values(table), source) if source else text


def values(table: Table, rows: int = 1) -> str:
    """The marks for the values of so many rows, as SQL."""
    return "VALUES " + ", ".join([f"({', '.join('?' * len(table.c))})"] * rows)


def write(connection: Connection, statement: str, table: Table, rows: Sequence[Row]) -> int:
    """Run a statement that takes the values of one row for all of them; return how many rows it wrote.

    Many rows are one step of the database: between steps a thread waits for the interpreter, in steps it does not.
    """
    written = start = 0
    for size in _ROWS_OF_A_STEP:
        many = statement.replace(values(table), values(table, size))
        while len(rows) - start >= size:
            step = tuple(chain.from_iterable(rows[start : start + size]))
            written += connection.exec_driver_sql(many, step).rowcount
            start += size
    return written
