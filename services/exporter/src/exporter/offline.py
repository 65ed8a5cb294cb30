"""``export-snapshot``: a snapshot of any catalog database, with no bus and no other service."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from exporter.adapters.export import export_snapshot
from exporter.errors import SnapshotError
from exporter.service.manifest import Signing
from mirror.errors import KeyFormatError
from mirror.format.keys import SigningKey

__all__ = ["export_snapshot", "main"]


def main(arguments: list[str] | None = None) -> int:
    """The command. Exit status 0 when the snapshot is in place, 1 with one sentence when it is not."""
    parser = argparse.ArgumentParser(
        prog="export-snapshot",
        description="Make catalog_read.db and manifest.json from a catalog database, which is only read.",
    )
    parser.add_argument("--db", type=Path, required=True, help="a catalog.db, or a catalogsync.db of the older system")
    parser.add_argument("--target-dir", type=Path, required=True, help="folder that receives the two files")
    parser.add_argument(
        "--key", type=Path, help="file of the Ed25519 key to sign with: PEM, or its 32 bytes in base64; else unsigned"
    )
    given = parser.parse_args(arguments)
    try:
        signing = Signing(key=_read_key(given.key)) if given.key is not None else None
        manifest = export_snapshot(given.db, given.target_dir, signing=signing)
    except SnapshotError as error:
        print(f"export-snapshot: {error.message}", file=sys.stderr)
        return 1
    print(f"snapshot_id     {manifest['snapshot_id']}")
    for name in ("playlist_count", "track_count", "file_count", "cover_count"):
        print(f"{name:<15} {manifest[name]}")
    print(f"signed by       {signing.key.key_id if signing else 'nobody: mirrors refuse it without a key (--key)'}")
    return 0


def _read_key(path: Path) -> SigningKey:
    try:
        return SigningKey.from_text(path.read_text("ascii"))
    except OSError as error:
        raise SnapshotError(f"The key cannot be read ({error.strerror}).", code="key-unreadable") from None
    except ValueError:
        raise SnapshotError("The key is not text. Give PEM, or base64.", code="key-unreadable") from None
    except KeyFormatError as error:
        raise SnapshotError(error.message, code=error.code) from None


if __name__ == "__main__":
    sys.exit(main())
