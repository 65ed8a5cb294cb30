"""The tables of a snapshot, their canonical order, and how their rows are grouped and cut into chunks."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

SCHEMA_VERSION = 1
"""Grows when a table or column of the snapshot changes its meaning."""
DATABASE_FILE = "catalog_read.db"
MANIFEST_FILE = "manifest.json"

Kind = Literal["integer", "text"]
Key = int | str
Value = int | str | None
Row = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table: its columns with their kinds, the column that groups its rows, and its canonical order.

    A group is all rows with the same value of ``group``, the first column. ``order`` is total: the same
    rows always come in the same order. ``indexed`` is as much of it as an index has; in the content digest,
    rows equal in these columns are sorted by their bytes instead, which spares sorting by every column.
    ``mask`` says how often a group begins a chunk of the digest (0: always; None: never, the table is one chunk).
    """

    name: str
    columns: tuple[str, ...]
    kinds: tuple[Kind, ...]
    group: str
    order: tuple[str, ...]
    mask: int | None
    indexed: tuple[str, ...]

    @property
    def group_index(self) -> int:
        """The place of the group's column in a row."""
        return self.columns.index(self.group)

    @property
    def group_kind(self) -> Kind:
        return self.kinds[self.group_index]

    @property
    def single(self) -> bool:
        """Whether the group's column is the primary key, so that a group has at most one row."""
        return self.order == (self.group,)

    def boundaries(self, keys: Iterable[Key]) -> list[Key]:
        """Those of the keys whose groups begin a chunk, wherever they stand."""
        if self.mask is None:
            return []
        # The bits of the product that count follow from as many low bits of its factors, which are quicker to multiply.
        looked_at = self.mask << 16
        low = looked_at | 0xFFFF
        factor = 1103515245 & low
        return [key for key in keys if isinstance(key, int) and not ((key & low) * factor) & looked_at]

    @property
    def boundary(self) -> str:
        """The same as a condition in SQL."""
        return "false" if self.mask is None else f"((({self.group} & 2147483647) * 1103515245) >> 16) & {self.mask} = 0"


def _table(
    name: str,
    group: str,
    columns: str,
    *,
    order: tuple[str, ...] = (),
    mask: int | None,
    indexed: tuple[str, ...] = (),
) -> TableSpec:
    pairs = [column.split(":") for column in columns.split()]
    kinds: tuple[Kind, ...] = tuple("integer" if kind == "integer" else "text" for _, kind in pairs)
    return TableSpec(
        name=name,
        columns=tuple(column for column, _ in pairs),
        kinds=kinds,
        group=group,
        order=order or (group,),
        mask=mask,
        indexed=indexed or order or (group,),
    )


_FILE_COLUMNS = (
    "song_id:integer quality_label:text ext:text file_size_bytes:integer backend_type:text backend_name:text"
    " locator:text public_url:text status:text is_primary:integer"
)

TABLES: dict[str, TableSpec] = {
    table.name: table
    for table in (
        _table(
            "catalog_playlist_tracks",
            "playlist_id",
            "playlist_id:integer song_id:integer position:integer",
            order=("playlist_id", "position", "song_id"),
            mask=0,
        ),
        _table(
            "catalog_playlists",
            "playlist_id",
            "playlist_id:integer platform:text remote_playlist_id:text name:text description:text cover_url:text"
            " play_count:integer song_count:integer",
            mask=15,
        ),
        _table(
            "catalog_toplists",
            "toplist_id",
            "toplist_id:text platform:text name:text description:text cover_url:text play_count:integer"
            " song_count:integer group_name:text",
            mask=None,
        ),
        _table(
            "catalog_track_files",
            "song_id",
            _FILE_COLUMNS,
            order=tuple(column.split(":")[0] for column in _FILE_COLUMNS.split()),
            mask=7,
            indexed=("song_id",),
        ),
        _table(
            "catalog_tracks",
            "song_id",
            "song_id:integer platform:text remote_song_id:text name:text singers:text ext:text"
            " file_size_bytes:integer metadata_json:text",
            mask=7,
        ),
    )
}
"""All tables, in the order of their names."""

_INDEXES = {
    "catalog_playlist_tracks": ("ix_catalog_playlist_tracks", "playlist_id, position, song_id"),
    "catalog_track_files": ("ix_catalog_track_files", "song_id"),
}
_SQL_TYPES = {"integer": "INTEGER", "text": "TEXT"}


def create_tables(connection: sqlite3.Connection, schema: str = "main") -> None:
    """Make the empty tables with their indexes in a schema of the connection."""
    for table in TABLES.values():
        columns = [
            f'"{name}" {_SQL_TYPES[kind]}' + (" PRIMARY KEY NOT NULL" if table.single and name == table.group else "")
            for name, kind in zip(table.columns, table.kinds, strict=True)
        ]
        connection.execute(f'CREATE TABLE "{schema}"."{table.name}" ({", ".join(columns)})')
        if table.name in _INDEXES:
            index, indexed = _INDEXES[table.name]
            connection.execute(f'CREATE INDEX "{schema}"."{index}" ON "{table.name}" ({indexed})')
