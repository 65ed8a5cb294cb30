"""Filling a snapshot's tables from the attached catalog database, by SQL alone where rows are many."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote_from_bytes

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from common.catalog.read_model import metadata
from exporter.service.source import Source


def create_tables(connection: sqlite3.Connection) -> None:
    """Make the tables with their indexes: filling them afterwards is three times faster than indexing last."""
    dialect = sqlite.dialect()
    for table in metadata.sorted_tables:
        connection.execute(str(CreateTable(table).compile(dialect=dialect)))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            connection.execute(str(CreateIndex(index).compile(dialect=dialect)))


def fill(connection: sqlite3.Connection, source: Source) -> None:
    """Copy what players read. Entries and files whose song is not there are left out."""
    connection.create_function("percent_encoded", 1, _percent_encoded, deterministic=True)
    _playlists(connection, source)
    _tracks(connection, source)
    _entries(connection, source)
    if source.has("file_assets") and source.has("file_locations") and source.has("storage_backends"):
        _backends(connection, source)
        _files(connection, source)
    if source.has("playlist_pools") and source.has("pool_playlists"):
        connection.executemany(
            "INSERT INTO catalog_toplists VALUES (?, ?, ?, ?, ?, ?, ?, ?)", _toplists(connection, source)
        )


def _playlists(connection: sqlite3.Connection, source: Source) -> None:
    def column(name: str) -> str:
        return source.column("playlists", name, "p")

    connection.execute(
        f"""
        INSERT INTO catalog_playlists
        SELECT p.id, p.platform, p.remote_playlist_id, p.name, {column("description")}, {column("cover_url")},
               {column("play_count")},
               coalesce({column("collected_song_count")},
                        (SELECT count(*) FROM source.playlist_songs s WHERE s.playlist_id = p.id))
        FROM source.playlists p ORDER BY p.id
        """  # noqa: S608
    )


def _tracks(connection: sqlite3.Connection, source: Source) -> None:
    rest = ", ".join(
        source.column("songs", name, "s") for name in ("singers", "ext", "file_size_bytes", "metadata_json")
    )
    connection.execute(
        f"INSERT INTO catalog_tracks SELECT s.id, s.platform, s.remote_song_id, s.name, {rest}"  # noqa: S608
        " FROM source.songs s ORDER BY s.id"
    )


def _entries(connection: sqlite3.Connection, source: Source) -> None:
    position = source.column("playlist_songs", "position", "e")
    connection.execute(
        f"""
        INSERT INTO catalog_playlist_tracks
        SELECT e.playlist_id, e.song_id, {position}
        FROM source.playlist_songs e
        WHERE e.song_id IN (SELECT song_id FROM main.catalog_tracks)
          AND e.playlist_id IN (SELECT playlist_id FROM main.catalog_playlists)
        ORDER BY e.playlist_id, {position}, e.song_id
        """  # noqa: S608
    )


def _backends(connection: sqlite3.Connection, source: Source) -> None:
    """The few backends with their public URLs, read once instead of once per file."""
    connection.execute(
        "CREATE TEMP TABLE backends (id INTEGER PRIMARY KEY, name TEXT, backend_type TEXT, public_base_url TEXT)"
    )
    config = source.column("storage_backends", "config_json", "b")
    rows = connection.execute(
        f"SELECT b.id, b.name, b.backend_type, {config} FROM source.storage_backends b"  # noqa: S608
    ).fetchall()
    for id, name, kind, text in rows:
        url = _public_base_url(text) if kind == "object_storage" else None
        connection.execute("INSERT INTO temp.backends VALUES (?, ?, ?, ?)", (id, name, kind, url))


def _files(connection: sqlite3.Connection, source: Source) -> None:
    def asset(name: str) -> str:
        return source.column("file_assets", name, "a")

    def location(name: str) -> str:
        return source.column("file_locations", name, "l")

    # A location without a status column was never anything but active.
    status = location("status") if "status" in source.columns["file_locations"] else "'active'"
    connection.execute(
        f"""
        INSERT INTO catalog_track_files
        SELECT a.song_id, {asset("quality_label")}, {asset("ext")}, {asset("file_size_bytes")},
               b.backend_type, b.name, l.locator,
               b.public_base_url || '/' || percent_encoded(CAST(l.locator AS BLOB)), {status}, {location("is_primary")}
        FROM source.file_assets a
        JOIN source.file_locations l ON l.file_asset_id = a.id
        JOIN temp.backends b ON b.id = l.backend_id
        WHERE {status} = 'active' AND a.song_id IN (SELECT song_id FROM main.catalog_tracks)
        ORDER BY a.song_id
        """  # noqa: S608
    )


def _toplists(connection: sqlite3.Connection, source: Source) -> Iterator[tuple[Any, ...]]:
    """Playlists of pools that are toplists. The first of a pool has the pool's own id as its name."""
    taken: set[str] = set()
    pool = 0
    cursor = connection.execute(
        """
        SELECT DISTINCT o.id, o.platform, o.external_id, o.name, p.playlist_id, p.remote_playlist_id, p.name,
               p.description, p.cover_url, p.play_count, p.song_count
        FROM source.playlist_pools o
        JOIN source.pool_playlists m ON m.pool_id = o.id
        JOIN main.catalog_playlists p ON p.playlist_id = m.playlist_id
        WHERE o.pool_kind = 'toplist'
        ORDER BY o.id, p.playlist_id
        """
    )
    for index, row in enumerate(cursor.fetchall()):
        pool_id, platform, external_id, group, _, remote_id, *shown = row
        first = index == 0 or pool != pool_id
        pool = pool_id
        name = str(external_id) if first else f"{external_id}:{remote_id}"
        # Two platforms may use one id; the older pool keeps it.
        for candidate in (name, f"{platform}:{name}", f"{platform}:{pool_id}:{external_id}:{remote_id}"):
            if candidate not in taken:
                break
        else:
            continue
        taken.add(candidate)
        yield (candidate, platform, *shown, group)


def _public_base_url(text: str | bytes | None) -> str | None:
    try:
        content = json.loads(text) if text else None
    except ValueError:
        return None
    url = content.get("public_base_url") if isinstance(content, dict) else None
    return url.rstrip("/") if isinstance(url, str) and url else None


def _percent_encoded(locator: bytes | None) -> str | None:
    return quote_from_bytes(locator, safe="/") if locator is not None else None
