"""Finding the newest failures of a stage over all jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    failed = sa.text("status = 'failed'")
    op.create_index(
        "job_items_failed_of_stage",
        "job_items",
        ["item_type", "id"],
        unique=False,
        sqlite_where=failed,
        postgresql_where=failed,
    )
