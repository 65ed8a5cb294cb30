"""Which file system a path lies on, read from the kernel's table: the path itself is not touched.

Asking a folder on a server that is away would wait for it, for hours with NFS.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")

_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "9p", "ceph", "afs", "ncpfs", "coda", "lustre", "glusterfs"}
    | {"beegfs", "gpfs", "davfs", "davfs2", "ocfs2", "gfs2", "pvfs2", "moosefs"}
)
_NETWORK_FUSE = frozenset(
    {"sshfs", "rclone", "glusterfs", "ceph", "ceph-fuse", "s3fs", "gcsfuse", "goofys", "davfs", "davfs2", "curlftpfs"}
    | {"httpfs", "cifs", "smbnetfs", "juicefs", "mfs", "moosefs", "weed", "seaweedfs", "gvfsd-fuse", "google-drive"}
    | {"blobfuse", "blobfuse2", "hdfs", "lizardfs", "saunafs", "grpcfuse", "osxfs", "vmhgfs-fuse", "s3backer"}
)
"""What may stand behind ``fuse.``. Pools of local disks (mergerfs, shfs, bindfs) are not among them."""
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the table."""

    number: int
    point: str
    kind: str
    options: str

    @property
    def is_network(self) -> bool:
        """Whether its bytes lie on another machine (or the host of a virtual one), so that locks may not hold."""
        name = self.kind.removeprefix("fuse.")
        return self.kind in _NETWORK or (self.kind.startswith("fuse.") and name in _NETWORK_FUSE)

    @property
    def is_pool(self) -> bool:
        """Whether a program in between serves it: locks and memory maps depend on how well it does."""
        return not self.is_network and self.kind.startswith("fuse.")


def parse_mounts(text: str) -> list[Mount]:
    """The mounts of a ``mountinfo``, in its order; lines that are none are left out."""
    found = []
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if separator and len(fields) >= 6 and fields[0].isdigit() and rest[0]:
            found.append(Mount(number=int(fields[0]), point=_plain(fields[4]), kind=rest[0], options=fields[5]))
    return found


def mount_of(path: Path, mounts: Sequence[Mount]) -> Mount | None:
    """The mount that ``path`` lies on, or would lie on once it is made; links are followed."""
    named = _longest(Path(os.path.abspath(path)), mounts)  # noqa: PTH100 - resolve() asks the file system
    if named is not None and named.is_network:
        return named
    return _longest(Path(os.path.realpath(path)), mounts)


def _longest(path: Path, mounts: Sequence[Mount]) -> Mount | None:
    """Of several mounts at one point the last: it hides the others."""
    best: Mount | None = None
    depth = 0
    for mount in mounts:
        point = Path(mount.point).parts
        if path.parts[: len(point)] == point and len(point) >= depth:
            best, depth = mount, len(point)
    return best


def read_mounts() -> list[Mount]:
    """The mounts that this process sees; none where the kernel has no such table."""
    try:
        return parse_mounts(MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError:
        return []


def _plain(field: str) -> str:
    """Undo the octal escapes that stand for blanks and the like."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), field)
