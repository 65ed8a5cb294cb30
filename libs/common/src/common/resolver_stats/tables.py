"""The tables of ``resolver_stats.db``: the exact counters as they always were, and the fading sums beside them."""

from __future__ import annotations

from sqlalchemy import REAL, Column, Double, Index, MetaData, Table, Text, text
from sqlalchemy.types import TypeEngine

from common.database import WholeNumber

SECONDS: TypeEngine[float] = Double().with_variant(REAL(), "sqlite")

metadata = MetaData()

resolver_source_stats = Table(
    "resolver_source_stats",
    metadata,
    Column("origin_source", Text, primary_key=True),
    Column("candidate_source", Text, primary_key=True),
    Column("attempt_count", WholeNumber, nullable=False, server_default=text("0")),
    Column("resolve_success_count", WholeNumber, nullable=False, server_default=text("0")),
    Column("last_attempt_at", Text),
    Column("last_success_at", Text),
    Column("created_at", Text, nullable=False),
    Column("updated_at", Text, nullable=False),
    Index("ix_resolver_source_stats_origin", "origin_source"),
)
"""Exact counts, never faded; times in RFC 3339, UTC."""

resolver_source_recent = Table(
    "resolver_source_recent",
    metadata,
    Column("origin_source", Text, primary_key=True),
    Column("candidate_source", Text, primary_key=True),
    Column("attempts", SECONDS, nullable=False),
    Column("successes", SECONDS, nullable=False),
    Column("as_of", SECONDS, nullable=False),
    Column("verified_count", WholeNumber, nullable=False),
    Column("refuted_count", WholeNumber, nullable=False),
)
"""``attempts`` and ``successes`` as they had faded at ``as_of`` (seconds since the epoch), and how often the bytes of
a success were verified or refused afterwards."""
