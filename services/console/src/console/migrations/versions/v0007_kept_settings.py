"""What a job keeps of the downloaders' settings."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("job_runs", sa.Column("kept_settings_json", sa.JSON(), nullable=True))
