"""Makes the index of one snapshot: ``python -m public_catalog.index_build CATALOG INDEX``.

A process of its own, so that pages are served meanwhile as fast as ever; what is half made has another name.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from public_catalog.words import digest, stored

FORMAT = 1
"""Grows when an index of an older program could not be read."""
_HASH_BYTES = 64 * 1024 * 1024
"""What FTS5 collects before it writes: larger means fewer pieces to merge."""

_MAX_CHARS = 2_000
"""Of a name; nobody looks for what is behind."""

_TABLES = """
CREATE TABLE songs (rank INTEGER PRIMARY KEY, song_id INTEGER NOT NULL, title INTEGER NOT NULL);
CREATE TABLE playlists (rank INTEGER PRIMARY KEY, playlist_id INTEGER NOT NULL, title INTEGER NOT NULL);
CREATE TABLE song_playlists (song_id INTEGER, playlist INTEGER, PRIMARY KEY (song_id, playlist)) WITHOUT ROWID;
CREATE VIRTUAL TABLE song_words USING fts5(name, singers, content='', columnsize=0, tokenize='ascii', prefix='1 2 3');
CREATE VIRTUAL TABLE playlist_words USING fts5(name, content='', columnsize=0, tokenize='ascii', prefix='1 2 3');
"""
_PLAYLISTS = """
SELECT playlist_id, name FROM catalog.catalog_playlists ORDER BY coalesce(play_count, 0) DESC, playlist_id
"""
_SONGS = """
SELECT t.song_id, t.name, t.singers
FROM catalog.catalog_tracks t LEFT JOIN temp.popular p ON p.song_id = t.song_id
ORDER BY p.playlists DESC, t.song_id
"""
_MEMBERS = """
INSERT INTO song_playlists
SELECT DISTINCT e.song_id, p.rank FROM catalog.catalog_playlist_tracks e
JOIN temp.ranks p ON p.playlist_id = e.playlist_id WHERE e.song_id IS NOT NULL ORDER BY 1, 2
"""
_POPULAR = "INSERT INTO temp.popular SELECT song_id, count(*) FROM song_playlists GROUP BY song_id"


def main() -> int:
    """Build it; 0 also when another process has done so already."""
    catalog, index = Path(sys.argv[1]), Path(sys.argv[2])
    with contextlib.suppress(OSError):
        os.nice(5)
    build(catalog, index)
    return 0


def build(catalog: Path, index: Path) -> None:
    """Write the index of ``catalog`` as ``index``, which appears when it is complete. Raises OSError, sqlite3.Error."""
    index.parent.mkdir(parents=True, exist_ok=True)
    with _alone(index.parent):
        if index.exists():
            return
        # Nobody else builds here now, so that what lies about was left by one that was killed.
        for left in index.parent.glob("*.building"):
            left.unlink()
        staging = index.with_name(index.name + ".building")
        try:
            _fill(catalog, staging)
            descriptor = os.open(staging, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            staging.replace(index)
        finally:
            staging.unlink(missing_ok=True)


def _fill(catalog: Path, staging: Path) -> None:
    connection = sqlite3.connect(staging, isolation_level=None, uri=True)
    with contextlib.closing(connection):
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE", "cache_size = -65536"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("ATTACH ? AS catalog", (f"file:{quote(str(catalog))}?mode=ro&immutable=1",))
        connection.executescript(_TABLES)
        for table in ("song_words", "playlist_words"):
            connection.execute(f"INSERT INTO {table}({table}, rank) VALUES ('hashsize', ?)", (_HASH_BYTES,))  # noqa: S608
        connection.execute("BEGIN")
        connection.execute("CREATE TEMP TABLE ranks (playlist_id INTEGER PRIMARY KEY, rank INTEGER)")
        connection.execute("CREATE TEMP TABLE popular (song_id INTEGER PRIMARY KEY, playlists INTEGER)")
        _add(connection, _PLAYLISTS, "playlist", columns=1)
        connection.execute("INSERT OR IGNORE INTO temp.ranks SELECT playlist_id, rank FROM main.playlists")
        connection.execute(_MEMBERS)
        connection.execute(_POPULAR)
        _add(connection, _SONGS, "song", columns=2)
        connection.execute("CREATE INDEX songs_title ON songs (title, rank)")
        connection.execute("CREATE INDEX playlists_title ON playlists (title, rank)")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")


def _add(connection: sqlite3.Connection, query: str, kind: str, *, columns: int) -> None:
    """The rows of ``query`` in their order: the place in it is the rank, so that the best come first by rowid."""
    reader = connection.execute(query)
    texts = ", ?" * columns
    words = f"INSERT INTO {kind}_words(rowid, {'name, singers' if columns == 2 else 'name'}) VALUES (?{texts})"  # noqa: S608
    rows = f"INSERT INTO {kind}s VALUES (?, ?, ?)"  # noqa: S608
    cached = functools.lru_cache(65_536)(_words)  # singers and common titles come again and again
    rank = 0
    while batch := reader.fetchmany(10_000):
        numbered = enumerate(batch, rank)
        prepared = [(number, row[0], [cached(value) for value in row[1:]]) for number, row in numbered]
        connection.executemany(words, ((number, *found) for number, _, found in prepared))
        connection.executemany(rows, ((number, identity, digest(found[0])) for number, identity, found in prepared))
        rank += len(batch)


def _words(value: object) -> str:
    return stored(str(value)[:_MAX_CHARS]) if value is not None else ""


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder / "building.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
