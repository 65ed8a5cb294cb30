"""One snapshot: its manifest, its database, and whether both are fit to be shown."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from public_catalog.errors import SnapshotUnusable
from public_catalog.pool import Pool, open_read_only

DATABASE_FILE = "catalog_read.db"
MANIFEST_FILE = "manifest.json"
CURRENT = "current"
SCHEMA_VERSION = 1
COLUMNS = {
    "catalog_playlists": "playlist_id platform remote_playlist_id name description cover_url play_count song_count",
    "catalog_tracks": "song_id platform remote_song_id name singers ext file_size_bytes metadata_json",
    "catalog_playlist_tracks": "playlist_id song_id position",
    "catalog_track_files": (
        "song_id quality_label ext file_size_bytes backend_type backend_name locator public_url status is_primary"
    ),
    "catalog_toplists": "toplist_id platform name description cover_url play_count song_count group_name",
}
"""What the pages read; more columns are welcome."""
COUNTS = {
    "catalog_playlists": "playlist_count",
    "catalog_tracks": "track_count",
    "catalog_track_files": "file_count",
}

_MANIFEST_BYTES = 4 * 1024 * 1024
_MAGIC, _HEADER_BYTES = b"SQLite format 3\0", 100
_ID = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Found:
    """What lies in the mirror's folder now: where it really is, and what tells it from another."""

    folder: Path
    key: str


@dataclass(frozen=True)
class Manifest:
    """What is read of a manifest."""

    snapshot_id: str
    generated_at: datetime
    counts: Mapping[str, int]


def look(mirror: Path) -> Found | None:
    """What the mirror's folder shows now; None before the first pull. Raises OSError.

    ``current`` is what a mirror and the exporter leave; a folder with the two files themselves is fine too.
    """
    place = mirror / CURRENT
    if not place.exists():
        place = mirror
    folder = place.resolve()
    try:
        facts = [(folder / name).stat() for name in (DATABASE_FILE, MANIFEST_FILE)]
    except FileNotFoundError:
        if place == mirror and not (folder / MANIFEST_FILE).exists():
            return None
        present = [name for name in (DATABASE_FILE, MANIFEST_FILE) if (folder / name).exists()]
        return Found(folder, f"{folder} has {present}")
    described = [(str(folder), fact.st_dev, fact.st_ino, fact.st_size, fact.st_mtime_ns) for fact in facts]
    return Found(folder, hashlib.sha256(repr(described).encode()).hexdigest()[:16])


class Snapshot:
    """A snapshot that was checked and can be read. Holds its files open, wherever their names go."""

    def __init__(self, manifest: Manifest, pool: Pool, *, folder: Path, key: str) -> None:
        self.manifest = manifest
        self.pool = pool
        self.folder = folder
        self.key = key

    @classmethod
    def open(cls, found: Found, *, connections: int) -> Snapshot:
        """Open and check it all: seconds for a large one. Raises SnapshotUnusable."""
        database = found.folder / DATABASE_FILE
        manifest = read_manifest(found.folder)
        if not database.exists():
            raise SnapshotUnusable(f"{DATABASE_FILE} is missing.")
        try:
            check(database, manifest)
            pool = Pool(database, size=connections)
        except sqlite3.Error as error:
            raise SnapshotUnusable(f"{DATABASE_FILE} is damaged or only half there ({error}).") from None
        except OSError as error:
            raise SnapshotUnusable(f"{DATABASE_FILE} cannot be read: {error.strerror}.") from None
        try:
            if look(found.folder) != found:
                raise SnapshotUnusable("The files were replaced while they were read.")
        except BaseException:
            pool.close()
            raise
        return cls(manifest, pool, folder=found.folder, key=found.key)

    @property
    def database(self) -> Path:
        """The file that it was opened from; it may be gone."""
        return self.folder / DATABASE_FILE

    def close(self) -> None:
        """Let the files go; nobody may be reading."""
        self.pool.close()


def read_manifest(folder: Path) -> Manifest:
    """The manifest in ``folder``. Raises SnapshotUnusable."""
    try:
        with (folder / MANIFEST_FILE).open("rb") as file:
            data = file.read(_MANIFEST_BYTES + 1)
    except FileNotFoundError:
        raise SnapshotUnusable(f"{MANIFEST_FILE} is missing.") from None
    except OSError as error:
        raise SnapshotUnusable(f"{MANIFEST_FILE} cannot be read: {error.strerror}.") from None
    if len(data) > _MANIFEST_BYTES:
        raise SnapshotUnusable(f"{MANIFEST_FILE} is larger than any manifest.")
    try:
        content: dict[str, Any] = json.loads(data)
        version, identity = content["schema_version"], content["snapshot_id"]
        generated_at = datetime.fromisoformat(content["generated_at"])
        counts = {name: content[name] for name in COUNTS.values()}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SnapshotUnusable(f"{MANIFEST_FILE} is not a manifest, or only half of one.") from None
    if not isinstance(identity, str) or not _ID.fullmatch(identity) or generated_at.tzinfo is None:
        raise SnapshotUnusable(f"{MANIFEST_FILE} names no snapshot.")
    if version != SCHEMA_VERSION:
        raise SnapshotUnusable(f"The snapshot has schema version {version!r}; this program reads {SCHEMA_VERSION}.")
    return Manifest(snapshot_id=identity, generated_at=generated_at, counts=counts)


def check(database: Path, manifest: Manifest) -> None:
    """Raise SnapshotUnusable, OSError or sqlite3.Error unless the file is whole and fits its manifest."""
    with database.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if not header.startswith(_MAGIC) or len(header) < _HEADER_BYTES:
        raise SnapshotUnusable(f"{DATABASE_FILE} is no SQLite database.")
    page_size, page_count = int.from_bytes(header[16:18], "big"), int.from_bytes(header[28:32], "big")
    if (page_size if page_size > 1 else 65536) * page_count != database.stat().st_size:
        raise SnapshotUnusable(f"{DATABASE_FILE} is not as long as its header says: only half copied?")
    with contextlib.closing(open_read_only(database)) as connection:
        for table, columns in COLUMNS.items():
            kind = connection.execute("SELECT type, sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()
            if kind is None or kind["type"] != "table" or "virtual" in kind["sql"][:20].lower():
                raise SnapshotUnusable(f"{DATABASE_FILE} has no table {table}.")
            there = {row["name"] for row in connection.execute(f"PRAGMA table_info({table})")}
            if missing := set(columns.split()) - there:
                raise SnapshotUnusable(f"{table} has no column {min(missing)}.")
        result = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if result != "ok":
            raise SnapshotUnusable(f"{DATABASE_FILE} is damaged ({str(result).splitlines()[0][:200]}).")
        for table, name in COUNTS.items():
            rows = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
            if rows != manifest.counts[name]:
                raise SnapshotUnusable(f"{table} has {rows} rows where the manifest says {manifest.counts[name]}.")
