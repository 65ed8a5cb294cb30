"""The tables of ``ops.db``. Names and columns are a contract (docs: operations); extra ones may come."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Index,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.engine import Dialect

from common.database import WholeNumber

metadata = MetaData()


class Moment(TypeDecorator[datetime]):
    """An aware time in UTC; SQLite keeps no zone, so it is put back on reading."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC).replace(tzinfo=None) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None else None


schema_info = Table(
    "schema_info",
    metadata,
    Column("id", WholeNumber, primary_key=True),
    Column("version", WholeNumber, nullable=False),
)
"""Where databases from before the migrations kept a version; it stays 1."""

job_runs = Table(
    "job_runs",
    metadata,
    Column("id", WholeNumber, primary_key=True, autoincrement=False),
    Column("job_type", String, nullable=False),
    Column("status", String, nullable=False),
    Column("priority", WholeNumber, nullable=False, default=0),
    Column("sources", JSON, nullable=False),
    Column("download_sources", JSON, nullable=False),
    Column("playlist_scope_json", JSON, nullable=False),
    Column("pool_scope_json", JSON, nullable=False, server_default="[]"),
    Column("upload_backend", String),
    Column("kept_settings_json", JSON),
    Column("notes_json", JSON, nullable=False),
    Column("config_snapshot_json", JSON, nullable=False),
    Column("trace", String, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("started_at", Moment),
    Column("ended_at", Moment),
    Column("planned", Boolean, nullable=False, default=False),
    Column("closed", Boolean, nullable=False, default=False),
    Column("swept", Boolean, nullable=False, default=False),
    Index("job_runs_status", "status"),
)

job_stages = Table(
    "job_stages",
    metadata,
    Column("id", WholeNumber, primary_key=True),
    Column("job_run_id", ForeignKey("job_runs.id"), nullable=False),
    Column("stage_type", String, nullable=False),
    Column("seq_no", WholeNumber, nullable=False),
    Column("status", String, nullable=False),
    Column("started_at", Moment),
    Column("ended_at", Moment),
    UniqueConstraint("job_run_id", "stage_type"),
)

job_items = Table(
    "job_items",
    metadata,
    Column("id", WholeNumber, primary_key=True),
    Column("job_run_id", ForeignKey("job_runs.id"), nullable=False),
    Column("job_stage_id", ForeignKey("job_stages.id"), nullable=False),
    Column("subject", String, nullable=False, unique=True),
    Column("sequence", WholeNumber, nullable=False),
    Column("item_type", String, nullable=False),
    Column("lane", String, nullable=False),
    Column("item_key", String, nullable=False),
    Column("title", Text, nullable=False),
    Column("pool_id", WholeNumber),
    Column("playlist_id", WholeNumber),
    Column("song_id", WholeNumber),
    Column("location_id", WholeNumber),
    Column("payload_json", JSON, nullable=False),
    Column("result_json", JSON, nullable=False),
    Column("status", String, nullable=False),
    Column("worker_id", String),
    Column("tries", WholeNumber, nullable=False),
    Column("max_tries", WholeNumber, nullable=False),
    Column("interruptions", WholeNumber, nullable=False),
    Column("permanent", Boolean, nullable=False),
    Column("error_code", String),
    Column("last_error", Text),
    Column("next_try_at", Moment),
    Column("queued_at", Moment),
    Column("started_at", Moment),
    Column("ended_at", Moment),
    Column("updated_at", Moment, nullable=False),
    # Lists page by id within a job, a job and state, a stage, a stage and state.
    Index("job_items_of_job", "job_run_id", "id"),
    Index("job_items_of_stage", "job_stage_id", "id"),
    Index("job_items_of_job_state", "job_run_id", "status", "id"),
    Index("job_items_of_stage_state", "job_stage_id", "status", "id"),
    # Items set aside until a time, to be put back into the queue.
    Index(
        "job_items_due",
        "job_run_id",
        "next_try_at",
        sqlite_where=text("next_try_at IS NOT NULL"),
        postgresql_where=text("next_try_at IS NOT NULL"),
    ),
    # What failed, by kind of error.
    Index(
        "job_items_failed",
        "job_run_id",
        "error_code",
        "id",
        sqlite_where=text("status = 'failed'"),
        postgresql_where=text("status = 'failed'"),
    ),
    # The same over all jobs, the newest first.
    Index(
        "job_items_failed_of_stage",
        "item_type",
        "id",
        sqlite_where=text("status = 'failed'"),
        postgresql_where=text("status = 'failed'"),
    ),
)

item_counts = Table(
    "item_counts",
    metadata,
    Column("job_run_id", WholeNumber, primary_key=True, autoincrement=False),
    Column("stage_type", String, primary_key=True),
    Column("status", String, primary_key=True),
    Column("count", WholeNumber, nullable=False),
)
"""Kept with the items in one transaction: counting a million rows for every look would not do."""

projections = Table(
    "projections",
    metadata,
    Column("name", String, primary_key=True),
    Column("sequence", WholeNumber, nullable=False),
    Column("stream_created", String),
)

job_workers = Table(
    "job_workers",
    metadata,
    Column("id", WholeNumber, primary_key=True),
    Column("worker_name", String, nullable=False),
    Column("service", String, nullable=False),
    Column("instance", String, nullable=False),
    Column("status", String, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("last_seen_at", Moment, nullable=False),
    UniqueConstraint("service", "instance"),
)

job_commands = Table(
    "job_commands",
    metadata,
    Column("id", WholeNumber, primary_key=True),
    Column("job_run_id", ForeignKey("job_runs.id"), nullable=False),
    Column("command_type", String, nullable=False),
    Column("target_item_id", WholeNumber),
    Column("error_code", String),
    Column("status", String, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("applied_at", Moment),
    Index("job_commands_status", "status"),
)

job_events = Table(
    "job_events",
    metadata,
    Column("id", WholeNumber, primary_key=True),
    Column("job_run_id", ForeignKey("job_runs.id"), nullable=False),
    Column("event_type", String, nullable=False),
    Column("message", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Index("job_events_of_job", "job_run_id", "id"),
)

job_logs = Table(
    "job_logs",
    metadata,
    Column("id", WholeNumber, primary_key=True),
    Column("sequence", WholeNumber, nullable=False),
    Column("job_run_id", WholeNumber),
    Column("stage_type", String),
    Column("service", String, nullable=False),
    Column("instance", String, nullable=False),
    Column("level", String, nullable=False),
    Column("event", Text, nullable=False),
    Column("item", Text),
    Column("fields_json", JSON, nullable=False),
    Column("created_at", Moment, nullable=False),
    Index("job_logs_of_job", "job_run_id", "id"),
)

job_schedules = Table(
    "job_schedules",
    metadata,
    Column("id", WholeNumber, primary_key=True),
    Column("name", Text, nullable=False),
    Column("job_type", String, nullable=False),
    Column("sources", JSON, nullable=False),
    Column("download_sources", JSON, nullable=False),
    Column("pool_scope_json", JSON, nullable=False),
    Column("priority", WholeNumber, nullable=False),
    Column("cron", String),
    Column("every_seconds", WholeNumber),
    Column("jitter_seconds", WholeNumber, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("next_at", Moment, nullable=False),
    Column("last_at", Moment),
    Column("last_job_run_id", WholeNumber),
    Column("note", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
)

config_revisions = Table(
    "config_revisions",
    metadata,
    Column("id", WholeNumber, primary_key=True),
    Column("file_path", Text, nullable=False),
    Column("content_text", Text, nullable=False),
    Column("content_hash", String, nullable=False),
    Column("note", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("applied_at", Moment),
)

sessions = Table(
    "console_sessions",
    metadata,
    Column("key", String, primary_key=True),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
)
