"""An index for the items that wait for a time of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_index(
        "job_items_due",
        "job_items",
        ["job_run_id", "next_try_at"],
        sqlite_where=sa.text("next_try_at IS NOT NULL"),
        postgresql_where=sa.text("next_try_at IS NOT NULL"),
        # Development versions made it before there were migrations.
        if_not_exists=True,
    )
