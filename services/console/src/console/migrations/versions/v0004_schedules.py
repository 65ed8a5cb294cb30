"""Schedules, and jobs of single pools."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("job_runs", sa.Column("pool_scope_json", sa.JSON(), nullable=False, server_default="[]"))
    op.create_table(
        "job_schedules",
        sa.Column("id", WHOLE, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("job_type", sa.String(), nullable=False),
        sa.Column("sources", sa.JSON(), nullable=False),
        sa.Column("download_sources", sa.JSON(), nullable=False),
        sa.Column("pool_scope_json", sa.JSON(), nullable=False),
        sa.Column("priority", WHOLE, nullable=False),
        sa.Column("cron", sa.String(), nullable=True),
        sa.Column("every_seconds", WHOLE, nullable=True),
        sa.Column("jitter_seconds", WHOLE, nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("next_at", sa.DateTime(), nullable=False),
        sa.Column("last_at", sa.DateTime(), nullable=True),
        sa.Column("last_job_run_id", WHOLE, nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
