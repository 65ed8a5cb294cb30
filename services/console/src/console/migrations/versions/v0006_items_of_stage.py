"""Listing the items of one stage."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_index("job_items_of_stage", "job_items", ["job_stage_id", "id"], unique=False)
