"""Files that hold secrets, and locks that only one process can have."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """Write ``text`` atomically, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


class Locked(Exception):
    """Another process has the lock; the argument is what it wrote about itself."""


def take_lock(path: Path, *, note: str = "", inherit: bool = False) -> int:
    """Take the lock at ``path`` until this process ends; returns its descriptor, to be kept open.

    ``note`` is what others are told of the holder. With ``inherit`` a program that replaces this
    process keeps the lock. Raises :class:`Locked`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 500).decode(errors="replace").strip()
        os.close(descriptor)
        raise Locked(holder) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, note.encode(), 0)
    os.set_inheritable(descriptor, inherit)
    return descriptor
