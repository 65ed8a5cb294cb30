"""A private folder for each worker: made before it starts, gone after it, also where somebody was killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "worker-"


class PrivateFolder:
    """Of one worker. A lock on it says that its owner lives; the kernel lets go of it when that one dies."""

    def __init__(self, base: Path) -> None:
        """Makes it in ``base``, and removes what others left there. Raises ``OSError``."""
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(base):
            for leftover in base.glob(f"{_PREFIX}*"):
                _remove_unused(leftover)
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
            self._lock = _lock(self.path)
        for part in ("home", "tmp"):
            (self.path / part).mkdir(mode=0o700)

    def remove(self) -> None:
        """Harmless when it is gone."""
        remove_tree(self.path)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def remove_tree(path: Path) -> None:
    """Remove what can be removed, however deep, and whatever its permissions; links are not followed."""
    # By programs: what Python has for it ends at the depth of its stack.
    for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
        with contextlib.suppress(OSError):
            subprocess.run(
                [*command, "--", str(path)], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
            )


def _remove_unused(path: Path) -> None:
    try:
        lock = _lock(path)
    except OSError:
        return
    if lock is not None:
        remove_tree(path)
        os.close(lock)


def _lock(path: Path) -> int | None:
    """Hold the folder; None where somebody else does."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


@contextlib.contextmanager
def _locked(base: Path) -> Iterator[None]:
    """One at a time: a folder that was made is held before anybody can take it for a leftover."""
    descriptor = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
