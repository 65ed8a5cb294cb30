"""The tiny catalog of docs/snapshot-format.md and of the golden files, and the key that signs it."""

from __future__ import annotations

import base64
import io
import sqlite3
from typing import Any

from mirror.format.digest import content_of
from mirror.format.keys import SigningKey
from mirror.format.pack import PackInfo, PackWriter
from mirror.format.schema import SCHEMA_VERSION, TABLES, Row, create_tables

Tables = dict[str, list[Row]]

KEY = SigningKey.from_text(base64.b64encode(bytes(range(32))).decode())
"""Anybody can sign with it: it is of use in tests only."""

SONG, OTHER = 4_503_599_627_370_495, 12
FIRST: Tables = {
    "catalog_playlist_tracks": [(7, SONG, 0), (7, OTHER, 1)],
    "catalog_playlists": [(7, "feed", "summer", "Summer '69", None, "https://img.example.org/7.jpg", 1000, 2)],
    "catalog_toplists": [("top", "feed", "Top", None, None, None, 2, "Charts")],
    "catalog_track_files": [
        (SONG, "lossless", "flac", 31_000_000, "filesystem", "library", "feed/周杰伦/晴天.flac", None, "active", 1),
        (SONG, "high", "mp3", 9_000_000, "filesystem", "library", "feed/周杰伦/晴天.mp3", None, "active", 0),
    ],
    "catalog_tracks": [
        (OTHER, "feed", "b", "Second", "", "mp3", None, None),
        (SONG, "feed", "a", "晴天", "周杰伦", "flac", 31_000_000, '{"year":2003}'),
    ],
}
SECOND: Tables = {
    **FIRST,
    "catalog_playlist_tracks": [(7, SONG, 0)],
    "catalog_playlists": [(7, "feed", "summer", "Summer '69", None, "https://img.example.org/7.jpg", 1001, 1)],
    "catalog_tracks": FIRST["catalog_tracks"][1:],
}


def filled(tables: Tables) -> sqlite3.Connection:
    """A database in memory that holds these rows, entered in this order."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    create_tables(connection)
    for name, rows in tables.items():
        connection.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(TABLES[name].columns))})", rows)
    return connection


def manifest_of(tables: Tables, *, revision: int, parent: str | None = None, key: SigningKey = KEY) -> dict[str, Any]:
    """An unsigned manifest of these rows."""
    with filled(tables) as connection:
        content = content_of(connection)
    return {
        "snapshot_id": content.snapshot_id,
        "generated_at": f"2026-11-21T08:0{revision}:00.000Z",
        "schema_version": SCHEMA_VERSION,
        "playlist_count": content.tables["catalog_playlists"].rows,
        "track_count": content.tables["catalog_tracks"].rows,
        "file_count": content.tables["catalog_track_files"].rows,
        "cover_count": 1,
        "parent": parent,
        "lineage": "0123456789abcdef0123456789abcdef",
        "revision": revision,
        "revisions": {"first": 1, "last": revision},
        "keys": [{"key_id": key.key_id, "public_key": base64.b64encode(key.public_key).decode()}],
        "tables": {
            name: {"rows": table.rows, "size": table.size, "digest": table.digest}
            for name, table in content.tables.items()
        },
    }


def pack_of(
    want: str, have: str | None, manifest: bytes, tables: Tables, old: Tables | None = None
) -> tuple[bytes, PackInfo]:
    """A pack from ``old`` (None: nothing) to ``tables``."""
    file = io.BytesIO()
    writer = PackWriter(file, want=want, have=have, manifest=manifest)
    for name in TABLES:
        before, after = _groups((old or {}).get(name, [])), _groups(tables.get(name, []))
        for key in sorted({*before, *after}):
            if before.get(key) != after.get(key):
                writer.add(name, key, after.get(key, []))
    info = writer.close()
    return file.getvalue(), info


def _groups(rows: list[Row]) -> dict[Any, list[Row]]:
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[0], []).append(row)
    return groups
