"""Retrying all that failed of a job, or all that failed by one kind of error."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("job_commands", sa.Column("error_code", sa.String(), nullable=True))
    op.create_index(
        "job_items_failed",
        "job_items",
        ["job_run_id", "error_code", "id"],
        sqlite_where=sa.text("status = 'failed'"),
        postgresql_where=sa.text("status = 'failed'"),
    )
