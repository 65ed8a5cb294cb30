"""The record as it was before there were migrations."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "entries",
        sa.Column("playlist_id", WHOLE, nullable=False),
        sa.Column("page", WHOLE, nullable=False),
        sa.Column("position", WHOLE, nullable=False),
        sa.Column("song_id", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("playlist_id", "page", "position"),
        sqlite_with_rowid=False,
    )
    op.create_index("entries_by_song", "entries", ["song_id", "playlist_id", "page"], unique=False)
    op.create_table(
        "given_up",
        sa.Column("song_id", WHOLE, autoincrement=False, nullable=False),
        sa.Column("wish", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("song_id"),
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "pages",
        sa.Column("playlist_id", WHOLE, nullable=False),
        sa.Column("page", WHOLE, nullable=False),
        sa.Column("version", WHOLE, nullable=False),
        sa.Column("revision", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("playlist_id", "page"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "playlists",
        sa.Column("playlist_id", WHOLE, autoincrement=False, nullable=False),
        sa.Column("platform", sa.String(), nullable=False),
        sa.Column("remote_id", sa.String(), nullable=False),
        sa.Column("pages", WHOLE, nullable=False),
        sa.Column("header", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=True),
        sa.Column("removed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("playlist_id"),
    )
    op.create_table(
        "pool_playlists",
        sa.Column("pool_id", WHOLE, nullable=False),
        sa.Column("position", WHOLE, nullable=False),
        sa.Column("playlist_id", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("pool_id", "position"),
        sqlite_with_rowid=False,
    )
    op.create_index("pool_playlists_by_playlist", "pool_playlists", ["playlist_id"], unique=False)
    op.create_table(
        "pools",
        sa.Column("pool_id", WHOLE, autoincrement=False, nullable=False),
        sa.Column("platform", sa.String(), nullable=False),
        sa.Column("external_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("revision", WHOLE, nullable=False),
        sa.Column("removed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("pool_id"),
    )
    op.create_table(
        "songs",
        sa.Column("song_id", WHOLE, autoincrement=False, nullable=False),
        sa.Column("platform", sa.String(), nullable=False),
        sa.Column("remote_id", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=True),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("wish", sa.String(), nullable=False),
        sa.Column("owner", WHOLE, nullable=True),
        sa.Column("listing", sa.Text(), nullable=False),
        sa.Column("revision", WHOLE, nullable=False),
        sa.Column("removed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("song_id"),
    )
    op.create_table(
        "stored",
        sa.Column("song_id", WHOLE, nullable=False),
        sa.Column("variant", sa.String(), nullable=False),
        sa.Column("backend", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("listing_fingerprint", sa.String(), nullable=True),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("revision", WHOLE, nullable=False),
        sa.Column("removed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("song_id", "variant", "backend"),
        sqlite_with_rowid=False,
    )
