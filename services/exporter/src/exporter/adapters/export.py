"""Exporting offline: from any catalog database, which is only read, to a complete snapshot folder."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from exporter.adapters.explained import explained
from exporter.adapters.filling import count_covers, filled
from exporter.adapters.pair import digest_of, put_in_place, staging_folder
from exporter.adapters.source_file import fingerprint, how_to_read
from exporter.errors import SnapshotError
from exporter.service.manifest import Manifest, Signing, make_manifest, point_in_time
from exporter.service.read_model import mend
from mirror.errors import ContentError
from mirror.format.digest import Content, content_of
from mirror.format.schema import DATABASE_FILE, MANIFEST_FILE

_ATTEMPTS = 3


class _SourceChanged(Exception):
    """A writer came while the source was read without locks."""


def export_snapshot(source_db: str | Path, target_dir: str | Path, *, signing: Signing | None = None) -> Manifest:
    """Make a snapshot of any catalog database in ``target_dir``, in place of an older one; return its manifest.

    The source is never written. Without ``signing`` the manifest is not signed. Raises SnapshotError with
    one sentence when the source cannot be read or the target cannot be written; an older snapshot is then
    as it was.
    """
    source, target = Path(source_db), Path(target_dir).absolute()
    if target.is_symlink():
        target = target.resolve()
    if target.exists() and not target.is_dir():
        raise SnapshotError("The target is a file. Give a folder.", code="target-not-writable")
    with explained(), staging_folder(target) as staging:
        for _ in range(_ATTEMPTS):
            try:
                manifest = _build(source, staging, before=read_manifest(target), signing=signing)
                break
            except _SourceChanged:
                (staging / DATABASE_FILE).unlink(missing_ok=True)
        else:
            raise SnapshotError(
                "The source is being written all the time. Try again when it is at rest.", code="source-locked"
            )
        write_manifest(staging, manifest)
        put_in_place(staging, target)
    return manifest


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a snapshot folder; None if there is none that can be read."""
    try:
        content = json.loads((folder / MANIFEST_FILE).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    known = isinstance(content, dict) and isinstance(content.get("snapshot_id"), str)
    return content if known else None


def write_manifest(folder: Path, manifest: Manifest, *, name: str = MANIFEST_FILE) -> None:
    """Write it as text that people can read, too."""
    (folder / name).write_text(json.dumps(manifest, ensure_ascii=False, indent=2) + "\n", "utf-8")


def _content(database: Path) -> Content:
    with contextlib.suppress(ContentError):
        return content_of(database)
    # Not within the handling of the error, which holds the cursor that met it, and so a lock.
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("PRAGMA journal_mode = OFF")
        mend(connection)
    return content_of(database)


def _build(source: Path, folder: Path, *, before: Manifest | None, signing: Signing | None) -> Manifest:
    uri, alone = how_to_read(source)
    database = folder / DATABASE_FILE
    with filled(database, uri) as (connection, held):
        covers = count_covers(connection)
    if alone is not None and alone != fingerprint(source):
        raise _SourceChanged
    content = _content(database)
    return make_manifest(
        content=content,
        cover_count=covers,
        sequence=held.sequence,
        parent=before["snapshot_id"] if before else None,
        generated_at=point_in_time(datetime.now(UTC), after=before.get("generated_at") if before else None),
        file_size=database.stat().st_size,
        file_digest=digest_of(database),
        history=None,
        signing=signing,
    )
