"""The library: files that are complete, under names that every file system keeps, never outside its root."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Sequence
from pathlib import Path

from common.errors import TransientError
from common.storage.locators import InvalidLocator, check_locator
from downloader.adapters.disk import disk_errors
from downloader.adapters.folders import Folder, FolderLock, Folders, Names
from downloader.adapters.rename import Renamer
from downloader.ports import Placed, Placing

TRASH = ".trash"
_BUFFER = 1024 * 1024


class LibraryFolder:
    """``root`` must exist; the spool lies on the same file system."""

    def __init__(self, root: Path, *, lock: FolderLock) -> None:
        self.root = root
        self._folders = Folders(root, lock=lock)
        self._renamer = Renamer()

    def holds(self, locator: str, size: int) -> bool:
        """Whether a plain file of ``size`` bytes lies there."""
        found = self._stat(locator)
        return found is not None and found.st_size == size

    def place(self, part: Path, targets: Sequence[str], *, replace: str | None, twin: str | None = None) -> Placed:
        """Move ``part`` to the first target whose name is free; the song's own old file gives way, to the trash.

        ``twin``: a file with this sha256 that has one of the names is the song's own, and is taken.
        The name is on the disk when this returns. Raises DependencyDown and TransientError.
        """
        with disk_errors():
            for target in targets:
                path, _, name = target.rpartition("/")
                with self._folders.open(path, make=True) as folder:
                    if twin is not None and self._holds_twin(folder.locator(name), part, twin):
                        os.fsync(folder.handle)
                        return Placed(locator=folder.locator(name))
                    if (placed := self._place_as(part, name, folder, replace)) is not None:
                        os.fsync(folder.handle)
                        return placed
        raise TransientError("Both names that the song may have are taken by other files.", code="name-taken")

    def adopt(self, placing: Placing) -> str | None:
        """Where an interrupted placing left its file: still in the spool (it is placed now), or in the library."""
        part = placing.path
        for target in placing.targets:
            locator = self._spelled(target)
            found = self._stat(locator) if locator else None
            if locator and found and found.st_ino == placing.inode and found.st_size == placing.fact.size:
                self._sync(locator)
                with contextlib.suppress(FileNotFoundError):
                    part.unlink()
                return locator
        if _is(part, placing):
            return self.place(part, placing.targets, replace=placing.old).locator
        # File systems without lasting inode numbers: the content must do, the name with the id first.
        for target in reversed(placing.targets):
            locator = self._spelled(target)
            if locator and self.holds(locator, placing.fact.size) and self._sha256(locator) == placing.fact.sha256:
                self._sync(locator)
                return locator
        return None

    def trash(self, locator: str) -> None:
        """Move a file to ``.trash/`` of the library, keeping its path there; nothing if it is gone already."""
        try:
            check_locator(locator)
        except InvalidLocator:
            return
        path, _, name = locator.rpartition("/")
        with disk_errors(), contextlib.suppress(FileNotFoundError), self._folders.open(path, make=False) as folder:
            os.stat(name, dir_fd=folder.handle, follow_symlinks=False)
            with self._folders.open(f"{TRASH}/{path}" if path else TRASH, make=True) as trash:
                source = f"/proc/self/fd/{folder.handle}/{name}"
                self._renamer.move(source, _trash_name(name), trash.handle)
                os.fsync(trash.handle)
            os.fsync(folder.handle)

    def remove(self, locator: str) -> None:
        """Remove a file that was placed by this very try and that nobody knows of."""
        path, _, name = locator.rpartition("/")
        with contextlib.suppress(FileNotFoundError), self._folders.open(path, make=False) as folder:
            os.unlink(name, dir_fd=folder.handle)

    def _place_as(self, part: Path, name: str, folder: Folder, replace: str | None) -> Placed | None:
        with self._folders.choosing(folder) as names:
            present = names.find(name)
            if present is None:
                return self._place_new(part, name, folder, names)
            if replace is not None and folder.locator(present) == replace:
                return self._replace(part, present, folder, names)
            return None

    def _place_new(self, part: Path, name: str, folder: Folder, names: Names) -> Placed | None:
        with contextlib.suppress(FileExistsError):
            self._renamer.move(str(part), name, folder.handle)
            names.add(name, folder.handle)
            return Placed(locator=folder.locator(name))
        return None

    def _replace(self, part: Path, name: str, folder: Folder, names: Names) -> Placed | None:
        """Put ``part`` in the place of the song's own old file: the old one gets a second name in the trash first."""
        old = f"/proc/self/fd/{folder.handle}/{name}"
        with self._folders.open(f"{TRASH}/{folder.path}" if folder.path else TRASH, make=True) as trash:
            try:
                os.link(name, _trash_name(name), src_dir_fd=folder.handle, dst_dir_fd=trash.handle)
            except FileNotFoundError:
                # Taken away since the folder was listed, too soon for its time stamp to tell.
                return self._place_new(part, name, folder, names)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
                    raise
                os.rename(old, _trash_name(name), dst_dir_fd=trash.handle)
            os.fsync(trash.handle)
        os.rename(part, name, dst_dir_fd=folder.handle)
        names.add(name, folder.handle)
        return Placed(locator=folder.locator(name), replaced=True)

    def _holds_twin(self, locator: str, part: Path, sha256: str) -> bool:
        return self.holds(locator, part.stat().st_size) and self._sha256(locator) == sha256

    def _stat(self, locator: str) -> os.stat_result | None:
        """The plain file at ``locator``; None for anything else, and for what lies outside."""
        try:
            check_locator(locator)
            found = os.stat(self.root / locator, follow_symlinks=False)  # noqa: PTH116
        except (InvalidLocator, FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return None
            with disk_errors():
                raise
        return found if stat.S_ISREG(found.st_mode) else None

    def _spelled(self, target: str) -> str | None:
        """The target as its folders are really spelled."""
        path, _, name = target.rpartition("/")
        with contextlib.suppress(FileNotFoundError), self._folders.open(path, make=False) as folder:
            return folder.locator(name)
        return None

    def _sync(self, locator: str) -> None:
        path, _, _ = locator.rpartition("/")
        with disk_errors(), self._folders.open(path, make=False) as folder:
            os.fsync(folder.handle)

    def _sha256(self, locator: str) -> str:
        sha = hashlib.sha256()
        with (self.root / locator).open("rb") as file:
            while data := file.read(_BUFFER):
                sha.update(data)
        return sha.hexdigest()


def _is(part: Path, placing: Placing) -> bool:
    """Whether the spool still has the very file that was to be placed."""
    try:
        found = part.stat()
    except FileNotFoundError:
        return False
    return found.st_ino == placing.inode and found.st_size == placing.fact.size


def _trash_name(name: str) -> str:
    """Unique, and still sorted by time; shortened so that it stays a valid name."""
    stem, dot, ext = name.rpartition(".")
    mark = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(3)} "
    kept = (stem or name).encode()[: 255 - len(mark) - len(ext) - 1].decode(errors="ignore")
    return f"{mark}{kept}{dot}{ext}" if stem else f"{mark}{kept}"
