"""What searches for a song found, for a person to choose from."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

DOUBLE: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "song_matches",
        sa.Column("song_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("place", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("remote_id", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("score", DOUBLE, nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("found", sa.JSON(), nullable=False),
        sa.Column("judged_at", DOUBLE, nullable=False),
        sa.PrimaryKeyConstraint("song_id", "place"),
    )
    op.create_index("song_matches_time", "song_matches", ["judged_at"], unique=False)
    op.create_table(
        "song_searches",
        sa.Column("song_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("asked", sa.JSON(), nullable=False),
        sa.Column("searched_at", DOUBLE, nullable=False),
        sa.PrimaryKeyConstraint("song_id"),
    )
    op.create_index("song_searches_time", "song_searches", ["searched_at"], unique=False)
