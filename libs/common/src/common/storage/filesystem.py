"""Files in a folder of this machine."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from common.errors import DependencyDown, PermanentError
from common.storage.beneath import Escaped, open_beneath, require_beneath, root_handle
from common.storage.content_types import content_type
from common.storage.locators import check_locator
from common.storage.port import Canceled, FileChanged, FileMissing, Progress, PutResult, Stat, TransferCanceled

_CHUNK = 1024 * 1024
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class FilesystemStorage:
    """A folder; a locator is a path below it. Nothing outside the folder is read or written, whatever links say."""

    def __init__(self, *, root: Path) -> None:
        self._root = root

    def put_file(
        self,
        path: Path,
        locator: str,
        *,
        sha256: str,
        size: int,
        progress: Progress | None = None,
        canceled: Canceled | None = None,
    ) -> PutResult:
        """As the port says; a copy is made under another name, forced to disk, and renamed."""
        check_locator(locator)
        if self._holds(locator, sha256, size):
            return PutResult.ALREADY_THERE
        folders, _, name = locator.rpartition("/")
        try:
            source = path.open("rb")
        except FileNotFoundError:
            raise FileMissing("The file to be copied is not there any more.") from None
        try:
            with source, self._folder(folders) as folder:
                self._write(source, folder, name, (sha256, size), progress, canceled)
        except OSError as error:
            raise _write_failed(error) from None
        return PutResult.CREATED

    def stat(self, locator: str) -> Stat | None:
        """Size and type; a folder keeps no digests."""
        try:
            descriptor = open_beneath(self._root, locator)
        except FileMissing:
            return None
        try:
            return Stat(size=os.fstat(descriptor).st_size, content_type=content_type(locator))
        finally:
            os.close(descriptor)

    def open(self, locator: str) -> BinaryIO:
        """Open for reading; the caller closes it. Raises :class:`FileMissing`."""
        return os.fdopen(open_beneath(self._root, locator), "rb")

    def delete(self, locator: str) -> None:
        """Unlink it; a link itself is removed, never what it points to."""
        check_locator(locator)
        folders, _, name = locator.rpartition("/")
        try:
            with self._folder(folders, create=False) as folder:
                os.unlink(name, dir_fd=folder)
        except (FileNotFoundError, NotADirectoryError, Escaped):
            return
        except OSError as error:
            raise _write_failed(error) from None

    def presign(self, locator: str, *, seconds: int) -> None:
        """A folder has no URLs; the origin serves its files by tokens."""

    def check(self) -> None:
        """Raise DependencyDown when the folder cannot be read."""
        with root_handle(self._root):
            pass

    def _write(
        self,
        source: BinaryIO,
        folder: int,
        name: str,
        expected: tuple[str, int],
        progress: Progress | None,
        canceled: Canceled | None,
    ) -> None:
        temporary = f".{secrets.token_hex(8)}.part"
        try:
            with os.fdopen(os.open(temporary, _NEW_FILE, 0o666, dir_fd=folder), "wb", buffering=0) as sink:
                copied = copy_verified(source, sink, progress=progress, canceled=canceled)
                os.fsync(sink.fileno())
            if copied != expected:
                raise FileChanged("The file is not the one that was stored: its content changed.")
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            raise

    def _holds(self, locator: str, sha256: str, size: int) -> bool:
        try:
            file = self.open(locator)
        except FileMissing:
            return False
        with file:
            same_size = os.fstat(file.fileno()).st_size == size
            return same_size and copy_verified(file, None) == (sha256, size)

    @contextmanager
    def _folder(self, folders: str, *, create: bool = True) -> Iterator[int]:
        """A handle of the folder, made where it is missing; each step is checked to stay below the root."""
        with root_handle(self._root) as (root, place):
            current = os.open(f"/proc/self/fd/{root}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                for part in folders.split("/") if folders else ():
                    if create:
                        _make_folder(part, current)
                    below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=current)
                    os.close(current)
                    current = below
                    require_beneath(place, current)
                yield current
            finally:
                os.close(current)


def copy_verified(
    source: BinaryIO, sink: object, *, progress: Progress | None = None, canceled: Canceled | None = None
) -> tuple[str, int]:
    """Copy to the end; return the digest (hex) and size of what was read. ``sink`` has ``write``, or is None."""
    digest, size = hashlib.sha256(), 0
    write = getattr(sink, "write", None)
    while chunk := source.read(_CHUNK):
        if canceled is not None and canceled():
            raise TransferCanceled("The transfer was told to stop.")
        digest.update(chunk)
        rest = memoryview(chunk)
        while write is not None and rest:
            rest = rest[write(rest) :]
        size += len(chunk)
        if progress is not None:
            progress(size)
    return digest.hexdigest(), size


def _make_folder(name: str, parent: int) -> None:
    try:
        os.mkdir(name, dir_fd=parent)
    except FileExistsError:
        return


def _write_failed(error: OSError) -> Exception:
    words = os.strerror(error.errno or 0)
    if (
        isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
        or error.errno == errno.ENAMETOOLONG
    ):
        return PermanentError(f"The name cannot be used in this folder ({words}).", code="name-unusable")
    return DependencyDown(
        f"The folder cannot be written ({words}). Free space, or mend its rights.", code="folder-failing"
    )
