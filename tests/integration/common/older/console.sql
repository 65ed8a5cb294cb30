-- ops.db as it was made before there were migrations, with a job.
CREATE TABLE config_revisions (
    id INTEGER NOT NULL,
    file_path TEXT NOT NULL,
    content_text TEXT NOT NULL,
    content_hash VARCHAR(64) NOT NULL,
    note TEXT NOT NULL,
    created_at DATETIME NOT NULL,
    applied_at DATETIME,
    PRIMARY KEY (id)
);
CREATE TABLE console_sessions (
    "key" VARCHAR(64) NOT NULL,
    created_at DATETIME NOT NULL,
    expires_at DATETIME NOT NULL,
    PRIMARY KEY ("key")
);
CREATE TABLE item_counts (
    job_run_id INTEGER NOT NULL,
    stage_type VARCHAR(32) NOT NULL,
    status VARCHAR(32) NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (job_run_id, stage_type, status)
);
CREATE TABLE job_logs (
    id INTEGER NOT NULL,
    sequence BIGINT NOT NULL,
    job_run_id BIGINT,
    stage_type VARCHAR(32),
    service VARCHAR(64) NOT NULL,
    instance VARCHAR(96) NOT NULL,
    level VARCHAR(16) NOT NULL,
    event TEXT NOT NULL,
    item TEXT,
    fields_json JSON NOT NULL,
    created_at DATETIME NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX job_logs_of_job ON job_logs (job_run_id, id);
CREATE TABLE job_runs (
    id INTEGER NOT NULL,
    job_type VARCHAR(32) NOT NULL,
    status VARCHAR(32) NOT NULL,
    priority INTEGER NOT NULL,
    sources JSON NOT NULL,
    download_sources JSON NOT NULL,
    playlist_scope_json JSON NOT NULL,
    upload_backend VARCHAR(64),
    notes_json JSON NOT NULL,
    config_snapshot_json JSON NOT NULL,
    trace VARCHAR(64) NOT NULL,
    created_at DATETIME NOT NULL,
    started_at DATETIME,
    ended_at DATETIME,
    planned BOOLEAN NOT NULL,
    closed BOOLEAN NOT NULL,
    swept BOOLEAN NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX job_runs_status ON job_runs (status);
CREATE TABLE job_workers (
    id INTEGER NOT NULL,
    worker_name VARCHAR(96) NOT NULL,
    service VARCHAR(64) NOT NULL,
    instance VARCHAR(96) NOT NULL,
    status VARCHAR(32) NOT NULL,
    started_at DATETIME NOT NULL,
    last_seen_at DATETIME NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (service, instance)
);
CREATE TABLE projections (
    name VARCHAR(32) NOT NULL,
    sequence BIGINT NOT NULL,
    stream_created VARCHAR(64),
    PRIMARY KEY (name)
);
CREATE TABLE schema_info (
    id INTEGER NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE job_commands (
    id INTEGER NOT NULL,
    job_run_id INTEGER NOT NULL,
    command_type VARCHAR(32) NOT NULL,
    target_item_id BIGINT,
    status VARCHAR(32) NOT NULL,
    created_at DATETIME NOT NULL,
    applied_at DATETIME,
    PRIMARY KEY (id),
    FOREIGN KEY(job_run_id) REFERENCES job_runs (id)
);
CREATE INDEX job_commands_status ON job_commands (status);
CREATE TABLE job_events (
    id INTEGER NOT NULL,
    job_run_id INTEGER NOT NULL,
    event_type VARCHAR(64) NOT NULL,
    message TEXT NOT NULL,
    created_at DATETIME NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(job_run_id) REFERENCES job_runs (id)
);
CREATE INDEX job_events_of_job ON job_events (job_run_id, id);
CREATE TABLE job_stages (
    id INTEGER NOT NULL,
    job_run_id INTEGER NOT NULL,
    stage_type VARCHAR(32) NOT NULL,
    seq_no INTEGER NOT NULL,
    status VARCHAR(32) NOT NULL,
    started_at DATETIME,
    ended_at DATETIME,
    PRIMARY KEY (id),
    UNIQUE (job_run_id, stage_type),
    FOREIGN KEY(job_run_id) REFERENCES job_runs (id)
);
CREATE TABLE job_items (
    id INTEGER NOT NULL,
    job_run_id INTEGER NOT NULL,
    job_stage_id INTEGER NOT NULL,
    subject VARCHAR(255) NOT NULL,
    sequence BIGINT NOT NULL,
    item_type VARCHAR(32) NOT NULL,
    lane VARCHAR(64) NOT NULL,
    item_key VARCHAR(128) NOT NULL,
    title TEXT NOT NULL,
    pool_id BIGINT,
    playlist_id BIGINT,
    song_id BIGINT,
    location_id BIGINT,
    payload_json JSON NOT NULL,
    result_json JSON NOT NULL,
    status VARCHAR(32) NOT NULL,
    worker_id VARCHAR(96),
    tries INTEGER NOT NULL,
    max_tries INTEGER NOT NULL,
    interruptions INTEGER NOT NULL,
    permanent BOOLEAN NOT NULL,
    error_code VARCHAR(64),
    last_error TEXT,
    next_try_at DATETIME,
    queued_at DATETIME,
    started_at DATETIME,
    ended_at DATETIME,
    updated_at DATETIME NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(job_run_id) REFERENCES job_runs (id),
    FOREIGN KEY(job_stage_id) REFERENCES job_stages (id),
    UNIQUE (subject)
);
CREATE INDEX job_items_of_job ON job_items (job_run_id, id);
CREATE INDEX job_items_of_job_state ON job_items (job_run_id, status, id);
CREATE INDEX job_items_of_stage_state ON job_items (job_stage_id, status, id);
INSERT INTO schema_info VALUES (1, 1);
INSERT INTO job_runs VALUES (7, 'full', 'completed', 0, '["local"]', '[]', '[]', NULL, '[]', '{"lease_seconds": 3}', 'trace', '2026-01-01 12:00:00.000000', NULL, NULL, 1, 1, 1);
INSERT INTO item_counts VALUES (7, 'download', 'succeeded', 3);
