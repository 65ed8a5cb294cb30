"""The folder of snapshots: one folder for each, named by its digest, and ``current`` that points to the newest."""

from __future__ import annotations

import contextlib
import re
import shutil
from pathlib import Path

from exporter.adapters.export import build, explained, read_manifest
from exporter.adapters.pair import put_in_place, staging_folder, sync
from exporter.service.manifest import Manifest

CURRENT = "current"
_FOLDER = re.compile(r"[0-9a-f]{64}")


def folder_name(manifest: Manifest) -> str:
    """The folder of a snapshot, relative to the folder of snapshots: the hex digits of its id."""
    return str(manifest["snapshot_id"]).removeprefix("sha256:")


class SnapshotFolder:
    """All snapshots below ``root``. One exporter writes, anybody reads."""

    def __init__(self, root: Path, *, keep: int) -> None:
        self.root = root
        self._keep = keep

    def current(self) -> Manifest | None:
        """The manifest of the newest complete snapshot."""
        return read_manifest(self.root / CURRENT)

    def make(self, database: Path) -> tuple[Manifest, bool]:
        """Export the catalog; return the manifest and whether its content is new.

        Raises SnapshotError; the newest snapshot is then the one before. The same content makes no
        new snapshot: what is returned then was not kept.
        """
        before = self.current()
        parent = str(before["snapshot_id"]) if before else None
        with explained(), staging_folder(self.root / "next") as staging:
            manifest = build(database, staging, parent=parent, own=True)
            if manifest["snapshot_id"] == parent:
                return manifest, False
            put_in_place(staging, self.root / folder_name(manifest))
            self._point_to(folder_name(manifest))
        self._prune(folder_name(manifest))
        return manifest, True

    def file(self, folder: str, name: str) -> Path | None:
        """A file of a snapshot; None when there is no such snapshot or file."""
        if not _FOLDER.fullmatch(folder):
            return None
        path = self.root / folder / name
        return path if path.is_file() else None

    def _point_to(self, folder: str) -> None:
        link = self.root / f".{CURRENT}.new"
        with contextlib.suppress(FileNotFoundError):
            link.unlink()
        link.symlink_to(folder, target_is_directory=True)
        link.replace(self.root / CURRENT)
        sync(self.root)

    def _prune(self, current: str) -> None:
        kept: list[tuple[str, str]] = []
        for entry in self.root.iterdir():
            if _FOLDER.fullmatch(entry.name) and entry.name != current:
                manifest = read_manifest(entry) or {}
                kept.append((str(manifest.get("generated_at", "")), entry.name))
        for _, name in sorted(kept, reverse=True)[self._keep - 1 :]:
            shutil.rmtree(self.root / name, ignore_errors=True)
