"""The tables of ``ops.db``. Names and columns are a contract (docs: operations); extra ones may come."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect

SCHEMA_VERSION = 1

metadata = MetaData()


class Moment(TypeDecorator[datetime]):
    """An aware time in UTC; SQLite keeps no zone, so it is put back on reading."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC).replace(tzinfo=None) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None else None


BigId = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts up only a column that is called INTEGER; its integers have 64 bits anyway."""

schema_info = Table(
    "schema_info",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("version", Integer, nullable=False),
)

job_runs = Table(
    "job_runs",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=False),
    Column("job_type", String(32), nullable=False),
    Column("status", String(32), nullable=False),
    Column("priority", Integer, nullable=False, default=0),
    Column("sources", JSON, nullable=False),
    Column("download_sources", JSON, nullable=False),
    Column("playlist_scope_json", JSON, nullable=False),
    Column("upload_backend", String(64)),
    Column("notes_json", JSON, nullable=False),
    Column("config_snapshot_json", JSON, nullable=False),
    Column("trace", String(64), nullable=False),
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
    Column("id", BigId, primary_key=True),
    Column("job_run_id", ForeignKey("job_runs.id"), nullable=False),
    Column("stage_type", String(32), nullable=False),
    Column("seq_no", Integer, nullable=False),
    Column("status", String(32), nullable=False),
    Column("started_at", Moment),
    Column("ended_at", Moment),
    UniqueConstraint("job_run_id", "stage_type"),
)

job_items = Table(
    "job_items",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("job_run_id", ForeignKey("job_runs.id"), nullable=False),
    Column("job_stage_id", ForeignKey("job_stages.id"), nullable=False),
    Column("subject", String(255), nullable=False, unique=True),
    Column("sequence", BigInteger, nullable=False),
    Column("item_type", String(32), nullable=False),
    Column("lane", String(64), nullable=False),
    Column("item_key", String(128), nullable=False),
    Column("title", Text, nullable=False),
    Column("pool_id", BigInteger),
    Column("playlist_id", BigInteger),
    Column("song_id", BigInteger),
    Column("location_id", BigInteger),
    Column("payload_json", JSON, nullable=False),
    Column("result_json", JSON, nullable=False),
    Column("status", String(32), nullable=False),
    Column("worker_id", String(96)),
    Column("tries", Integer, nullable=False),
    Column("max_tries", Integer, nullable=False),
    Column("interruptions", Integer, nullable=False),
    Column("permanent", Boolean, nullable=False),
    Column("error_code", String(64)),
    Column("last_error", Text),
    Column("next_try_at", Moment),
    Column("queued_at", Moment),
    Column("started_at", Moment),
    Column("ended_at", Moment),
    Column("updated_at", Moment, nullable=False),
    # Lists page by id within a job, a job and state, a stage and state.
    Index("job_items_of_job", "job_run_id", "id"),
    Index("job_items_of_job_state", "job_run_id", "status", "id"),
    Index("job_items_of_stage_state", "job_stage_id", "status", "id"),
)

item_counts = Table(
    "item_counts",
    metadata,
    Column("job_run_id", BigId, primary_key=True, autoincrement=False),
    Column("stage_type", String(32), primary_key=True),
    Column("status", String(32), primary_key=True),
    Column("count", BigInteger, nullable=False),
)
"""Kept with the items in one transaction: counting a million rows for every look would not do."""

projections = Table(
    "projections",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("stream_created", String(64)),
)

job_workers = Table(
    "job_workers",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("worker_name", String(96), nullable=False),
    Column("service", String(64), nullable=False),
    Column("instance", String(96), nullable=False),
    Column("status", String(32), nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("last_seen_at", Moment, nullable=False),
    UniqueConstraint("service", "instance"),
)

job_commands = Table(
    "job_commands",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("job_run_id", ForeignKey("job_runs.id"), nullable=False),
    Column("command_type", String(32), nullable=False),
    Column("target_item_id", BigInteger),
    Column("status", String(32), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("applied_at", Moment),
    Index("job_commands_status", "status"),
)

job_events = Table(
    "job_events",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("job_run_id", ForeignKey("job_runs.id"), nullable=False),
    Column("event_type", String(64), nullable=False),
    Column("message", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Index("job_events_of_job", "job_run_id", "id"),
)

job_logs = Table(
    "job_logs",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("job_run_id", BigInteger),
    Column("stage_type", String(32)),
    Column("service", String(64), nullable=False),
    Column("instance", String(96), nullable=False),
    Column("level", String(16), nullable=False),
    Column("event", Text, nullable=False),
    Column("item", Text),
    Column("fields_json", JSON, nullable=False),
    Column("created_at", Moment, nullable=False),
    Index("job_logs_of_job", "job_run_id", "id"),
)

config_revisions = Table(
    "config_revisions",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("file_path", Text, nullable=False),
    Column("content_text", Text, nullable=False),
    Column("content_hash", String(64), nullable=False),
    Column("note", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("applied_at", Moment),
)

sessions = Table(
    "console_sessions",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
)
