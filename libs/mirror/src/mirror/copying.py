"""Copying a file of our own: shared blocks where the file system can, in the kernel where not."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import sys
from pathlib import Path

_FICLONE = 0x40049409
"""The request of ioctl_ficlone(2): share all blocks, copy a block when one of the two changes."""
_AT_ONCE = 1 << 30
_CANNOT = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY, errno.EPERM}


def copy_file(source: Path, target: Path) -> None:
    """Write a new file with the content of ``source``. Raises OSError."""
    with source.open("rb") as reading, target.open("xb") as writing:
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                fcntl.ioctl(writing.fileno(), _FICLONE, reading.fileno())
                return
            if _copy_in_kernel(reading.fileno(), writing.fileno()):
                return
        shutil.copyfileobj(reading, writing, 1 << 20)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy_in_kernel(reading: int, writing: int) -> bool:
    """False where nothing was copied because this pair of file systems cannot."""
    copied = 0
    while True:
        try:
            count = os.copy_file_range(reading, writing, _AT_ONCE)
        except OSError as error:
            if copied == 0 and error.errno in _CANNOT:
                return False
            raise
        if count == 0:
            # Some file systems answer 0 instead of an error: then the plain copy does all.
            return copied > 0 or os.fstat(reading).st_size == 0
        copied += count
