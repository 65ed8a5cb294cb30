"""The library's disk: room, and what its errors mean."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.contracts.status import Reason
from common.errors import DependencyDown
from downloader.errors import DiskFull

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

_PLENTY = 8 * 1024**3
_SMALL = 64 * 1024**2
_TRUST_SECONDS = 0.5
"""A disk with 8 GiB to spare does not fill up in half a second; it is not asked again for every small file."""


class Disk:
    """``reserve``: bytes that are left free for others."""

    def __init__(self, *, path: Path, reserve: int) -> None:
        self._path = path
        self._reserve = reserve
        self._plenty_until = 0.0

    def require(self, size: int = 0) -> None:
        """Raise DiskFull unless ``size`` more bytes fit and the reserve stays."""
        if size < _SMALL and time.monotonic() < self._plenty_until:
            return
        found = os.statvfs(self._path)
        free = found.f_bavail * found.f_frsize - self._reserve
        if free < size:
            raise DiskFull
        self._plenty_until = time.monotonic() + _TRUST_SECONDS if free > _PLENTY else 0.0

    def problem(self) -> Reason | None:
        """Why nothing can be stored now; for /readyz."""
        try:
            self.require()
        except DependencyDown as error:
            return error.reason
        except OSError:
            return Reason(code="library-missing", message="The library folder cannot be read. Mount it again.")
        return None


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn the errors of writing into ours."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise DependencyDown(
                "The library may not be written. Give the user that runs us (in containers PUID, PGID) the right to.",
                code="library-read-only",
                retry_after=30.0,
            ) from None
        if error.errno in (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENODEV):
            raise DependencyDown(
                f"The library's disk reports an error ({error.strerror}). Check it.", code="library-failing"
            ) from None
        raise
