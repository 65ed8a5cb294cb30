"""The folder of snapshots: one folder for each, named by its digest, and ``current`` that points to the newest."""

from __future__ import annotations

import contextlib
import re
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from pathlib import Path

from common.telemetry import get_logger
from exporter.adapters.explained import explained
from exporter.adapters.export import read_manifest, write_manifest
from exporter.adapters.pair import digest_of, put_in_place, staging_folder, sync
from exporter.adapters.read_database import ReadDatabase
from exporter.service.manifest import History, Manifest, Signing, make_manifest, point_in_time, renewed
from mirror.format.manifest import is_snapshot_id
from mirror.format.schema import DATABASE_FILE, MANIFEST_FILE

CURRENT = "current"
_FOLDER = re.compile(r"[0-9a-f]{64}")
_NEXT = "next"


def folder_name(manifest: Manifest) -> str:
    """The folder of a snapshot, relative to the folder of snapshots: the hex digits of its id."""
    return str(manifest["snapshot_id"]).removeprefix("sha256:")


class SnapshotFolder:
    """All snapshots below ``root``. One exporter writes, anybody reads."""

    def __init__(
        self, root: Path, *, keep: int, keep_days: float | None = None, signing: Signing | None = None
    ) -> None:
        """The newest ``keep`` are kept, but none older than ``keep_days`` beside the newest of all."""
        self.root = root
        self._keep = keep
        self._keep_days = keep_days
        self._signing = signing
        self._read_through: str | None = None
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()

    def current(self) -> Manifest | None:
        """The manifest of the newest complete snapshot."""
        return read_manifest(self.root / CURRENT)

    def manifest(self, snapshot_id: str) -> Manifest | None:
        """The manifest of a snapshot that is kept."""
        folder = self._folder(snapshot_id)
        return read_manifest(folder) if folder is not None else None

    def database(self, snapshot_id: str) -> Path | None:
        """The database of a snapshot that is kept; hold it while it is read."""
        folder = self._folder(snapshot_id)
        return self.file(folder.name, DATABASE_FILE) if folder is not None else None

    @contextlib.contextmanager
    def hold(self, snapshot_id: str) -> Iterator[None]:
        """While this lasts the snapshot is not deleted, if it is there."""
        with self._lock:
            self._held[snapshot_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._held[snapshot_id] -= 1

    def file(self, folder: str, name: str) -> Path | None:
        """A file of a snapshot; None when there is no such snapshot or file."""
        if not _FOLDER.fullmatch(folder):
            return None
        path = self.root / folder / name
        return path if path.is_file() else None

    def make(self, read: ReadDatabase, *, thorough: bool = False) -> tuple[Manifest, int | None]:
        """Bring the read database up to date and make a snapshot of it, unless the newest has that content.

        Returns the newest manifest, and the last sequence of CATALOG in its content. The newest snapshot's file is
        put anew where it is gone or damaged; ``thorough``: read for that also if this process has done so before.
        Raises SnapshotError; the newest snapshot is then the one before.
        """
        before = self.current()
        parent, after = (before["snapshot_id"], before.get("generated_at")) if before else (None, None)
        with explained(), staging_folder(self.root / _NEXT) as staging, ThreadPoolExecutor(1) as copier:
            database = staging / DATABASE_FILE
            copies: list[Future[str]] = []
            reflected = read.update(
                after=after,
                published=_place(before),
                rows_ready=lambda: copies.append(copier.submit(read.copy, database)),
            )
            history = History(lineage=reflected.lineage, revision=reflected.revision)
            same = before is not None and parent == reflected.content.snapshot_id
            if before is not None and same and self.is_sound(before, thorough=thorough):
                return self._renewed(before, history), reflected.sequence
            wait(copies)
            digests = [copy.result() for copy in copies] if reflected.told else []
            file_digest = digests[0] if digests else read.copy(database)
            manifest = make_manifest(
                content=reflected.content,
                cover_count=reflected.cover_count,
                sequence=reflected.sequence,
                parent=before.get("parent") if before is not None and same else parent,
                # When the rows were written; but mirrors may have the one before as it was signed since.
                generated_at=point_in_time(datetime.fromisoformat(reflected.generated_at), after=after),
                file_digest=file_digest,
                file_size=database.stat().st_size,
                history=history,
                signing=self._signing,
            )
            write_manifest(staging, manifest)
            put_in_place(staging, self.root / folder_name(manifest))
            self._point_to(folder_name(manifest))
            self._read_through = file_digest
        if same:
            get_logger().warning("the file of the newest snapshot was gone or damaged, and has been put anew")
        self.prune()
        return manifest, reflected.sequence

    def is_sound(self, newest: Manifest, *, thorough: bool = False) -> bool:
        """Whether the newest snapshot is there, with the file that its manifest names.

        That has the size, and, looked at once a process, the digest; ``thorough``: whenever this is called.
        """
        path, named = self.root / folder_name(newest) / DATABASE_FILE, newest.get("file", {})
        try:
            if self.current() != newest or path.stat().st_size != named.get("size"):
                return False
            if thorough or self._read_through != named.get("digest"):
                self._read_through = digest_of(path)
        except OSError:
            # What cannot be read is as good as lost.
            return False
        return bool(self._read_through == named.get("digest"))

    def renew(self) -> Manifest | None:
        """Sign the newest manifest with the keys of today, if it is not; return it. Raises SnapshotError."""
        current = self.current()
        if current is None or self._signing is None or "lineage" not in current:
            return current
        with explained():
            return self._renewed(current, None)

    def prune(self) -> None:
        """Delete what is neither among the newest nor held by anybody."""
        current = self.current()
        newest = folder_name(current) if current else ""
        others: list[tuple[str, str]] = []
        with contextlib.suppress(FileNotFoundError):
            for entry in self.root.iterdir():
                if _FOLDER.fullmatch(entry.name) and entry.name != newest:
                    others.append((str((read_manifest(entry) or {}).get("generated_at", "")), entry.name))
        oldest = ""
        if self._keep_days is not None:
            oldest = (datetime.now(UTC) - timedelta(days=self._keep_days)).strftime("%Y-%m-%dT%H:%M:%S")
        for number, (made, name) in enumerate(sorted(others, reverse=True), start=1):
            if number >= self._keep or made < oldest:
                self._delete(name)

    def _renewed(self, manifest: Manifest, history: History | None) -> Manifest:
        """The manifest as it has to be now; the rows are the same."""
        wanted = renewed(manifest, history=history, signing=self._signing)
        if wanted != manifest:
            # Mirrors that have this content already take up only a manifest that is newer.
            now = point_in_time(datetime.now(UTC), after=manifest.get("generated_at"))
            wanted = renewed({**manifest, "generated_at": now}, history=history, signing=self._signing)
            folder = self.root / folder_name(manifest)
            temporary = f".{MANIFEST_FILE}.new"
            write_manifest(folder, wanted, name=temporary)
            sync(folder / temporary)
            (folder / temporary).replace(folder / MANIFEST_FILE)
            sync(folder)
        return wanted

    def _folder(self, snapshot_id: str) -> Path | None:
        return self.root / snapshot_id.removeprefix("sha256:") if is_snapshot_id(snapshot_id) else None

    def _point_to(self, folder: str) -> None:
        link = self.root / f".{CURRENT}.new"
        with contextlib.suppress(FileNotFoundError):
            link.unlink()
        link.symlink_to(folder, target_is_directory=True)
        link.replace(self.root / CURRENT)
        sync(self.root)

    def _delete(self, name: str) -> None:
        """At once, as others see it: half a snapshot is never found."""
        with self._lock:
            if self._held[f"sha256:{name}"]:
                return
            gone = self.root / f".{_NEXT}.staging-{name}"
            try:
                (self.root / name).rename(gone)
            except OSError:
                return
        shutil.rmtree(gone, ignore_errors=True)


def _place(manifest: Manifest | None) -> tuple[str, int] | None:
    """Where a snapshot stands in its lineage, if it says so."""
    lineage, revision = (manifest or {}).get("lineage"), (manifest or {}).get("revision")
    return (lineage, revision) if isinstance(lineage, str) and isinstance(revision, int) else None
