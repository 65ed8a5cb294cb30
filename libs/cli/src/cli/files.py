"""Files that hold secrets, and locks that only one process can have."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from common.audit import Place, StartRefused
from common.audit.folders import write_findings
from common.errors import ConfigurationError
from common.secret_files import ACCOUNTS, SECRETS_DIR, ensure_secrets, secrets_path

_WAYS_OUT = {
    errno.ENOSPC: "Its disk is full: free some space",
    errno.EDQUOT: "The quota of this user is used up: free some space, or raise it",
    errno.EROFS: "Its disk is mounted read-only: mount it to be written, or name another ROOT_DIR",
    errno.EIO: "Its disk fails: check it",
    errno.ENOTDIR: "Something that is no folder lies in its way: move that away, or name another ROOT_DIR",
}
_NOT_OURS = "ROOT_DIR and what lies in it must belong to the user that runs this: mend that"


def make_secrets(root: Path) -> dict[str, str]:
    """Make the secrets that are missing; returns those made now.

    Raises :class:`ConfigurationError`; where there are none yet and none can be written, nothing was made.
    """
    if not any(secrets_path(root, account).is_file() for account in ACCOUNTS):
        require_room(root)
    try:
        return ensure_secrets(root)
    except OSError as error:
        way_out = _WAYS_OUT.get(error.errno or 0, _NOT_OURS)
        raise ConfigurationError(
            f"The secrets below {root / SECRETS_DIR} cannot be read or made ({error.strerror}). {way_out}, and start "
            "again."
        ) from None


def require_room(root: Path) -> None:
    """Raise :class:`StartRefused` where nothing can be written to ROOT_DIR, or to where it is to be made."""
    place = Place(setting="ROOT_DIR", path=root.absolute())
    found, _ = write_findings([place], place)
    if found:
        raise StartRefused(found)


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
