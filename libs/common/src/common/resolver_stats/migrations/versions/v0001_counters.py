"""The counters as the older system has them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "resolver_source_stats",
        sa.Column("origin_source", sa.Text(), nullable=False),
        sa.Column("candidate_source", sa.Text(), nullable=False),
        sa.Column("attempt_count", WHOLE, server_default=sa.text("0"), nullable=False),
        sa.Column("resolve_success_count", WHOLE, server_default=sa.text("0"), nullable=False),
        sa.Column("last_attempt_at", sa.Text(), nullable=True),
        sa.Column("last_success_at", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("origin_source", "candidate_source"),
    )
