"""Opening files below a root folder, and nothing outside it, whatever links say and whoever changes them meanwhile.

What is opened is judged, not what was asked for: the kernel resolves the path to a handle that cannot yet read
(``O_PATH``), its real place and kind are looked at, and only then is that very handle opened for reading.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import DependencyDown
from common.storage.locators import check_locator
from common.storage.port import FileMissing

_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES, errno.ESTALE, errno.EINVAL}
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK


class Escaped(FileMissing):
    """The locator leads out of its backend through a link: for the one who asked, there is no such file."""


def open_beneath(root: Path, locator: str) -> int:
    """A descriptor to read the regular file ``locator`` below ``root``; the caller closes it.

    Links that stay below ``root`` are followed. Raises :class:`FileMissing` (also for folders, pipes, devices
    and what we may not read), :class:`DependencyDown` when the root itself cannot be read, ``InvalidLocator``.
    """
    check_locator(locator)
    with root_handle(root) as (folder, place):
        try:
            handle = os.open(locator, os.O_PATH | os.O_CLOEXEC, dir_fd=folder)
        except OSError as error:
            raise _missing(error) from None
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise FileMissing("What lies there is not a file.")
            require_beneath(place, handle)
            return os.open(f"/proc/self/fd/{handle}", _READ)
        except OSError as error:
            raise _missing(error) from None
        finally:
            os.close(handle)


@contextmanager
def root_handle(root: Path) -> Iterator[tuple[int, str]]:
    """A handle of the root folder, and its real place."""
    try:
        handle = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise DependencyDown(
            f"The folder that holds the files cannot be read ({error.strerror}). Is its disk mounted?",
            code="folder-missing",
        ) from None
    try:
        yield handle, _place(handle)
    finally:
        os.close(handle)


def require_beneath(place: str, handle: int) -> None:
    """Raise :class:`Escaped` unless what ``handle`` names really lies below the folder ``place``."""
    if not _place(handle).startswith(place.rstrip("/") + "/"):
        raise Escaped("There is no such file.")


def _place(handle: int) -> str:
    return os.readlink(f"/proc/self/fd/{handle}")  # noqa: PTH115 - asked for each request; a Path costs more than it


def _missing(error: OSError) -> Exception:
    if error.errno in _GONE:
        return FileMissing("The file is not there any more, or may not be read by this user.")
    return DependencyDown(
        f"The folder that holds the files does not answer ({os.strerror(error.errno or 0)}).", code="folder-failing"
    )
