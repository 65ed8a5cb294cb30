"""The ids that were adopted from an older catalog."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "adopted",
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("platform", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("id", WHOLE, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("kind", "platform", "key", "id"),
        sqlite_with_rowid=False,
    )
