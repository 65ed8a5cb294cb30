"""The rows of a snapshot, selected from the attached catalog database by SQL alone where rows are many.

Whatever is selected with ``only`` is what would be selected without it, for the ids in that temporary table.
"""

from __future__ import annotations

import json
import sqlite3

from exporter.service.source import Source
from exporter.service.toplists import toplists
from exporter.service.values import cast, clean_text, purify, register
from mirror.format.schema import TABLES, create_tables

READ_MODEL_VERSION = 1
"""Grows when the same catalog gives other rows than before: what was made earlier is then made anew."""

_PLAIN = "*[^-_.~/a-zA-Z0-9 ]*"
"""What a locator does not match in which spaces alone have to be encoded."""


def fill(connection: sqlite3.Connection, source: Source) -> None:
    """Make and fill all tables in ``main``, which is empty. Entries and files whose song is not there are left out.

    Text is as it stands in the source: ``mend`` it where the digest finds that it is none.
    """
    prepare(connection, source)
    # Filling tables that have their indexes is three times faster than indexing them afterwards.
    create_tables(connection)
    for table in ("catalog_playlists", "catalog_tracks"):
        connection.execute(f"INSERT INTO main.{table} {selection(table, source)}")
    # All of them fit into memory: asking the tracks themselves, millions of times, would read the disk.
    connection.execute("PRAGMA temp.cache_size = -32768")
    connection.execute("CREATE TEMP TABLE tracks_here (id INTEGER PRIMARY KEY)")
    connection.execute("INSERT INTO temp.tracks_here SELECT song_id FROM main.catalog_tracks ORDER BY song_id")
    for table in ("catalog_playlist_tracks", "catalog_track_files"):
        if statement := selection(table, source):
            connection.execute(f"INSERT INTO main.{table} {statement}")
    connection.execute("DROP TABLE temp.tracks_here")
    fill_toplists(connection, source, schema="main")


def mend(connection: sqlite3.Connection) -> None:
    """Make all text in ``main`` what a snapshot may hold."""
    register(connection)
    for table in TABLES:
        purify(connection, table)


def prepare(connection: sqlite3.Connection, source: Source) -> None:
    """Make what the selections use in this connection: functions, and the backends with their public URLs."""
    register(connection)
    connection.execute(
        "CREATE TEMP TABLE backends (id INTEGER PRIMARY KEY, name TEXT, backend_type TEXT, public_base_url TEXT)"
    )
    if source.has("storage_backends"):
        config = source.column("storage_backends", "config_json", "b")
        rows = connection.execute(
            "SELECT b.id, CAST(b.name AS BLOB), CAST(b.backend_type AS BLOB),"  # noqa: S608
            f" CAST({config} AS BLOB) FROM source.storage_backends b"
        ).fetchall()
        for id, name, type, content in rows:
            kind = clean_text(type)
            url = _public_base_url(clean_text(content)) if kind == "object_storage" else None
            connection.execute("INSERT INTO temp.backends VALUES (?, ?, ?, ?)", (id, clean_text(name), kind, url))


def selection(table: str, source: Source, *, only: str | None = None) -> str | None:
    """The SELECT of a table's rows, in the order of their keys; None where the source cannot have any.

    Entries and files are selected for the tracks and playlists that are in ``main`` by then. A plus keeps SQLite
    from walking through all of those where few ids are asked for.
    """
    match table:
        case "catalog_playlists":
            return _playlists(source, only)
        case "catalog_tracks":
            return _tracks(source, only)
        case "catalog_playlist_tracks":
            return _entries(source, only)
    return _files(source, only) if source.has_files else None


def fill_toplists(connection: sqlite3.Connection, source: Source, *, schema: str) -> None:
    """Fill the empty table of toplists in a schema. They are few, and depend on one another: always all of them."""
    if source.has("playlist_pools") and source.has("pool_playlists"):
        connection.executemany(
            f"INSERT INTO {schema}.catalog_toplists VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            toplists(connection, source),
        )


def _playlists(source: Source, only: str | None) -> str:
    def column(name: str) -> str:
        return cast(TABLES["catalog_playlists"], name, source.column("playlists", name, "p"))

    count = source.column("playlists", "collected_song_count", "p")
    return f"""
        SELECT p.id, {column("platform")}, {column("remote_playlist_id")}, {column("name")}, {column("description")},
               {column("cover_url")}, {column("play_count")},
               CAST(coalesce({count}, (SELECT count(*) FROM source.playlist_songs s WHERE s.playlist_id = p.id))
                    AS INTEGER)
        FROM source.playlists p WHERE {_among("p.id", only)} ORDER BY p.id
        """  # noqa: S608


def _tracks(source: Source, only: str | None) -> str:
    spec = TABLES["catalog_tracks"]
    columns = ", ".join(cast(spec, name, source.column("songs", name, "s")) for name in spec.columns[1:])
    return f"SELECT s.id, {columns} FROM source.songs s WHERE {_among('s.id', only)} ORDER BY s.id"  # noqa: S608


def _entries(source: Source, only: str | None) -> str:
    position = source.column("playlist_songs", "position", "e")
    # As it stands, so that a catalog of ours has the rows in this order already.
    order = f"{position}, " if position != "NULL" else ""
    return f"""
        SELECT e.playlist_id, e.song_id, CAST({position} AS INTEGER)
        FROM source.playlist_songs e
        WHERE {_among("e.playlist_id", only)} AND e.song_id IN {_tracks_here(only)}
          AND {"+" if only else ""}e.playlist_id IN (SELECT playlist_id FROM main.catalog_playlists)
        ORDER BY e.playlist_id, {order}e.song_id
        """  # noqa: S608


def _files(source: Source, only: str | None) -> str:
    spec = TABLES["catalog_track_files"]

    def asset(name: str) -> str:
        return cast(spec, name, source.column("file_assets", name, "a"))

    def location(name: str) -> str:
        return cast(spec, name, source.column("file_locations", name, "l"))

    # A location without a status column was never anything but active.
    status = location("status") if "status" in source.columns["file_locations"] else "'active'"
    # All locations are read as they lie, and sorted: looking them up song by song reads the file in leaps.
    join = "source.file_locations l CROSS JOIN source.file_assets a ON l.file_asset_id = a.id"
    if only:
        join = "source.file_assets a CROSS JOIN source.file_locations l ON l.file_asset_id = a.id"
    return f"""
        SELECT a.song_id, {asset("quality_label")}, {asset("ext")}, {asset("file_size_bytes")},
               b.backend_type, b.name, {location("locator")},
               CASE WHEN b.public_base_url IS NULL OR l.locator IS NULL THEN NULL
                    WHEN typeof(l.locator) = 'text' AND l.locator NOT GLOB '{_PLAIN}'
                         AND length(l.locator) = length(CAST(l.locator AS BLOB))
                    THEN b.public_base_url || '/' || replace(l.locator, ' ', '%20')
                    ELSE b.public_base_url || '/' || percent_encoded(CAST(l.locator AS BLOB)) END,
               {status}, {location("is_primary")}
        FROM {join}
        CROSS JOIN temp.backends b ON b.id = l.backend_id
        WHERE {status} = 'active' AND {_among("a.song_id", only)} AND +a.song_id IN {_tracks_here(only)}
        ORDER BY a.song_id
        """  # noqa: S608


def _tracks_here(only: str | None) -> str:
    return "(SELECT song_id FROM main.catalog_tracks)" if only else "(SELECT id FROM temp.tracks_here)"


def _among(column: str, only: str | None) -> str:
    return f"{column} IN (SELECT id FROM temp.{only})" if only else "true"  # noqa: S608


def _public_base_url(text: str | None) -> str | None:
    try:
        content = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None
    url = content.get("public_base_url") if isinstance(content, dict) else None
    if not isinstance(url, str) or not url:
        return None
    # Half a surrogate pair is written in JSON, and in no text.
    return clean_text(url.rstrip("/").encode("utf-8", "replace"))
