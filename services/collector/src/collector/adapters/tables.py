"""The tables of ``collector.db``. Everything in it follows from CATALOG and STATUS; it can be deleted."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, MetaData, String, Table, Text

from common.database import WholeNumber

metadata = MetaData()

meta = Table("meta", metadata, Column("key", String, primary_key=True), Column("value", String, nullable=False))

songs = Table(
    "songs",
    metadata,
    Column("song_id", WholeNumber, primary_key=True, autoincrement=False),
    Column("platform", String, nullable=False),
    Column("remote_id", String, nullable=False),
    Column("fingerprint", String),
    Column("digest", String, nullable=False),
    Column("wish", String, nullable=False),
    Column("owner", WholeNumber),
    Column("listing", Text, nullable=False),
    Column("revision", WholeNumber, nullable=False),
    Column("removed", Boolean, nullable=False),
)

playlists = Table(
    "playlists",
    metadata,
    Column("playlist_id", WholeNumber, primary_key=True, autoincrement=False),
    Column("platform", String, nullable=False),
    Column("remote_id", String, nullable=False),
    Column("pages", WholeNumber, nullable=False),
    Column("header", Text, nullable=False),
    Column("fingerprint", String),
    Column("removed", Boolean, nullable=False),
)

pages = Table(
    "pages",
    metadata,
    Column("playlist_id", WholeNumber, primary_key=True),
    Column("page", WholeNumber, primary_key=True),
    Column("version", WholeNumber, nullable=False),
    Column("revision", WholeNumber, nullable=False),
    sqlite_with_rowid=False,
)

entries = Table(
    "entries",
    metadata,
    Column("playlist_id", WholeNumber, primary_key=True),
    Column("page", WholeNumber, primary_key=True),
    Column("position", WholeNumber, primary_key=True),
    Column("song_id", WholeNumber, nullable=False),
    Index("entries_by_song", "song_id", "playlist_id", "page"),
    sqlite_with_rowid=False,
)

pools = Table(
    "pools",
    metadata,
    Column("pool_id", WholeNumber, primary_key=True, autoincrement=False),
    Column("platform", String, nullable=False),
    Column("external_id", String, nullable=False),
    Column("name", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("revision", WholeNumber, nullable=False),
    Column("removed", Boolean, nullable=False),
)

pool_playlists = Table(
    "pool_playlists",
    metadata,
    Column("pool_id", WholeNumber, primary_key=True),
    Column("position", WholeNumber, primary_key=True),
    Column("playlist_id", WholeNumber, nullable=False),
    Index("pool_playlists_by_playlist", "playlist_id"),
    sqlite_with_rowid=False,
)

stored = Table(
    "stored",
    metadata,
    Column("song_id", WholeNumber, primary_key=True),
    Column("variant", String, primary_key=True),
    Column("backend", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("sha256", String, nullable=False),
    Column("listing_fingerprint", String),
    Column("payload", Text, nullable=False),
    Column("revision", WholeNumber, nullable=False),
    Column("removed", Boolean, nullable=False),
    sqlite_with_rowid=False,
)

adopted = Table(
    "adopted",
    metadata,
    Column("kind", String, primary_key=True),
    Column("platform", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("id", WholeNumber, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
"""Ids that are not the derived ones: they came from an older catalog, and stay."""

choices = Table(
    "choices",
    metadata,
    Column("song_id", WholeNumber, primary_key=True, autoincrement=False),
    Column("choice", Text, nullable=False),
    Column("revision", WholeNumber, nullable=False),
    Column("removed", Boolean, nullable=False),
)
"""What people chose for songs, of which there are few."""

given_up = Table(
    "given_up",
    metadata,
    Column("song_id", WholeNumber, primary_key=True, autoincrement=False),
    Column("wish", String, nullable=False),
    Column("code", String, nullable=False),
    Column("givers", Text, nullable=False, server_default=""),
)
"""``givers``: names, each between spaces."""
