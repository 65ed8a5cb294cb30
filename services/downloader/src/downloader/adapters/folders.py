"""Folders below the library: walked by handles, so that no link leads out; their names remembered.

A name is taken when another one that a file system may confuse with it is there: equal but for case
or Unicode form. Listing a folder for every song would cost the square of its songs, so that names are
kept until the folder changes by another hand.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import PermanentError
from downloader.service.naming import fold

_KEPT = 256
"""Folders whose names are remembered."""
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


FolderLock = Callable[[int], AbstractContextManager[None]]
"""Keeps all other copies from choosing names in the folder of that number."""


@dataclass(kw_only=True)
class Names:
    """The names of a folder, by what they may be confused with. Touched under the folder's lock only."""

    stamp: int = -1
    known: set[str] = field(default_factory=set)
    folded: dict[str, str] = field(default_factory=dict)

    def find(self, name: str) -> str | None:
        """The name that is there and equal to ``name``, or as good as equal."""
        return self.folded.get(fold(name))

    def refresh(self, handle: int) -> None:
        """List the folder again if it changed by another hand.

        Its time stamp tells; on kernels before 6.13 a change within 4 ms of ours may be missed. A name that
        is exactly equal is then still refused by the rename itself.
        """
        stamp = os.fstat(handle).st_mtime_ns
        if stamp == self.stamp:
            return
        present = set(os.listdir(handle))
        for gone in self.known - present:
            if self.folded.get(fold(gone)) == gone:
                del self.folded[fold(gone)]
        for new in present - self.known:
            self.folded[fold(new)] = new
        self.known, self.stamp = present, stamp

    def add(self, name: str, handle: int) -> None:
        """A name that we made under the lock: no other change can be hidden behind the new stamp."""
        self.known.add(name)
        self.folded[fold(name)] = name
        self.stamp = os.fstat(handle).st_mtime_ns


class Folder:
    """An open folder below the library."""

    def __init__(self, *, handle: int, path: str) -> None:
        self.handle = handle
        self.path = path
        """relative to the library, as it is really spelled; empty for the library itself"""

    def locator(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name


class Folders:
    """Opens and makes folders below ``root``."""

    def __init__(self, root: Path, *, lock: FolderLock) -> None:
        self._root = root
        self._real_root = os.path.realpath(root).rstrip("/")
        self._lock = lock
        self._names: OrderedDict[str, Names] = OrderedDict()
        self._guard = threading.Lock()

    @contextmanager
    def open(self, path: str, *, make: bool) -> Iterator[Folder]:
        """The folder at ``path``. With ``make`` it is made where it is missing; a folder that only differs
        in case or Unicode form is taken instead.

        Raises FileNotFoundError, and PermanentError where a link leads out of the library.
        """
        if (handle := self._straight(path)) is not None:
            try:
                yield Folder(handle=handle, path=path)
            finally:
                os.close(handle)
            return
        with ExitStack() as opened:
            root = self._enter(opened, os.open(self._root, _OPEN))
            place = _place(root)
            handle, spelled = root, ""
            for part in filter(None, path.split("/")):
                name = part
                try:
                    following = os.open(name, _OPEN, dir_fd=handle)
                except FileNotFoundError:
                    if not make:
                        raise
                    name = self._make(Folder(handle=handle, path=spelled), part)
                    following = os.open(name, _OPEN, dir_fd=handle)
                except NotADirectoryError:
                    raise PermanentError(
                        f"A file lies where the folder {part[:80]} must be. Move it away.", code="folder-in-the-way"
                    ) from None
                handle = self._enter(opened, following)
                if not _place(handle).startswith(place.rstrip("/") + "/"):
                    raise PermanentError(
                        f"The folder {part[:80]} is a link that leads out of the library. Replace it by a folder.",
                        code="outside-library",
                    )
                spelled = f"{spelled}/{name}" if spelled else name
            yield Folder(handle=handle, path=spelled)

    def _straight(self, path: str) -> int | None:
        """The folder in one step, if it is there, exactly so, and no link is on the way."""
        try:
            handle = os.open(f"{self._real_root}/{path}", _OPEN)
        except OSError:
            return None
        if _place(handle) == f"{self._real_root}/{path}".rstrip("/"):
            return handle
        os.close(handle)
        return None

    @contextmanager
    def choosing(self, folder: Folder) -> Iterator[Names]:
        """The names of the folder as they are now; no other copy adds one meanwhile."""
        number = int.from_bytes(hashlib.blake2b(fold(folder.path).encode(), digest_size=7).digest(), "big")
        with self._lock(number):
            with self._guard:
                names = self._names.pop(folder.path, None) or Names()
                self._names[folder.path] = names
                if len(self._names) > _KEPT:
                    self._names.popitem(last=False)
            names.refresh(folder.handle)
            yield names

    def _make(self, parent: Folder, name: str) -> str:
        """Make a folder, or find the one that a file system may take for the same."""
        with self.choosing(parent) as names:
            if (present := names.find(name)) is not None:
                return present
            os.mkdir(name, 0o777, dir_fd=parent.handle)
            names.add(name, parent.handle)
        os.fsync(parent.handle)
        return name

    @staticmethod
    def _enter(stack: ExitStack, handle: int) -> int:
        stack.callback(os.close, handle)
        return handle


def _place(handle: int) -> str:
    return os.readlink(f"/proc/self/fd/{handle}")  # noqa: PTH115 - for every folder of every song
