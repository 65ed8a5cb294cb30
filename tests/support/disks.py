"""Small disks, to be full, and one in memory, to be fast."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOM = 256 * 1024 * 1024


@contextlib.contextmanager
def small_disk(folder: Path, *, size: str) -> Iterator[Path]:
    """A file system of its own at ``folder``; ``size`` as mount takes it. Skips where none can be mounted."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a tmpfs cannot be mounted here: that takes root, or `unshare -Urm` in front of the command")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def in_memory(otherwise: Path) -> Iterator[Path]:
    """A folder in memory, where no fsync takes time; what is in it outlives the process that wrote it.

    ``otherwise`` where there is no room for one.
    """
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or shutil.disk_usage(memory).free < _ROOM:
        otherwise.mkdir()
        yield otherwise
        return
    with tempfile.TemporaryDirectory(prefix="music-cloud-tests-", dir=memory) as folder:
        yield Path(folder)


def fill(folder: Path) -> Path:
    """Use up every block of the file system; returns the file to remove."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler
