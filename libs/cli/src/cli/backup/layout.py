"""Names: of archives in their folder, and of the members in an archive. Any other name is refused."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

FORMAT = 1
"""Raised when an older program could not restore what a newer one writes."""

HEAD = "backup.json"
"""First member: format, program and time, so that an archive of a newer program is refused at once."""
MANIFEST = "manifest.json"
"""Last member: digests of all others, so that an archive that ends early is noticed."""
IDENTITY = "identity.age"
BODY = "backup.tar.zst.age"
"""The two members of an encrypted archive; the tools `tar`, `age` and `zstd` open it without us."""

DATABASES = {
    "console": "ops.db",
    "downloader": "downloader.db",
    "uploader": "uploader.db",
    "resolver_stats": "resolver_stats.db",
}
"""Services with tables that no replay gives back, and their file where they are kept in SQLite."""
PROJECTIONS = ("catalog.db", "collector.db")
"""Files of STATE_DIR that are made again from the bus."""
STREAMS = ("STATUS", "DEAD", "CATALOG")
"""In this order: what tells of an effect is never newer than the effect itself (ADR 18)."""
ENV_FILES = ("music-cloud.env", "catalogsync.env")

_ARCHIVE = re.compile(r"music-cloud-(\d{8}T\d{6}Z)\.(tar\.zst|age\.tar)")
_SAFE = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,100}"
_MEMBER = re.compile(
    rf"(?:{HEAD}|{MANIFEST}"
    rf"|streams/(?P<stream>{'|'.join(STREAMS)}|KV_[A-Za-z0-9_-]{{1,64}})/\d{{6,9}}\.jsonl"
    rf"|databases/(?:{'|'.join(DATABASES)})\.db"
    rf"|state/{_SAFE}|config/(?:{'|'.join(re.escape(name) for name in ENV_FILES)})"
    rf"|secrets/(?:{_SAFE}/){{0,4}}{_SAFE})"
)


def program_version() -> str:
    """The version of this program."""
    return version("music-cloud-cli")


def stamp(at: datetime) -> str:
    """A time as names of files hold it."""
    return at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def archive_name(at: datetime, *, encrypted: bool) -> str:
    """The name of an archive made at ``at``."""
    return f"music-cloud-{stamp(at)}.{'age.tar' if encrypted else 'tar.zst'}"


def time_of(path: Path) -> datetime | None:
    """When an archive was made, by its name; None for a file that is not ours."""
    found = _ARCHIVE.fullmatch(path.name)
    try:
        return datetime.strptime(found[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) if found else None
    except ValueError:
        return None


def part_name(stream: str, number: int) -> str:
    """The member that holds a part of a stream."""
    return f"streams/{stream}/{number:06}.jsonl"


def stream_of(name: str) -> str | None:
    """The stream that a member belongs to, if it is a part of one."""
    found = _MEMBER.fullmatch(name)
    return found["stream"] if found else None


def is_safe(name: str) -> bool:
    """Whether a member of this name may be in an archive: nothing can leave its folder."""
    return _MEMBER.fullmatch(name) is not None and ".." not in name
