"""Locks over threads and processes, one byte of one file each.

Open-file-description locks on byte ranges: a lock needs no file of its own, nothing is left to clean
up, and the kernel lets go of it when the process ends, however it ends. They hold between processes
only, so that threads are kept apart by a set.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

_POLL_SECONDS = 0.05
_FLOCK = struct.Struct("@hhqqi4x")


class ByteLock:
    """A held lock."""

    def __init__(self, locks: Locks, offset: int, *, waited: bool) -> None:
        self._locks = locks
        self._offset: int | None = offset
        self.waited = waited
        """Whether somebody else had it when we asked."""

    @property
    def held(self) -> bool:
        return self._offset is not None

    def release(self) -> None:
        """Let go; a second call does nothing."""
        offset, self._offset = self._offset, None
        if offset is not None:
            self._locks.unlock(offset)

    def __enter__(self) -> ByteLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Locks:
    """The locks of one file. Offsets are any numbers from 0 to 2**62."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._held: set[int] = set()
        self._changed = threading.Condition()

    def acquire(self, offset: int, *, patience: float, canceled: Callable[[], bool]) -> ByteLock | None:
        """The lock of ``offset``, or None after ``patience`` seconds or when canceled."""
        deadline = time.monotonic() + patience
        waited = False
        with self._changed:
            while offset in self._held:
                waited = True
                left = deadline - time.monotonic()
                if left <= 0 or canceled():
                    return None
                self._changed.wait(min(left, _POLL_SECONDS))
            self._held.add(offset)
        try:
            while not self._set(fcntl.F_WRLCK, offset):
                waited = True
                if time.monotonic() >= deadline or canceled():
                    self._forget(offset)
                    return None
                time.sleep(_POLL_SECONDS / 5)
        except BaseException:
            self._forget(offset)
            raise
        return ByteLock(self, offset, waited=waited)

    def unlock(self, offset: int) -> None:
        """Let go of a lock that :meth:`acquire` gave."""
        try:
            self._set(fcntl.F_UNLCK, offset)
        finally:
            self._forget(offset)

    def close(self) -> None:
        os.close(self._fd)

    def _forget(self, offset: int) -> None:
        with self._changed:
            self._held.discard(offset)
            self._changed.notify_all()

    def _set(self, kind: int, offset: int) -> bool:
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, offset, 1, 0))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True
