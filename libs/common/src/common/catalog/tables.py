"""The tables of the catalog database: the older system's schema, so that its files open here and ours there."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, String, Table, Text, UniqueConstraint

metadata = MetaData()

# An integer primary key of SQLite must be declared INTEGER; it holds 64 bits all the same.
_Id = BigInteger().with_variant(Integer, "sqlite")

playlists = Table(
    "playlists",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("platform", String, nullable=False),
    Column("remote_playlist_id", String, nullable=False),
    Column("name", String, nullable=False),
    Column("description", Text),
    Column("cover_url", Text),
    Column("play_count", BigInteger),
    Column("collected_song_count", BigInteger),
    UniqueConstraint("platform", "remote_playlist_id", name="uq_playlists_platform_remote"),
)

songs = Table(
    "songs",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("platform", String, nullable=False),
    Column("remote_song_id", String, nullable=False),
    Column("name", String, nullable=False),
    Column("singers", String),
    Column("ext", String),
    Column("file_size_bytes", BigInteger),
    Column("metadata_json", Text),
    UniqueConstraint("platform", "remote_song_id", name="uq_songs_platform_remote"),
)

playlist_songs = Table(
    "playlist_songs",
    metadata,
    # A song may stand in a playlist more than once, so the position is the key.
    Column("playlist_id", _Id, primary_key=True, autoincrement=False),
    Column("song_id", _Id, nullable=False),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

playlist_pools = Table(
    "playlist_pools",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("platform", String, nullable=False),
    Column("pool_kind", String, nullable=False),
    Column("external_id", String, nullable=False),
    Column("name", String, nullable=False),
    Column("url", Text),
    Column("metadata_json", Text),
)

pool_playlists = Table(
    "pool_playlists",
    metadata,
    Column("pool_id", _Id, primary_key=True, autoincrement=False),
    Column("playlist_id", _Id, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

storage_backends = Table(
    "storage_backends",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("name", String, nullable=False, unique=True),
    Column("backend_type", String, nullable=False),
    Column("base_path", Text),
    Column("config_json", Text),
)

file_assets = Table(
    "file_assets",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("song_id", _Id, nullable=False),
    Column("quality_label", String),
    Column("ext", String),
    Column("file_size_bytes", BigInteger),
    Index("ix_file_assets_song", "song_id"),
)

file_locations = Table(
    "file_locations",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("file_asset_id", _Id, nullable=False),
    Column("backend_id", _Id, nullable=False),
    Column("locator", Text, nullable=False),
    Column("status", String, nullable=False),
    Column("is_primary", Integer, nullable=False),
    Index("ix_file_locations_asset", "file_asset_id"),
)

NEWER_TABLES = frozenset({"playlist_pools", "pool_playlists", "storage_backends", "file_assets", "file_locations"})
"""Tables that a database of the older system may lack."""

NEEDED_COLUMNS = {
    "playlists": ("id", "platform", "remote_playlist_id", "name"),
    "songs": ("id", "platform", "remote_song_id", "name"),
    "playlist_songs": ("playlist_id", "song_id"),
    "playlist_pools": ("id", "platform", "pool_kind", "external_id", "name"),
    "pool_playlists": ("pool_id", "playlist_id"),
    "storage_backends": ("id", "name", "backend_type"),
    "file_assets": ("id", "song_id"),
    "file_locations": ("file_asset_id", "backend_id", "locator"),
}
"""Without these a table means nothing; every other column may be missing in an older database."""
