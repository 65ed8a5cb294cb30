"""The folder of a mirror: each snapshot in a folder of its own, ``current`` that points to the newest, and our memory.

current -> snapshots/20261121T080000123Z-0123456789abcdef
snapshots/<name>/catalog_read.db, manifest.json, catalog_chunks.db
mirror.json     whom we trust, what we accepted last, how the last pull ended
.incoming/      packs on their way; .staging/ what is being made; .current.new what is being switched to; .lock
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mirror.copying import sync
from mirror.errors import MirrorError
from mirror.format.manifest import Manifest, parse
from mirror.format.schema import DATABASE_FILE, MANIFEST_FILE
from mirror.problems import Busy, LocalProblem, SettingsProblem
from mirror.trust import Memory

CURRENT = "current"
CHUNKS_FILE = "catalog_chunks.db"
"""Digests of the database's parts, as this mirror computed them."""
_MANIFEST_AT_MOST = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A snapshot on this disk. ``folder`` is its own, and stays what it is when ``current`` moves on."""

    folder: Path
    manifest: Manifest

    @property
    def database(self) -> Path:
        return self.folder / DATABASE_FILE

    @property
    def chunks(self) -> Path:
        return self.folder / CHUNKS_FILE


class Folder:
    """All that a mirror keeps. One process writes (:meth:`locked`), anybody reads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._snapshots = path / "snapshots"
        self._staging = path / ".staging"
        self._next = path / f".{CURRENT}.new"
        self.incoming = path / ".incoming"
        self._memory = path / "mirror.json"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only process that writes here, after removing what one that was killed has left. Raises Busy."""
        with explained():
            self._snapshots.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Busy(
                    "busy", f"Another music-cloud-mirror is at work on {self.path}. Wait for it, or end it."
                ) from None
            with explained():
                self._sweep()
                self.incoming.mkdir(mode=0o700, exist_ok=True)
            yield
        finally:
            os.close(descriptor)

    def current(self) -> Snapshot | None:
        """The newest snapshot; None if there is none, or none that can be read."""
        try:
            return snapshot_in((self.path / CURRENT).resolve(strict=True))
        except OSError:
            return None

    def memory(self) -> Memory:
        """What was learned before; an empty one in a new folder. Raises SettingsProblem if it cannot be read."""
        try:
            text = self._memory.read_text("utf-8")
        except FileNotFoundError:
            return Memory()
        except (OSError, ValueError):
            text = ""
        try:
            return Memory.from_dict(json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError, MirrorError):
            raise SettingsProblem(
                "memory-damaged",
                f"{self._memory} is damaged, so that it is not known any more whom to trust. Remove it, and name the "
                "publisher's key with --key.",
            ) from None

    def remember(self, memory: Memory) -> None:
        """Keep what was learned. Raises LocalProblem."""
        new = self._memory.with_name(".mirror.json.new")
        with explained():
            new.write_text(json.dumps(memory.to_dict(), indent=2) + "\n", "utf-8")
            sync(new)
            new.replace(self._memory)
            sync(self.path)

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty folder in which a snapshot is made; gone afterwards, whatever happened."""
        with explained():
            self._staging.mkdir()
        try:
            yield self._staging
        finally:
            shutil.rmtree(self._staging, ignore_errors=True)

    def put(self, staging: Path, manifest: Manifest, *, keep: int) -> Snapshot:
        """Make what was staged the current snapshot; keep ``keep`` of those before. Raises LocalProblem.

        Until the last step readers find the one before, and whoever has that open goes on reading it.
        """
        before = self.current()
        with explained():
            for file in staging.iterdir():
                # Readers are other programs: none of them has a reason to write.
                file.chmod(file.stat().st_mode & ~0o222)
                sync(file)
            sync(staging)
            target = self._free_name(manifest)
            # The link is there before what it names: so it tells who comes after a kill what was not switched to.
            self._next.symlink_to(Path("snapshots") / target.name, target_is_directory=True)
            sync(self.path)
            staging.rename(target)
            sync(self._snapshots)
            self._next.replace(self.path / CURRENT)
            sync(self.path)
        self._prune(target.name, before.folder.name if before else None, keep=keep)
        return Snapshot(folder=target, manifest=manifest)

    def kept(self) -> list[Path]:
        """The folders of all snapshots, the oldest first."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(entry for entry in self._snapshots.iterdir() if entry.is_dir())
        return []

    def _free_name(self, manifest: Manifest) -> Path:
        moment = manifest.generated_at.strftime("%Y%m%dT%H%M%S") + f"{manifest.generated_at.microsecond // 1000:03d}Z"
        name = f"{moment}-{manifest.snapshot_id.removeprefix('sha256:')[:16]}"
        target, copies = self._snapshots / name, 1
        while target.exists():
            copies += 1
            target = self._snapshots / f"{name}-{copies}"
        return target

    def _prune(self, current: str, before: str | None, *, keep: int) -> None:
        others = [entry.name for entry in self.kept() if entry.name != current]
        # What was current until now may have readers, however old its name is.
        others.sort(key=lambda name: (name == before, name))
        for name in others[: max(0, len(others) - keep)]:
            shutil.rmtree(self._snapshots / name, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what a process left that was killed: also a snapshot that it placed and did not switch to."""
        shutil.rmtree(self._staging, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._snapshots / self._next.readlink().name, ignore_errors=True)
            self._next.unlink()


def snapshot_in(folder: Path) -> Snapshot | None:
    """The snapshot whose two files lie in a folder; None if they cannot be read."""
    try:
        with (folder / MANIFEST_FILE).open("rb") as file:
            manifest = parse(file.read(_MANIFEST_AT_MOST))
        return Snapshot(folder=folder, manifest=manifest) if (folder / DATABASE_FILE).is_file() else None
    except (OSError, MirrorError):
        return None


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Errors of the disk and of SQLite as sentences."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            raise disk_full() from None
        raise LocalProblem("database", f"The database on this disk cannot be used ({error}).") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full() from None
        raise LocalProblem(
            "folder-not-writable",
            f"The mirror's folder cannot be used ({error.strerror or 'I/O error'}). Check permissions and disk.",
        ) from None


def disk_full() -> LocalProblem:
    """The sentence for a full disk."""
    return LocalProblem("disk-full", "The disk is full. Free some space; the last snapshot stays as it is.")
