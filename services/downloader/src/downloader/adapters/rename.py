"""Renaming without replacing: what is there is never lost, whoever put it there."""

from __future__ import annotations

import ctypes
import errno
import os

_RENAME_NOREPLACE = 1
_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS})


class Renamer:
    """``renameat2`` where kernel and file system have it, a second name otherwise."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        self._renameat2 = getattr(library, "renameat2", None)

    def move(self, source: str, name: str, folder: int) -> None:
        """Move the file at path ``source`` to ``name`` in the open folder. Raises FileExistsError, OSError."""
        if self._renameat2 is not None:
            if self._renameat2(-100, os.fsencode(source), folder, os.fsencode(name), _RENAME_NOREPLACE) == 0:
                return
            number = ctypes.get_errno()
            if number not in _UNSUPPORTED:
                raise OSError(number, os.strerror(number))
        self.link(source, name, folder)

    def link(self, source: str, name: str, folder: int) -> None:
        """The same by a second name; where there are no such, by looking first (callers hold the folder's lock)."""
        try:
            os.link(source, name, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._look_first(source, name, folder)
            return
        os.unlink(source)  # noqa: PTH108

    @staticmethod
    def _look_first(source: str, name: str, folder: int) -> None:
        try:
            os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            os.rename(source, name, dst_dir_fd=folder)
            return
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
