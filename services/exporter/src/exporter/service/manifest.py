"""The manifest: what a snapshot is, in a form that readers can check."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from common.catalog.read_model import DATABASE_FILE, SCHEMA_VERSION
from exporter.service.digest import TableDigest, snapshot_id

Manifest = dict[str, Any]


def make_manifest(
    *,
    tables: dict[str, TableDigest],
    cover_count: int,
    sequence: int | None,
    parent: str | None,
    generated_at: datetime,
    file_size: int,
    file_digest: str,
) -> Manifest:
    """All that is said of a snapshot. ``sequence`` is the last one of CATALOG in it, if it came from there."""
    own = snapshot_id(tables)
    return {
        "snapshot_id": own,
        "generated_at": generated_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "schema_version": SCHEMA_VERSION,
        "playlist_count": tables["catalog_playlists"].rows,
        "track_count": tables["catalog_tracks"].rows,
        "file_count": tables["catalog_track_files"].rows,
        "cover_count": cover_count,
        "entry_count": tables["catalog_playlist_tracks"].rows,
        "toplist_count": tables["catalog_toplists"].rows,
        "parent": parent if parent != own else None,
        "sequence": sequence,
        "file": {"name": DATABASE_FILE, "size": file_size, "digest": file_digest},
        "tables": {
            name: {"rows": table.rows, "size": table.size, "digest": table.digest} for name, table in tables.items()
        },
    }
