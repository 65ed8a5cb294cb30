-- collector.db as it was made before there were migrations, with a song.
CREATE TABLE entries (
    playlist_id INTEGER NOT NULL,
    page INTEGER NOT NULL,
    position INTEGER NOT NULL,
    song_id INTEGER NOT NULL,
    PRIMARY KEY (playlist_id, page, position)
)
 WITHOUT ROWID;
CREATE INDEX entries_by_song ON entries (song_id, playlist_id, page);
CREATE TABLE given_up (
    song_id INTEGER NOT NULL,
    wish VARCHAR NOT NULL,
    code VARCHAR NOT NULL,
    PRIMARY KEY (song_id)
);
CREATE TABLE meta (
    "key" VARCHAR NOT NULL,
    value VARCHAR NOT NULL,
    PRIMARY KEY ("key")
);
CREATE TABLE pages (
    playlist_id INTEGER NOT NULL,
    page INTEGER NOT NULL,
    version INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (playlist_id, page)
)
 WITHOUT ROWID;
CREATE TABLE playlists (
    playlist_id INTEGER NOT NULL,
    platform VARCHAR NOT NULL,
    remote_id VARCHAR NOT NULL,
    pages INTEGER NOT NULL,
    header TEXT NOT NULL,
    fingerprint VARCHAR,
    removed BOOLEAN NOT NULL,
    PRIMARY KEY (playlist_id)
);
CREATE TABLE pool_playlists (
    pool_id INTEGER NOT NULL,
    position INTEGER NOT NULL,
    playlist_id INTEGER NOT NULL,
    PRIMARY KEY (pool_id, position)
)
 WITHOUT ROWID;
CREATE INDEX pool_playlists_by_playlist ON pool_playlists (playlist_id);
CREATE TABLE pools (
    pool_id INTEGER NOT NULL,
    platform VARCHAR NOT NULL,
    external_id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    digest VARCHAR NOT NULL,
    revision INTEGER NOT NULL,
    removed BOOLEAN NOT NULL,
    PRIMARY KEY (pool_id)
);
CREATE TABLE songs (
    song_id INTEGER NOT NULL,
    platform VARCHAR NOT NULL,
    remote_id VARCHAR NOT NULL,
    fingerprint VARCHAR,
    digest VARCHAR NOT NULL,
    wish VARCHAR NOT NULL,
    owner INTEGER,
    listing TEXT NOT NULL,
    revision INTEGER NOT NULL,
    removed BOOLEAN NOT NULL,
    PRIMARY KEY (song_id)
);
CREATE TABLE stored (
    song_id INTEGER NOT NULL,
    variant VARCHAR NOT NULL,
    backend VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    sha256 VARCHAR NOT NULL,
    listing_fingerprint VARCHAR,
    payload TEXT NOT NULL,
    revision INTEGER NOT NULL,
    removed BOOLEAN NOT NULL,
    PRIMARY KEY (song_id, variant, backend)
)
 WITHOUT ROWID;
INSERT INTO meta VALUES ('schema', '1'), ('catalog', '12 stream');
INSERT INTO songs VALUES (5, 'local', 'a.mp3', 'f', 'd', 'w', NULL, '{}', 1, 0);
