"""``export-snapshot``: a snapshot of any catalog database, with no bus and no other service."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from exporter.adapters.export import export_snapshot
from exporter.errors import SnapshotError

__all__ = ["export_snapshot", "main"]


def main(arguments: list[str] | None = None) -> int:
    """The command. Exit status 0 when the snapshot is in place, 1 with one sentence when it is not."""
    parser = argparse.ArgumentParser(
        prog="export-snapshot",
        description="Make catalog_read.db and manifest.json from a catalog database, which is only read.",
    )
    parser.add_argument("--db", type=Path, required=True, help="a catalog.db, or a catalogsync.db of the older system")
    parser.add_argument("--target-dir", type=Path, required=True, help="folder that receives the two files")
    given = parser.parse_args(arguments)
    try:
        manifest = export_snapshot(given.db, given.target_dir)
    except SnapshotError as error:
        print(f"export-snapshot: {error.message}", file=sys.stderr)
        return 1
    print(f"snapshot_id     {manifest['snapshot_id']}")
    for name in ("playlist_count", "track_count", "file_count", "cover_count"):
        print(f"{name:<15} {manifest[name]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
