"""The ledger as it was before there were migrations."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "config_revisions",
        sa.Column("id", WHOLE, nullable=False),
        sa.Column("file_path", sa.Text(), nullable=False),
        sa.Column("content_text", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.String(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("applied_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "console_sessions",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "item_counts",
        sa.Column("job_run_id", WHOLE, autoincrement=False, nullable=False),
        sa.Column("stage_type", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("count", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("job_run_id", "stage_type", "status"),
    )
    op.create_table(
        "job_logs",
        sa.Column("id", WHOLE, nullable=False),
        sa.Column("sequence", WHOLE, nullable=False),
        sa.Column("job_run_id", WHOLE, nullable=True),
        sa.Column("stage_type", sa.String(), nullable=True),
        sa.Column("service", sa.String(), nullable=False),
        sa.Column("instance", sa.String(), nullable=False),
        sa.Column("level", sa.String(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("item", sa.Text(), nullable=True),
        sa.Column("fields_json", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("job_logs_of_job", "job_logs", ["job_run_id", "id"], unique=False)
    op.create_table(
        "job_runs",
        sa.Column("id", WHOLE, autoincrement=False, nullable=False),
        sa.Column("job_type", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("priority", WHOLE, nullable=False),
        sa.Column("sources", sa.JSON(), nullable=False),
        sa.Column("download_sources", sa.JSON(), nullable=False),
        sa.Column("playlist_scope_json", sa.JSON(), nullable=False),
        sa.Column("upload_backend", sa.String(), nullable=True),
        sa.Column("notes_json", sa.JSON(), nullable=False),
        sa.Column("config_snapshot_json", sa.JSON(), nullable=False),
        sa.Column("trace", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=True),
        sa.Column("ended_at", sa.DateTime(), nullable=True),
        sa.Column("planned", sa.Boolean(), nullable=False),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.Column("swept", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("job_runs_status", "job_runs", ["status"], unique=False)
    op.create_table(
        "job_workers",
        sa.Column("id", WHOLE, nullable=False),
        sa.Column("worker_name", sa.String(), nullable=False),
        sa.Column("service", sa.String(), nullable=False),
        sa.Column("instance", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("service", "instance"),
    )
    op.create_table(
        "projections",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("sequence", WHOLE, nullable=False),
        sa.Column("stream_created", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "schema_info",
        sa.Column("id", WHOLE, nullable=False),
        sa.Column("version", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "job_commands",
        sa.Column("id", WHOLE, nullable=False),
        sa.Column("job_run_id", WHOLE, nullable=False),
        sa.Column("command_type", sa.String(), nullable=False),
        sa.Column("target_item_id", WHOLE, nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("applied_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_run_id"],
            ["job_runs.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("job_commands_status", "job_commands", ["status"], unique=False)
    op.create_table(
        "job_events",
        sa.Column("id", WHOLE, nullable=False),
        sa.Column("job_run_id", WHOLE, nullable=False),
        sa.Column("event_type", sa.String(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_run_id"],
            ["job_runs.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("job_events_of_job", "job_events", ["job_run_id", "id"], unique=False)
    op.create_table(
        "job_stages",
        sa.Column("id", WHOLE, nullable=False),
        sa.Column("job_run_id", WHOLE, nullable=False),
        sa.Column("stage_type", sa.String(), nullable=False),
        sa.Column("seq_no", WHOLE, nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=True),
        sa.Column("ended_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_run_id"],
            ["job_runs.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("job_run_id", "stage_type"),
    )
    op.create_table(
        "job_items",
        sa.Column("id", WHOLE, nullable=False),
        sa.Column("job_run_id", WHOLE, nullable=False),
        sa.Column("job_stage_id", WHOLE, nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("sequence", WHOLE, nullable=False),
        sa.Column("item_type", sa.String(), nullable=False),
        sa.Column("lane", sa.String(), nullable=False),
        sa.Column("item_key", sa.String(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("pool_id", WHOLE, nullable=True),
        sa.Column("playlist_id", WHOLE, nullable=True),
        sa.Column("song_id", WHOLE, nullable=True),
        sa.Column("location_id", WHOLE, nullable=True),
        sa.Column("payload_json", sa.JSON(), nullable=False),
        sa.Column("result_json", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("worker_id", sa.String(), nullable=True),
        sa.Column("tries", WHOLE, nullable=False),
        sa.Column("max_tries", WHOLE, nullable=False),
        sa.Column("interruptions", WHOLE, nullable=False),
        sa.Column("permanent", sa.Boolean(), nullable=False),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("next_try_at", sa.DateTime(), nullable=True),
        sa.Column("queued_at", sa.DateTime(), nullable=True),
        sa.Column("started_at", sa.DateTime(), nullable=True),
        sa.Column("ended_at", sa.DateTime(), nullable=True),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_run_id"],
            ["job_runs.id"],
        ),
        sa.ForeignKeyConstraint(
            ["job_stage_id"],
            ["job_stages.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("subject"),
    )
    op.create_index("job_items_of_job", "job_items", ["job_run_id", "id"], unique=False)
    op.create_index("job_items_of_job_state", "job_items", ["job_run_id", "status", "id"], unique=False)
    op.create_index("job_items_of_stage_state", "job_items", ["job_stage_id", "status", "id"], unique=False)
