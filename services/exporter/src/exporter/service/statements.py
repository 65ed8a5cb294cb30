"""The SQL that derives the catalog's rows from the facts, for the keys that a batch touched.

A row is a function of the last values alone: pinned > described > stored > listed. All statements
work on sets, with the touched keys in temporary tables.
"""

from __future__ import annotations

TEMPORARY = """
CREATE TEMP TABLE dirty_songs (id INTEGER PRIMARY KEY);
CREATE TEMP TABLE dirty_playlists (id INTEGER PRIMARY KEY);
CREATE TEMP TABLE dirty_pools (id INTEGER PRIMARY KEY);
CREATE TEMP TABLE known_backends (backend TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE song_files (
    song_id INTEGER, variant TEXT, backend TEXT, asset_id INTEGER, location_id INTEGER, backend_id INTEGER,
    place INTEGER, -- 1 is the copy that speaks for its asset
    PRIMARY KEY (song_id, variant, place)
) WITHOUT ROWID;
CREATE TEMP TABLE heads (
    playlist_id INTEGER PRIMARY KEY, platform TEXT, remote_id TEXT, version INTEGER, pages INTEGER, whole INTEGER
);
"""

# The backends that any file fact names, by searching for the next one: there are few, and many facts.
KNOWN_BACKENDS = """
WITH RECURSIVE next(backend) AS (
    SELECT min(backend) FROM fact_files
    UNION ALL
    SELECT (SELECT min(backend) FROM fact_files WHERE backend > next.backend) FROM next WHERE backend IS NOT NULL
)
SELECT backend, (SELECT backend_kind FROM fact_files f WHERE f.backend = next.backend LIMIT 1)
FROM next WHERE backend IS NOT NULL
"""

# ---- songs ----------------------------------------------------------------------------------

# The next ones of all, in order.
NEXT_SONGS = "SELECT song_id FROM fact_songs_listed WHERE song_id > ? ORDER BY song_id LIMIT ?"
NEXT_PLAYLISTS = (
    "SELECT DISTINCT playlist_id FROM fact_playlist_pages WHERE playlist_id > ? ORDER BY playlist_id LIMIT ?"
)
ALL_POOLS = "SELECT pool_id FROM fact_pools"

# A song whose key another id holds already: both must be looked at again.
SONGS_OF_THE_SAME_KEY = """
INSERT OR IGNORE INTO temp.dirty_songs
SELECT s.id FROM temp.dirty_songs d
CROSS JOIN fact_songs_listed l ON l.song_id = d.id
CROSS JOIN songs s ON s.platform = l.platform AND s.remote_song_id = l.remote_id
WHERE s.id <> d.id
"""
SONGS_KEPT_OUT = """
INSERT OR IGNORE INTO temp.dirty_songs
SELECT p.item_id FROM projection_problems p
JOIN songs s ON s.platform = p.platform AND s.remote_song_id = p.remote_id
WHERE p.kind = 'song' AND s.id IN (SELECT id FROM temp.dirty_songs)
"""
DELETE_DIRTY_SONGS = "DELETE FROM songs WHERE id IN (SELECT id FROM temp.dirty_songs)"
# Withdrawn, or withdrawn and then listed again as another one.
DELETE_WITHDRAWN_SONGS = """
DELETE FROM songs WHERE id IN (
    SELECT d.id FROM temp.dirty_songs d
    CROSS JOIN fact_songs_listed l ON l.song_id = d.id
    CROSS JOIN songs s ON s.id = d.id
    WHERE l.removed OR s.platform <> l.platform OR s.remote_song_id <> l.remote_id
)
"""

SONG_FILES = """
INSERT INTO temp.song_files
SELECT f.song_id, f.variant, f.backend, f.asset_id, f.location_id,
       (SELECT id FROM storage_backends k WHERE k.name = f.backend),
       row_number() OVER (
           PARTITION BY f.song_id, f.variant
           ORDER BY f.backend <> 'library', f.backend_kind <> 'filesystem', f.backend
       )
FROM temp.dirty_songs d
CROSS JOIN fact_songs_listed l ON l.song_id = d.id
CROSS JOIN temp.known_backends b
CROSS JOIN fact_files f ON f.backend = b.backend AND f.song_id = d.id
WHERE NOT f.removed AND NOT l.removed
"""

# The file that speaks for the song: of the main variant if there is one.
UPSERT_SONGS = """
INSERT INTO songs (id, platform, remote_song_id, name, singers, ext, file_size_bytes, metadata_json)
SELECT l.song_id, l.platform, l.remote_id,
       coalesce(p.name, c.name, f.title, l.name),
       coalesce(p.singers, c.singers, f.singers, l.singers),
       coalesce(f.ext, l.ext),
       coalesce(f.size, l.size),
       song_metadata(l.metadata, l.album, l.duration_seconds, l.metadata_status, f.format, f.album, c.metadata, c.album)
FROM temp.dirty_songs d
CROSS JOIN fact_songs_listed l ON l.song_id = d.id
LEFT JOIN fact_songs_described c ON c.song_id = d.id AND NOT c.removed
LEFT JOIN fact_songs_pinned p ON p.song_id = d.id AND NOT p.removed
LEFT JOIN temp.song_files s ON s.song_id = d.id AND s.place = 1 AND s.variant = coalesce(
    (SELECT variant FROM temp.song_files m WHERE m.song_id = d.id AND m.variant = 'main' LIMIT 1),
    (SELECT min(variant) FROM temp.song_files m WHERE m.song_id = d.id)
)
LEFT JOIN fact_files f ON f.backend = s.backend AND f.song_id = s.song_id AND f.variant = s.variant
WHERE NOT l.removed
ORDER BY d.id
ON CONFLICT (id) DO UPDATE SET -- not the key: naming its columns here would write its index anew for each song
    name = excluded.name, singers = excluded.singers, ext = excluded.ext, file_size_bytes = excluded.file_size_bytes,
    metadata_json = excluded.metadata_json
WHERE (songs.name, songs.singers, songs.ext, songs.file_size_bytes, songs.metadata_json)
   IS NOT (excluded.name, excluded.singers, excluded.ext, excluded.file_size_bytes, excluded.metadata_json)
ON CONFLICT (platform, remote_song_id) DO NOTHING
"""
SONGS_LEFT_OUT = """
SELECT l.song_id, l.platform, l.remote_id, l.sequence, s.id
FROM temp.dirty_songs d
CROSS JOIN fact_songs_listed l ON l.song_id = d.id
LEFT JOIN songs s ON s.platform = l.platform AND s.remote_song_id = l.remote_id
WHERE NOT l.removed AND d.id NOT IN (SELECT id FROM songs)
"""

DELETE_LOCATIONS = """
DELETE FROM file_locations WHERE id IN (
    SELECT o.id FROM temp.dirty_songs d
    CROSS JOIN file_assets a ON a.song_id = d.id
    CROSS JOIN file_locations o ON o.file_asset_id = a.id
    WHERE NOT EXISTS (
        SELECT 1 FROM temp.song_files s
        WHERE s.song_id = d.id AND s.location_id = o.id AND s.song_id IN (SELECT id FROM songs)
    )
)
"""
DELETE_ASSETS = """
DELETE FROM file_assets WHERE id IN (
    SELECT a.id FROM temp.dirty_songs d
    CROSS JOIN file_assets a ON a.song_id = d.id
    WHERE NOT EXISTS (
        SELECT 1 FROM temp.song_files s
        WHERE s.song_id = d.id AND s.asset_id = a.id AND s.place = 1 AND s.song_id IN (SELECT id FROM songs)
    )
)
"""
UPSERT_ASSETS = """
INSERT INTO file_assets (id, song_id, quality_label, ext, file_size_bytes)
SELECT s.asset_id, s.song_id, f.quality_label, f.ext, f.size
FROM temp.song_files s
CROSS JOIN fact_files f ON f.backend = s.backend AND f.song_id = s.song_id AND f.variant = s.variant
WHERE s.place = 1 AND +s.song_id IN (SELECT id FROM songs) -- by the few touched ones, not by all songs
ORDER BY s.asset_id, s.song_id, s.variant
ON CONFLICT (id) DO UPDATE SET
    quality_label = excluded.quality_label, ext = excluded.ext, file_size_bytes = excluded.file_size_bytes
WHERE file_assets.song_id = excluded.song_id
  AND (file_assets.quality_label, file_assets.ext, file_assets.file_size_bytes)
      IS NOT (excluded.quality_label, excluded.ext, excluded.file_size_bytes)
"""
# Those that belong to another asset now.
DELETE_MOVED_LOCATIONS = """
DELETE FROM file_locations WHERE id IN (
    SELECT o.id FROM temp.song_files s
    CROSS JOIN temp.song_files m ON m.song_id = s.song_id AND m.variant = s.variant AND m.place = 1
    CROSS JOIN file_locations o ON o.id = s.location_id
    WHERE o.file_asset_id <> m.asset_id
)
"""
UPSERT_LOCATIONS = """
INSERT INTO file_locations (id, file_asset_id, backend_id, locator, status, is_primary)
SELECT s.location_id, m.asset_id, s.backend_id, f.locator, 'active', s.place = 1
FROM temp.song_files s
CROSS JOIN temp.song_files m ON m.song_id = s.song_id AND m.variant = s.variant AND m.place = 1
CROSS JOIN file_assets a ON a.id = m.asset_id AND a.song_id = s.song_id
CROSS JOIN fact_files f ON f.backend = s.backend AND f.song_id = s.song_id AND f.variant = s.variant
WHERE true
ORDER BY s.location_id, s.song_id, s.variant
ON CONFLICT (id) DO UPDATE SET -- not the asset, for the sake of its index
    backend_id = excluded.backend_id, locator = excluded.locator, status = excluded.status,
    is_primary = excluded.is_primary
WHERE file_locations.file_asset_id = excluded.file_asset_id
  AND (file_locations.backend_id, file_locations.locator, file_locations.status, file_locations.is_primary)
      IS NOT (excluded.backend_id, excluded.locator, excluded.status, excluded.is_primary)
"""
ASSETS_LEFT_OUT = """
SELECT s.song_id, s.variant, s.backend, s.asset_id, f.sequence, a.song_id
FROM temp.song_files s
CROSS JOIN file_assets a ON a.id = s.asset_id
CROSS JOIN fact_files f ON f.backend = s.backend AND f.song_id = s.song_id AND f.variant = s.variant
WHERE a.song_id <> s.song_id
"""

# ---- playlists ------------------------------------------------------------------------------

PLAYLISTS_OF_THE_SAME_KEY = """
INSERT OR IGNORE INTO temp.dirty_playlists
SELECT p.id FROM temp.dirty_playlists d
CROSS JOIN fact_playlist_pages f ON f.playlist_id = d.id AND f.page = 0
CROSS JOIN playlists p ON p.platform = f.platform AND p.remote_playlist_id = f.remote_id
WHERE p.id <> d.id
"""
PLAYLISTS_KEPT_OUT = """
INSERT OR IGNORE INTO temp.dirty_playlists
SELECT q.item_id FROM projection_problems q
WHERE q.kind = 'playlist' AND EXISTS (
    SELECT 1 FROM playlists p
    WHERE p.platform = q.platform AND p.remote_playlist_id = q.remote_id
      AND p.id IN (SELECT id FROM temp.dirty_playlists)
)
"""
# Page 0 stands for its playlist. Of two with one id or one key, the first by platform or id holds it.
HEADS = """
INSERT INTO temp.heads
WITH live AS (
    SELECT f.*, row_number() OVER (PARTITION BY f.playlist_id ORDER BY f.platform) AS place
    FROM temp.dirty_playlists d
    CROSS JOIN fact_playlist_pages f ON f.playlist_id = d.id
    WHERE f.page = 0 AND NOT f.removed AND f.name IS NOT NULL
), first AS (
    SELECT *, row_number() OVER (PARTITION BY platform, remote_id ORDER BY playlist_id) AS claim
    FROM live WHERE place = 1
)
SELECT playlist_id, platform, remote_id, version, pages, pages = (
    SELECT count(*) FROM fact_playlist_pages p
    WHERE p.playlist_id = first.playlist_id AND p.platform = first.platform AND p.page < first.pages
      AND p.version = first.version AND p.remote_id = first.remote_id AND NOT p.removed
)
FROM first WHERE claim = 1
"""
HEADS_LEFT_OUT = """
SELECT f.playlist_id, f.platform, f.remote_id, f.sequence
FROM temp.dirty_playlists d
CROSS JOIN fact_playlist_pages f ON f.playlist_id = d.id
LEFT JOIN temp.heads h ON h.playlist_id = f.playlist_id AND h.platform = f.platform
WHERE f.page = 0 AND NOT f.removed AND f.name IS NOT NULL AND h.playlist_id IS NULL
"""
# What is not whole yet leaves the rows of the last whole set in place.
DELETE_PLAYLISTS = """
DELETE FROM playlists WHERE id IN (SELECT id FROM temp.dirty_playlists) AND NOT EXISTS (
    SELECT 1 FROM temp.heads h
    WHERE h.playlist_id = playlists.id AND h.platform = playlists.platform
      AND h.remote_id = playlists.remote_playlist_id
)
"""
DELETE_PLAYLIST_SONGS = """
DELETE FROM playlist_songs WHERE playlist_id IN (
    SELECT d.id FROM temp.dirty_playlists d
    LEFT JOIN temp.heads h ON h.playlist_id = d.id
    WHERE h.whole OR d.id NOT IN (SELECT id FROM playlists)
)
"""
INSERT_PLAYLIST_SONGS = """
INSERT OR IGNORE INTO playlist_songs (playlist_id, song_id, position)
SELECT h.playlist_id, json_extract(e.value, '$[1]'), json_extract(e.value, '$[0]')
FROM temp.heads h
CROSS JOIN fact_playlist_pages p ON p.playlist_id = h.playlist_id AND p.platform = h.platform AND p.page < h.pages
CROSS JOIN json_each(p.entries) e
WHERE h.whole
ORDER BY h.playlist_id, p.page, e.key
"""
UPSERT_PLAYLISTS = """
INSERT INTO playlists (id, platform, remote_playlist_id, name, description, cover_url, play_count, collected_song_count)
SELECT h.playlist_id, h.platform, h.remote_id, p.name, p.description, p.cover_url, p.play_count,
       (SELECT count(*) FROM playlist_songs s WHERE s.playlist_id = h.playlist_id)
FROM temp.heads h
CROSS JOIN fact_playlist_pages p ON p.playlist_id = h.playlist_id AND p.platform = h.platform AND p.page = 0
WHERE h.whole
ON CONFLICT (id) DO UPDATE SET
    platform = excluded.platform, remote_playlist_id = excluded.remote_playlist_id, name = excluded.name,
    description = excluded.description, cover_url = excluded.cover_url, play_count = excluded.play_count,
    collected_song_count = excluded.collected_song_count
"""

# ---- pools ----------------------------------------------------------------------------------

POOLS = (
    "DELETE FROM pool_playlists WHERE pool_id IN (SELECT id FROM temp.dirty_pools)",
    "DELETE FROM playlist_pools WHERE id IN (SELECT id FROM temp.dirty_pools)",
    """
INSERT INTO playlist_pools (id, platform, pool_kind, external_id, name, url, metadata_json)
SELECT pool_id, platform, pool_kind, external_id, name, url, metadata
FROM fact_pools WHERE pool_id IN (SELECT id FROM temp.dirty_pools) AND NOT removed
""",
    """
INSERT OR IGNORE INTO pool_playlists (pool_id, playlist_id)
SELECT f.pool_id, e.value FROM fact_pools f CROSS JOIN json_each(f.playlist_ids) e
WHERE f.pool_id IN (SELECT id FROM temp.dirty_pools) AND NOT f.removed
""",
)

# ---- what changed ---------------------------------------------------------------------------

# Those of the touched things whose rows may have changed, with the sequence of the batch: an export reads no others.
_CHANGED = """
INSERT INTO catalog_changes (kind, "key", sequence) SELECT '{kind}', id, ? FROM {table} WHERE true ORDER BY id
ON CONFLICT (kind, "key") DO UPDATE SET sequence = excluded.sequence
"""
SONGS_CHANGED = _CHANGED.format(kind="song", table="temp.dirty_songs")
PLAYLISTS_CHANGED = _CHANGED.format(kind="playlist", table="temp.dirty_playlists")
POOLS_CHANGED = _CHANGED.format(kind="pool", table="temp.dirty_pools")
BACKEND_CHANGED = """
INSERT INTO catalog_changes (kind, "key", sequence) VALUES ('backend', ?, ?)
ON CONFLICT (kind, "key") DO UPDATE SET sequence = excluded.sequence
"""
