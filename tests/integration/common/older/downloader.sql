-- downloader.db as it was made before there were migrations, with a refusal.
CREATE TABLE IF NOT EXISTS rejected_content (
    sha256 TEXT PRIMARY KEY,
    code TEXT NOT NULL,
    message TEXT NOT NULL,
    rejected_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS rejected_content_time ON rejected_content (rejected_at);
INSERT INTO rejected_content VALUES ('aa', 'not-audio', 'It is a web page.', 1767268800.5);
