"""Taking a file from a mounted folder: in place, by a second name, as a clone, or as a copy.

A clone that the file system cannot make becomes a copy. A hard link that it cannot make is an error:
a copy would double a library that somebody chose not to double.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import threading
from pathlib import Path

from common.contracts.names import ImportMode
from common.errors import PermanentError, TransientError
from downloader.adapters.disk import Disk, disk_errors
from downloader.errors import DiskFull, Stopped
from downloader.ports import Fetched, Spool, Watch
from downloader.service.sniff import HEAD_BYTES
from sources.port import FileCandidate

BUFFER = 1024 * 1024
_FICLONE = 0x40049409
_NO_CLONE = frozenset(
    {errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM, errno.EBADF}
)


class FileFetcher:
    """Blocking; one call per thread at a time. ``max_size`` in bytes."""

    def __init__(self, *, spool: Spool, disk: Disk, max_size: int) -> None:
        self._spool = spool
        self._disk = disk
        self._max_size = max_size
        self._threads = threading.local()

    def fetch(self, candidate: FileCandidate, song_id: int, *, mode: ImportMode, watch: Watch) -> Fetched:
        """Take the file as ``mode`` says.

        Raises PermanentError (gone, unreadable, too large, no hard link possible), TransientError (it
        changed meanwhile, the disk fails), DiskFull, Stopped. Nothing stays in the spool after an error.
        """
        source = _open(candidate.path)
        try:
            before = os.fstat(source)
            if not stat.S_ISREG(before.st_mode):
                raise PermanentError("This is not a plain file.", code="source-file-unreadable")
            if before.st_size > self._max_size:
                raise PermanentError(
                    f"The file is larger than {self._max_size // 1024**2} MiB. Raise MAX_FILE_SIZE to take it.",
                    code="file-too-large",
                )
            try:
                fetched = self._take(candidate, source, before.st_size, song_id, mode, watch)
            except BaseException:
                self._spool.forget(song_id)
                raise
            after = os.fstat(source)
            if (after.st_size, after.st_mtime_ns) != (
                before.st_size,
                before.st_mtime_ns,
            ) or fetched.size != after.st_size:
                self._spool.forget(song_id)
                raise TransientError("The file changed while it was read; it is tried again.", code="source-changed")
        finally:
            os.close(source)
        return fetched

    def _take(
        self, candidate: FileCandidate, source: int, size: int, song_id: int, mode: ImportMode, watch: Watch
    ) -> Fetched:
        part = self._spool.part(song_id)
        if mode is ImportMode.REFERENCE:
            sha, read, head = self._read(source, None, size, watch)
            return Fetched(
                path=candidate.path, sha256=sha, size=read, head=head, owned=False, borrowed=True, import_mode=mode
            )
        self._spool.forget(song_id)
        if mode is ImportMode.HARDLINK:
            _hard_link(source, part)
            sha, read, head = self._read(source, None, size, watch)
            return Fetched(path=part, sha256=sha, size=read, head=head, owned=False, import_mode=mode)
        self._disk.require()
        with disk_errors():
            target = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            try:
                cloned = mode is ImportMode.REFLINK and _clone(source, target)
                if not cloned:
                    self._disk.require(size)
                sha, read, head = self._read(source, None if cloned else target, size, watch)
                os.fsync(target)
            finally:
                os.close(target)
        used = ImportMode.REFLINK if cloned else ImportMode.COPY
        return Fetched(path=part, sha256=sha, size=read, head=head, import_mode=used)

    def _read(self, source: int, target: int | None, total: int, watch: Watch) -> tuple[str, int, bytes]:
        """Read once: hash, and write where ``target`` is given."""
        sha, size, head = hashlib.sha256(), 0, bytearray()
        view = self._buffer()
        watch.progress(0, total, "")
        while True:
            try:
                count = os.readv(source, [view])
            except OSError as error:
                raise TransientError(
                    f"The file cannot be read ({error.strerror}). Check the disk of the music folder.",
                    code="source-failing",
                ) from None
            if not count:
                return sha.hexdigest(), size, bytes(head)
            data = view[:count]
            sha.update(data)
            if len(head) < HEAD_BYTES:
                head += data[: HEAD_BYTES - len(head)]
            if target is not None:
                _write_all(target, data)
            size += count
            watch.progress(size, total, "")
            if watch.canceled():
                raise Stopped

    def _buffer(self) -> memoryview:
        if not hasattr(self._threads, "buffer"):
            self._threads.buffer = memoryview(bytearray(BUFFER))
        buffer: memoryview = self._threads.buffer
        return buffer


def _open(path: Path) -> int:
    """Open for reading; never waits on a pipe, never follows a link that took the file's place."""
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError):
        raise PermanentError(
            "The file is no longer in the folder. Put it back, or remove it from the playlist.",
            code="source-file-missing",
        ) from None
    except OSError as error:
        if error.errno in (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EMFILE, errno.ENFILE):
            raise TransientError(
                f"The file cannot be opened ({error.strerror}). Check the disk of the music folder.",
                code="source-failing",
            ) from None
        raise PermanentError(
            f"The file may not be read ({error.strerror}). Allow the user that runs us (in containers PUID, PGID) to.",
            code="source-file-unreadable",
        ) from None


def _hard_link(source: int, part: Path) -> None:
    try:
        # The open file itself is linked, not whatever has its name by now.
        # (src_dir_fd only makes Python use linkat, which is what follows the name in /proc.)
        os.link(f"/proc/self/fd/{source}", part, src_dir_fd=source, follow_symlinks=True)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFull from None
        why = {
            errno.EXDEV: "the music folder and the library are not on one file system",
            errno.EPERM: "the file system has no hard links, or the file belongs to another user",
            errno.EMLINK: "the file has too many names already",
        }.get(error.errno or 0, error.strerror)
        raise PermanentError(
            f"No hard link can be made: {why}. Set IMPORT_MODE to reference, reflink or copy, for a new job.",
            code="hardlink-impossible",
        ) from None


def _clone(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _NO_CLONE:
            return False
        raise
    return True


def _write_all(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]
