"""Snapshots on disk with their history, made from plain rows: what fetching needs of the exporter's own folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from mirror.format.digest import content_of
from mirror.format.keys import SigningKey
from mirror.format.manifest import sign
from mirror.format.pack import PackHeader, PackReader
from mirror.format.schema import DATABASE_FILE, MANIFEST_FILE, SCHEMA_VERSION, TABLES, Key, Row, create_tables

Content = Mapping[str, Iterable[Row]]
"""Rows by table."""


def library(songs: Iterable[int], *, name: str = "Song", files: int = 1) -> dict[str, list[Row]]:
    """Songs with files, in one playlist."""
    numbers = list(songs)
    return {
        "catalog_tracks": [(n, "feed", str(n), f"{name} {n}", "周杰倫", "mp3", 1000 + n, None) for n in numbers],
        "catalog_track_files": [
            (n, "main", "mp3", 1000 + n, "filesystem", f"b{f}", f"feed/{n}.mp3", None, "active", 1)
            for n in numbers
            for f in range(files)
        ],
        "catalog_playlists": [(1, "feed", "p", "Playlist", None, "https://c", 5, len(numbers))],
        "catalog_playlist_tracks": [(1, n, place) for place, n in enumerate(numbers)],
    }


@dataclass(frozen=True)
class Once:
    snapshot_id: str
    lineage: str
    revision: int
    generated_at: str


class Shelf:
    """A folder for each snapshot; says of history what the exporter's says."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.key = SigningKey.generate()
        self.held: list[str] = []
        self._lineage, self._revision = secrets.token_hex(16), 0
        self._groups: dict[tuple[str, Key], list[Row]] = {}
        self._changes: dict[tuple[str, Key], int] = {}
        self._once: dict[str, Once] = {}
        self._newest: str | None = None
        self._time = datetime(2026, 1, 1, tzinfo=UTC)
        root.mkdir(parents=True)

    def publish(self, content: Content) -> str:
        """Make a snapshot the newest; return its id."""
        groups: dict[tuple[str, Key], list[Row]] = {}
        for table, rows in content.items():
            for row in rows:
                key = row[TABLES[table].group_index]
                assert key is not None
                groups.setdefault((table, key), []).append(row)
        self._revision += 1
        self._time += timedelta(seconds=1)
        for group in groups.keys() | self._groups.keys():
            if groups.get(group) != self._groups.get(group):
                self._changes[group] = self._revision
        self._groups = groups
        staging = self.root / "staging"
        staging.mkdir()
        with closing(sqlite3.connect(staging / DATABASE_FILE)) as connection, connection:
            create_tables(connection)
            # As the exporter does: a content that comes back lies in another file.
            connection.execute(f"PRAGMA user_version = {self._revision}")
            for (table, _), rows in groups.items():
                connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
        manifest = self._manifest(staging / DATABASE_FILE)
        (staging / MANIFEST_FILE).write_text(json.dumps(manifest))
        id = str(manifest["snapshot_id"])
        self.drop(id)
        staging.rename(self._folder(id))
        self._once[id] = Once(id, self._lineage, self._revision, manifest["generated_at"])
        self._newest = id
        return id

    def rebuilt(self) -> None:
        """Begin a new lineage, as after a rebuild: what changed before is not known any more."""
        self._lineage = secrets.token_hex(16)
        self._changes = dict.fromkeys(self._groups, self._revision + 1)

    def forget_changes(self) -> None:
        """Know of no change before now."""
        self._changes.clear()

    def drop(self, id: str) -> None:
        """Delete a snapshot's files; its id stays known."""
        shutil.rmtree(self._folder(id), ignore_errors=True)

    def manifest(self, snapshot_id: str) -> dict[str, Any] | None:
        path = self._folder(snapshot_id) / MANIFEST_FILE
        return json.loads(path.read_text()) if path.is_file() else None

    def database(self, snapshot_id: str) -> Path | None:
        path = self._folder(snapshot_id) / DATABASE_FILE
        return path if path.is_file() else None

    @contextlib.contextmanager
    def hold(self, snapshot_id: str) -> Iterator[None]:
        self.held.append(snapshot_id)
        try:
            yield
        finally:
            self.held.remove(snapshot_id)

    @property
    def newest(self) -> dict[str, Any] | None:
        return self.manifest(self._newest) if self._newest else None

    def find(self, snapshot_id: str) -> Once | None:
        return self._once.get(snapshot_id)

    def changes(self, *, after: int) -> Iterator[tuple[str, Key]]:
        changed = [group for group, revision in self._changes.items() if revision > after]
        yield from sorted(changed, key=lambda group: (group[0], group[1]))

    @property
    def snapshots(self) -> _Snapshots:
        return _Snapshots(self)

    @property
    def history(self) -> _History:
        return _History(self)

    def _folder(self, id: str) -> Path:
        return self.root / id.removeprefix("sha256:")

    def _manifest(self, database: Path) -> dict[str, Any]:
        content = content_of(database)
        data = database.read_bytes()
        rows = {name: table.rows for name, table in content.tables.items()}
        return sign(
            {
                "snapshot_id": content.snapshot_id,
                "generated_at": self._time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "schema_version": SCHEMA_VERSION,
                "playlist_count": rows["catalog_playlists"],
                "track_count": rows["catalog_tracks"],
                "file_count": rows["catalog_track_files"],
                "cover_count": 0,
                "parent": self._newest if self._newest != content.snapshot_id else None,
                "lineage": self._lineage,
                "revision": self._revision,
                "revisions": {"first": 0, "last": self._revision},
                "keys": [],
                "file": {
                    "name": DATABASE_FILE,
                    "size": len(data),
                    "digest": f"sha256:{hashlib.sha256(data).hexdigest()}",
                },
                "tables": {
                    name: {"rows": table.rows, "size": table.size, "digest": table.digest}
                    for name, table in content.tables.items()
                },
            },
            self.key,
        )


class _Snapshots:
    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self.manifest, self.database, self.hold = shelf.manifest, shelf.database, shelf.hold

    def current(self) -> dict[str, Any] | None:
        return self._shelf.newest


class _History:
    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self.find, self.changes = shelf.find, shelf.changes

    def current(self) -> tuple[str, int] | None:
        return self._shelf._lineage, self._shelf._revision


def apply(pack: BinaryIO, database: Path) -> PackHeader:
    """Apply a pack to a copy of what it is for, or to nothing, by the page that describes the format."""
    reader = PackReader(pack)
    with closing(sqlite3.connect(database)) as connection, connection:
        if reader.header.have is None:
            create_tables(connection)
        for table, key, rows in reader.groups():
            connection.execute(f'DELETE FROM {table} WHERE "{TABLES[table].group}" = ?', (key,))
            connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows) if rows else 0
    return reader.header
