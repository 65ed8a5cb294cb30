"""Folders: may we write and read them, is there room, do files move between them in one step."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.audit.commands import command, on_machine, owner_command, what_fills
from common.audit.finding import Finding
from common.audit.mounts import Mount, mount_of
from common.audit.needs import Place

_FULL_BYTES = 1024**2
"""With less a database cannot even begin."""
_FULL_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT})
_DENIED = frozenset({errno.EACCES, errno.EPERM})
_NO_UNNAMED = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS})
_SIDE_FILES = ("", "-wal", "-shm", ".lock")


@dataclass(frozen=True)
class _Spot:
    """Where a folder is, or the nearest folder above it that is there. ``error``: why it cannot be written."""

    place: Place
    anchor: Path
    error: OSError | None = None

    @property
    def missing(self) -> bool:
        return self.anchor != self.place.path


def write_findings(places: Iterable[Place], root: Place) -> tuple[list[Finding], set[Place]]:
    """Folders that cannot be written and disks that are full, one finding for each cause; and those folders."""
    failed: dict[tuple[Path, int], list[_Spot]] = defaultdict(list)
    full: dict[int, list[_Spot]] = defaultdict(list)
    for spot in map(_look, places):
        if spot.error is None:
            room = os.statvfs(spot.anchor)
            if room.f_bavail * room.f_frsize < _FULL_BYTES or (room.f_files and not room.f_favail):
                full[spot.anchor.stat().st_dev].append(spot)
        elif spot.error.errno in _FULL_ERRORS:
            full[spot.anchor.stat().st_dev].append(spot)
        else:
            failed[spot.anchor, spot.error.errno or 0].append(spot)
    found = [_unwritable(anchor, spots, root) for (anchor, _), spots in failed.items()]
    found += [_full(on_disk) for on_disk in full.values()]
    return found, {spot.place for spots in (*failed.values(), *full.values()) for spot in spots}


def read_finding_of(place: Place) -> Finding | None:
    """Why a folder that is only read cannot be. One that is not there may be mounted later: a warning."""
    try:
        is_folder = stat.S_ISDIR(place.path.stat().st_mode)
    except FileNotFoundError:
        return Finding(
            code="folder-missing",
            severity="warning",
            message=f"{place.setting} is not there, so nothing can be read from it; mount its disk or correct it",
            mend="sudo mount -a",
        )
    except OSError as error:
        return _unreadable(place, error.strerror or "no reason given")
    if not is_folder:
        return Finding(
            code="no-folder",
            severity="error",
            message=f"{place.setting} is not a folder; name another",
            mend=command("ls", "-ld", place.path),
        )
    if not os.access(place.path, os.R_OK | os.X_OK, effective_ids=True):
        return _unreadable(place, os.strerror(errno.EACCES))
    return None


def file_finding(place: Place, database: Path) -> Finding | None:
    """A database that is there and belongs to another user, as after one start as root."""
    for suffix in _SIDE_FILES:
        path = database.with_name(database.name + suffix)
        if path.exists() and not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
            return Finding(
                code="not-writable",
                severity="error",
                message=f"{path.name} in {place.setting} cannot be written by {_who()}",
                mend=owner_command(place.path),
            )
    return None


def split_finding(one: Place, other: Place, mounts: Sequence[Mount]) -> Finding | None:
    """Whether a file can move from one to the other in one step: the same disk is not enough, two mounts of
    it will not do."""
    first, second = _look(one, probe=False).anchor, _look(other, probe=False).anchor
    try:
        if first.stat().st_dev == second.stat().st_dev and mount_of(first, mounts) == mount_of(second, mounts):
            return None
    except OSError:
        return None  # said already: it cannot be written
    return Finding(
        code="two-file-systems",
        severity="error",
        message=f"{one.setting} and {other.setting} lie on different file systems, so that songs cannot move from one "
        f"to the other in one step; leave {one.setting} empty, or name a folder on the same mount as {other.setting}, "
        "which this command shows",
        mend=command("df", "-h", first, second),
    )


def reserve_finding(place: Place, reserve: int) -> Finding | None:
    """A disk on which the reserve is used up: nothing is written to it until there is more room."""
    anchor = _look(place, probe=False).anchor
    try:
        room = os.statvfs(anchor)
    except OSError:
        return None
    free = room.f_bavail * room.f_frsize
    if free >= reserve:
        return None
    return Finding(
        code="low-space",
        severity="warning",
        message=f"The disk of {place.setting} has {free // 1024**2} MiB free, less than MIN_FREE_SPACE "
        f"({reserve // 1024**2} MiB), so that downloads wait; free some space",
        mend=what_fills(anchor),
    )


def _look(place: Place, *, probe: bool = True) -> _Spot:
    anchor = place.path
    while True:
        try:
            if not stat.S_ISDIR(anchor.stat().st_mode):
                return _Spot(place, anchor, NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
            break
        except (FileNotFoundError, NotADirectoryError):
            if anchor.is_symlink():
                return _Spot(place, anchor, FileNotFoundError(errno.ENOENT, "a link that leads nowhere"))
            anchor = anchor.parent
        except OSError as error:
            return _Spot(place, anchor, error)
    return _Spot(place, anchor, _cannot_write(anchor) if probe else None)


def _cannot_write(folder: Path) -> OSError | None:
    """Write one block into a file without a name: asking for permissions alone believes too much (exports
    of NFS, access lists, quotas)."""
    try:
        descriptor = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in _NO_UNNAMED:
            return error
        try:
            descriptor, name = tempfile.mkstemp(prefix=".music-cloud-probe-", dir=folder)
            Path(name).unlink()
        except OSError as again:
            return again
    try:
        os.write(descriptor, bytes(4096))
    except OSError as error:
        return error
    finally:
        os.close(descriptor)
    return None


def _unwritable(anchor: Path, spots: Sequence[_Spot], root: Place) -> Finding:
    error = spots[0].error
    assert error is not None
    names = _listed(dict.fromkeys(spot.place.setting for spot in spots))
    reason = error.strerror or "no reason given"
    if error.errno in _DENIED:
        if anchor == root.path:
            mend = owner_command(anchor, all=True)
        elif all(spot.missing for spot in spots):
            folders = dict.fromkeys(spot.place.path for spot in spots)
            mend = command("install", "-d", "-o", str(os.geteuid()), "-g", str(os.getegid()), *folders, root=True)
        else:
            mend = owner_command(anchor)
        message = f"{names} cannot be written by {_who()} ({reason})"
        return Finding(code="not-writable", severity="error", message=message, mend=mend)
    if error.errno == errno.EROFS:
        return Finding(
            code="read-only",
            severity="error",
            message=f"{names} cannot be written, because the disk is mounted read-only",
            mend=f'sudo mount -o remount,rw "$(findmnt -n -o TARGET -T {on_machine(anchor)})"',
        )
    if error.errno in {errno.ENOTDIR, errno.ENOENT}:
        return Finding(
            code="no-folder",
            severity="error",
            message=f"{names} is not a folder, or lies below something that is none; name another, or move that away",
            mend=command("ls", "-ld", anchor),
        )
    return Finding(
        code="disk-failing",
        severity="error",
        message=f"{names} cannot be used ({reason}); check the disk and mount it again",
        mend="sudo dmesg | tail -n 30",
    )


def _full(spots: Sequence[_Spot]) -> Finding:
    return Finding(
        code="disk-full",
        severity="error",
        message=f"The disk of {_listed(spot.place.setting for spot in spots)} is full; free some space, for instance "
        "of what this command shows to be largest, and start again",
        mend=what_fills(spots[0].anchor),
    )


def _unreadable(place: Place, reason: str) -> Finding:
    return Finding(
        code="not-readable",
        severity="error",
        message=f"{place.setting} cannot be read by {_who()} ({reason})",
        mend=f"sudo chmod -R a+rX {on_machine(place.path)}",
    )


def _who() -> str:
    return f"user {os.geteuid()}, group {os.getegid()}"


def _listed(names: Iterable[str]) -> str:
    return " and ".join(names)
