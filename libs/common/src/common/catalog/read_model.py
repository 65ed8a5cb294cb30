"""The tables of a snapshot (``catalog_read.db``): what players and mirrors read."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, String, Table, Text

SCHEMA_VERSION = 1
"""Grows when a table or column of the snapshot changes its meaning; adding a column does not count."""
DATABASE_FILE = "catalog_read.db"
MANIFEST_FILE = "manifest.json"

metadata = MetaData()

catalog_playlists = Table(
    "catalog_playlists",
    metadata,
    Column("playlist_id", Integer, primary_key=True, autoincrement=False),
    Column("platform", String),
    Column("remote_playlist_id", String),
    Column("name", String),
    Column("description", Text),
    Column("cover_url", Text),
    Column("play_count", BigInteger),
    Column("song_count", BigInteger),
)

catalog_tracks = Table(
    "catalog_tracks",
    metadata,
    Column("song_id", Integer, primary_key=True, autoincrement=False),
    Column("platform", String),
    Column("remote_song_id", String),
    Column("name", String),
    Column("singers", String),
    Column("ext", String),
    Column("file_size_bytes", BigInteger),
    Column("metadata_json", Text),
)

catalog_playlist_tracks = Table(
    "catalog_playlist_tracks",
    metadata,
    Column("playlist_id", BigInteger),
    Column("song_id", BigInteger),
    Column("position", BigInteger),
    Index("ix_catalog_playlist_tracks", "playlist_id", "position", "song_id"),
)

catalog_track_files = Table(
    "catalog_track_files",
    metadata,
    Column("song_id", BigInteger),
    Column("quality_label", String),
    Column("ext", String),
    Column("file_size_bytes", BigInteger),
    Column("backend_type", String),
    Column("backend_name", String),
    Column("locator", Text),
    Column("public_url", Text),
    Column("status", String),
    Column("is_primary", Integer),
    Index("ix_catalog_track_files", "song_id"),
)

catalog_toplists = Table(
    "catalog_toplists",
    metadata,
    Column("toplist_id", String, primary_key=True),
    Column("platform", String),
    Column("name", String),
    Column("description", Text),
    Column("cover_url", Text),
    Column("play_count", BigInteger),
    Column("song_count", BigInteger),
    Column("group_name", String),
)

CANONICAL_ORDER = {
    "catalog_playlists": ("playlist_id",),
    "catalog_tracks": ("song_id",),
    "catalog_playlist_tracks": ("playlist_id", "position", "song_id"),
    "catalog_track_files": tuple(column.name for column in catalog_track_files.columns),
    "catalog_toplists": ("toplist_id",),
}
"""The order in which rows enter the digest; total, so that it never depends on how they arrived."""
