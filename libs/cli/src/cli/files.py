"""Files that hold secrets, and locks that only one process can have."""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

from common.errors import ConfigurationError
from common.secret_files import SECRETS_DIR, ensure_secrets


def make_secrets(root: Path) -> dict[str, str]:
    """Make the secrets that are missing; returns those made now. Raises :class:`ConfigurationError`."""
    try:
        return ensure_secrets(root)
    except OSError as error:
        raise ConfigurationError(
            f"The secrets below {root / SECRETS_DIR} cannot be read or made ({error.strerror}). ROOT_DIR and what "
            "lies in it must belong to the user that runs this."
        ) from None


def write_private(path: Path, text: str) -> None:
    """Write ``text`` atomically, readable by its owner only; on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not the process number: two containers that share a folder may have the same one.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk: a rename survives a power cut only then."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
