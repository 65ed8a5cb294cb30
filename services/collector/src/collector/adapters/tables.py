"""The tables of ``collector.db``. Everything in it follows from CATALOG and STATUS; it can be deleted."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, Integer, MetaData, String, Table, Text

SCHEMA_VERSION = "1"
"""Another version on disk: the file is made anew by replay, there is nothing to migrate."""

metadata = MetaData()

meta = Table("meta", metadata, Column("key", String, primary_key=True), Column("value", String, nullable=False))

songs = Table(
    "songs",
    metadata,
    Column("song_id", Integer, primary_key=True, autoincrement=False),
    Column("platform", String, nullable=False),
    Column("remote_id", String, nullable=False),
    Column("fingerprint", String),
    Column("digest", String, nullable=False),
    Column("wish", String, nullable=False),
    Column("owner", Integer),
    Column("listing", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("removed", Boolean, nullable=False),
)

playlists = Table(
    "playlists",
    metadata,
    Column("playlist_id", Integer, primary_key=True, autoincrement=False),
    Column("platform", String, nullable=False),
    Column("remote_id", String, nullable=False),
    Column("pages", Integer, nullable=False),
    Column("header", Text, nullable=False),
    Column("fingerprint", String),
    Column("removed", Boolean, nullable=False),
)

pages = Table(
    "pages",
    metadata,
    Column("playlist_id", Integer, primary_key=True),
    Column("page", Integer, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    sqlite_with_rowid=False,
)

entries = Table(
    "entries",
    metadata,
    Column("playlist_id", Integer, primary_key=True),
    Column("page", Integer, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("song_id", Integer, nullable=False),
    Index("entries_by_song", "song_id", "playlist_id", "page"),
    sqlite_with_rowid=False,
)

pools = Table(
    "pools",
    metadata,
    Column("pool_id", Integer, primary_key=True, autoincrement=False),
    Column("platform", String, nullable=False),
    Column("external_id", String, nullable=False),
    Column("name", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("removed", Boolean, nullable=False),
)

pool_playlists = Table(
    "pool_playlists",
    metadata,
    Column("pool_id", Integer, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("playlist_id", Integer, nullable=False),
    Index("pool_playlists_by_playlist", "playlist_id"),
    sqlite_with_rowid=False,
)

stored = Table(
    "stored",
    metadata,
    Column("song_id", Integer, primary_key=True),
    Column("variant", String, primary_key=True),
    Column("backend", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("sha256", String, nullable=False),
    Column("listing_fingerprint", String),
    Column("payload", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("removed", Boolean, nullable=False),
    sqlite_with_rowid=False,
)

given_up = Table(
    "given_up",
    metadata,
    Column("song_id", Integer, primary_key=True, autoincrement=False),
    Column("wish", String, nullable=False),
    Column("code", String, nullable=False),
)
