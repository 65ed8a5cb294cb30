"""Which sources might have given what was given up. Of what was given up before, nothing is known: it is asked for
once more."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("given_up", sa.Column("givers", sa.Text(), nullable=False, server_default=""))
