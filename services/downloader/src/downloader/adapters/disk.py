"""The library's disk: room, and what its errors mean."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.contracts.status import Reason
from common.errors import DependencyDown
from downloader.errors import DiskFull

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Disk:
    """``reserve``: bytes that are left free for others."""

    def __init__(self, *, path: Path, reserve: int) -> None:
        self._path = path
        self._reserve = reserve

    def require(self, size: int = 0) -> None:
        """Raise DiskFull unless ``size`` more bytes fit and the reserve stays."""
        free = os.statvfs(self._path)
        if free.f_bavail * free.f_frsize < size + self._reserve:
            raise DiskFull

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
                "The library may not be written. Give our user (PUID, PGID) the right to write LIBRARY_DIR.",
                code="library-read-only",
                retry_after=30.0,
            ) from None
        if error.errno in (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENODEV):
            raise DependencyDown(
                f"The library's disk reports an error ({error.strerror}). Check it.", code="library-failing"
            ) from None
        raise
