"""Putting a snapshot's two files in place so that a reader finds the old pair or the new one, never a mixture.

The pair is made in a folder beside the target and synced. Where the target holds nothing else, the
two folders change places in one step of the file system (renameat2 with RENAME_EXCHANGE). Where it
does (or is a mount point, or on a file system without that step), the files are renamed one after
the other, the manifest last; its ``file.digest`` tells a reader who came between the two.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from common.catalog.read_model import DATABASE_FILE, MANIFEST_FILE

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_CANNOT = {errno.EINVAL, errno.ENOSYS, errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES, errno.ENOTSUP}


@contextlib.contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """A folder on the target's file system for the new pair; gone afterwards, whatever happened.

    Removes what an exporter that was killed left of earlier ones: their locks are free.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    home = target if _shared(target) else target.parent
    prefix = f".{target.name}.staging-"
    _sweep(home, prefix)
    staging = Path(tempfile.mkdtemp(prefix=prefix, dir=home))
    descriptor = os.open(staging, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _take_permissions(staging, target)
        yield staging
    finally:
        # After an exchange this name holds the old pair.
        shutil.rmtree(staging, ignore_errors=True)
        os.close(descriptor)


def put_in_place(staging: Path, target: Path) -> None:
    """Make the pair in ``staging`` the one in ``target``."""
    for name in (DATABASE_FILE, MANIFEST_FILE):
        sync(staging / name)
    sync(staging)
    if staging.parent == target:
        _one_by_one(staging, target)
    else:
        try:
            # Succeeds where there is nothing yet, or an empty folder.
            staging.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, *_CANNOT):
                raise
            if not _exchange(staging, target):
                _one_by_one(staging, target)
    sync(target.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest_of(path: Path) -> str:
    """A file's digest as manifests name it, ``sha256:…``."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _one_by_one(staging: Path, target: Path) -> None:
    for name in (DATABASE_FILE, MANIFEST_FILE):
        (staging / name).replace(target / name)
    sync(target)


def _shared(target: Path) -> bool:
    """Whether the target must stay the folder that it is: it holds other things, or is a mount point."""
    if not target.is_dir():
        return False
    if target.is_mount() or not os.access(target.parent, os.W_OK):
        return True
    own = {DATABASE_FILE, MANIFEST_FILE}
    return any(entry.name not in own for entry in target.iterdir())


def _exchange(one: Path, other: Path) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number))


def _take_permissions(staging: Path, target: Path) -> None:
    """A temporary folder is private; the snapshot's is as the target was, or as any new folder."""
    if target.is_dir():
        found = target.stat()
        staging.chmod(found.st_mode & 0o7777)
        with contextlib.suppress(PermissionError):
            os.chown(staging, found.st_uid, found.st_gid)
        return
    mask = os.umask(0o022)
    os.umask(mask)
    staging.chmod(0o777 & ~mask)


def _sweep(home: Path, prefix: str) -> None:
    for entry in home.glob(f"{prefix}*"):
        try:
            descriptor = os.open(entry, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(entry, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(descriptor)
