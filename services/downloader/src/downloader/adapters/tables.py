"""The tables of ``downloader.db`` or of the downloader's schema in PostgreSQL."""

from __future__ import annotations

from sqlalchemy import JSON, REAL, BigInteger, Column, Double, Index, Integer, MetaData, Table, Text
from sqlalchemy.types import TypeEngine

metadata = MetaData()

_REAL: TypeEngine[float] = Double().with_variant(REAL(), "sqlite")

rejected_content = Table(
    "rejected_content",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("rejected_at", _REAL, nullable=False),
    Index("rejected_content_time", "rejected_at"),
    sqlite_with_rowid=False,
)

song_searches = Table(
    "song_searches",
    metadata,
    Column("song_id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=False),
    Column("job_id", BigInteger().with_variant(Integer(), "sqlite"), nullable=False),
    Column("asked", JSON, nullable=False),
    Column("searched_at", _REAL, nullable=False),
    Index("song_searches_time", "searched_at"),
)

song_matches = Table(
    "song_matches",
    metadata,
    Column("song_id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=False),
    Column("place", Integer, primary_key=True, autoincrement=False),
    Column("source", Text, nullable=False),
    Column("remote_id", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("score", _REAL, nullable=False),
    Column("reasons", JSON, nullable=False),
    Column("found", JSON, nullable=False),
    Column("judged_at", _REAL, nullable=False),
    Index("song_matches_time", "judged_at"),
)
