"""Sums that fade, begun with what is counted already; and the index, which an older database may lack."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
DOUBLE: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")


def upgrade() -> None:
    op.create_index("ix_resolver_source_stats_origin", "resolver_source_stats", ["origin_source"], if_not_exists=True)
    op.create_table(
        "resolver_source_recent",
        sa.Column("origin_source", sa.Text(), nullable=False),
        sa.Column("candidate_source", sa.Text(), nullable=False),
        sa.Column("attempts", DOUBLE, nullable=False),
        sa.Column("successes", DOUBLE, nullable=False),
        sa.Column("as_of", DOUBLE, nullable=False),
        sa.Column("verified_count", WHOLE, nullable=False),
        sa.Column("refuted_count", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("origin_source", "candidate_source"),
    )
    op.execute(
        sa.text(
            "INSERT INTO resolver_source_recent SELECT origin_source, candidate_source, coalesce(attempt_count, 0), "
            "coalesce(resolve_success_count, 0), :now, 0, 0 FROM resolver_source_stats"
        ).bindparams(now=time.time())
    )
