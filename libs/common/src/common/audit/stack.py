"""One stack for one library: whose it is stands in a marker file in the library itself.

Copies of the downloader of one stack share the library; a second stack would file the same songs again and
throw away what it does not know. The marker names the stack and is locked, shared, while it is at work.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path

from common.audit.commands import command
from common.audit.finding import Finding
from common.audit.needs import Place
from common.errors import ConfigurationError

MARKER = ".music-cloud-stack.json"
ID_FILE = "stack-id"
"""Below ROOT_DIR. STACK_ID wins over it: downloaders on several machines have no folder in common but the library."""
_ID = re.compile(r"[A-Za-z0-9_-]{8,128}")


class LibraryTaken(ConfigurationError):
    """Another stack took the library over while we were at work."""

    code = "library-of-another-stack"


def own_ids(root: Path, given: str | None) -> tuple[str, ...]:
    """The ids of this stack, the one to write first; empty where none was made yet."""
    try:
        text = (root / ID_FILE).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        text = ""
    return tuple(one for one in (given or "", text) if _ID.fullmatch(one))


def owner_finding(library: Place, own: tuple[str, ...]) -> Finding | None:
    """Whether the library belongs to another stack. Reads only."""
    try:
        descriptor = os.open(library.path / MARKER, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None  # not claimed yet; a folder that cannot be read is said elsewhere
    try:
        owner, since = _read(descriptor)
        if owner in own:
            return None
        at_work = not _lock(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)
    whose = "is in use by another Music Cloud that runs now" if at_work else "belongs to another Music Cloud"
    return Finding(
        code="library-of-another-stack",
        severity="error",
        message=f"{library.setting} {whose}{f' (since {since})' if since else ''}, and two would undo each other's "
        "work; give this one a library of its own, or stop the other for good and take over by removing its marker",
        mend=command("rm", library.path / MARKER),
    )


class LibraryLease:
    """The library, claimed for this stack as long as the process lives."""

    def __init__(self, *, marker: Path, own: tuple[str, ...], descriptor: int) -> None:
        self._marker = marker
        self._own = own
        self._descriptor = descriptor

    @classmethod
    def claim(cls, library: Place, *, root: Path, given: str | None) -> LibraryLease:
        """Write the marker where there is none, and lock it. Makes this stack's id at the first start.

        Raises :class:`LibraryTaken` when another was faster, OSError when nothing can be written.
        """
        own = own_ids(root, given) or (_make_id(root),)
        library.path.mkdir(parents=True, exist_ok=True)
        marker = library.path / MARKER
        if not marker.exists():
            since = datetime.now(UTC).isoformat(timespec="seconds")
            _appear(marker, json.dumps({"stack": own[0], "since": since}) + "\n")
        descriptor = os.open(marker, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        _lock(descriptor, fcntl.LOCK_SH)
        lease = cls(marker=marker, own=own, descriptor=descriptor)
        if not lease.holds():
            lease.release()
            finding = owner_finding(library, own)
            raise LibraryTaken(finding.sentence if finding else f"{library.setting} was claimed by another stack.")
        return lease

    def holds(self) -> bool:
        """Whether the marker still names us. A marker that is away is put back by the next start, not missed."""
        try:
            descriptor = os.open(self._marker, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return True
        try:
            owner, _ = _read(descriptor)
        finally:
            os.close(descriptor)
        return owner in self._own

    async def watch(self, stop: asyncio.Event, *, every: float) -> None:
        """Look again until ``stop``. Raises :class:`LibraryTaken` when another stack took over."""
        while not stop.is_set():
            if not await asyncio.to_thread(self.holds):
                raise LibraryTaken(
                    "LIBRARY_DIR was taken over by another Music Cloud, so this one ends; give it another library, or "
                    "take this one back by stopping the other and removing its marker."
                )
            try:
                await asyncio.wait_for(stop.wait(), every)
            except TimeoutError:
                continue

    def release(self) -> None:
        """Let go of the lock; the library stays ours."""
        os.close(self._descriptor)


def _make_id(root: Path) -> str:
    """Make it once, whoever of several is first."""
    root.mkdir(parents=True, exist_ok=True)
    made = secrets.token_urlsafe(18)
    if _appear(root / ID_FILE, made + "\n"):
        return made
    return next(iter(own_ids(root, None)), made)


def _appear(path: Path, text: str) -> bool:
    """Make a file that is whole from its first moment; False when there is one already."""
    # Not the process number: copies in containers that share a folder all have the same one.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with temporary.open("x", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:
            # Without hard links (exFAT, some shares) two that start at the same moment write the same thing, or
            # one of them sees the other's name at its next look.
            if path.exists():
                return False
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _read(descriptor: int) -> tuple[str | None, str]:
    """Owner and since when; a marker that is none of ours has no owner."""
    try:
        content = json.loads(os.pread(descriptor, 4096, 0))
        owner, since = content["stack"], content.get("since")
    except (ValueError, TypeError, KeyError, OSError):
        return None, ""
    known = isinstance(since, str) and re.fullmatch(r"\d{4}-\d\d-\d\d\S{0,20}", since)
    return (owner if isinstance(owner, str) else None), (since[:10] if known else "")


def _lock(descriptor: int, kind: int) -> bool:
    """Whether we got it; a file system without locks has none to be refused."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
