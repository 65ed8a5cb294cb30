"""Backups again and again, and the oldest away."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cli.backup.archive import is_encrypted
from cli.backup.layout import time_of
from common.errors import MusicCloudError

_EVERY = re.compile(r"(\d{1,4})\s*([mhd])")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_AFTER_FAILURE = timedelta(minutes=15)
_LONGEST_NAP = 60.0
"""Seconds; a machine that slept meanwhile looks at the clock soon after."""


def parse_interval(text: str) -> timedelta:
    """``30m``, ``24h`` or ``7d``. Raises ValueError."""
    found = _EVERY.fullmatch(text.strip().lower())
    if found is None or int(found[1]) == 0:
        raise ValueError("give a time like 30m, 24h or 7d")
    return int(found[1]) * _UNITS[found[2]]


def archives(folder: Path) -> list[Path]:
    """The backups in a folder, newest first. Other files are none of our business."""
    found = [(at, file) for file in folder.iterdir() if (at := time_of(file)) is not None and _is_ours(file)]
    return [file for _, file in sorted(found, reverse=True)]


def prune(folder: Path, *, keep: int, newest: Path) -> list[Path]:
    """Remove all but the newest ``keep``; ``newest``, which was just found good, always stays.

    Archives that claim to be younger than that one were named by a wrong clock: they neither count nor go. Raises
    OSError.
    """
    made = time_of(newest)
    others = [file for file in archives(folder) if made is not None and (time_of(file) or made) < made]
    gone = others[max(0, keep - 1) :]
    for file in gone:
        file.unlink(missing_ok=True)
    return gone


async def repeat(
    once: Callable[[], Awaitable[Path]], *, folder: Path, every: timedelta, say: Callable[[str], None]
) -> None:
    """Make a backup whenever the newest is older than ``every``, until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    stopped = asyncio.create_task(stop.wait())
    failed: datetime | None = None
    while not stop.is_set():
        wait = (_due(folder, every, failed) - datetime.now(UTC)).total_seconds()
        if wait > 0:
            await asyncio.wait({stopped}, timeout=min(wait, _LONGEST_NAP))
            continue
        making = asyncio.ensure_future(once())
        await asyncio.wait({making, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not making.done():
            making.cancel()
            await asyncio.wait({making})
            return
        error = making.exception()
        if error is None:
            failed = None
        elif isinstance(error, MusicCloudError):
            failed = datetime.now(UTC)
            say(f"no backup: {error.message} The next try is in {_AFTER_FAILURE.seconds // 60} minutes.")
        else:
            raise error
    stopped.cancel()


def _due(folder: Path, every: timedelta, failed: datetime | None) -> datetime:
    # One of the future, by a clock that was wrong, must neither stop all others nor have them made without a pause.
    times = (time_of(file) for file in (archives(folder) if folder.is_dir() else ()))
    at = next((at for at in times if at is not None and at <= datetime.now(UTC)), None)
    due = at + every if at is not None else datetime.min.replace(tzinfo=UTC)
    return max(due, failed + _AFTER_FAILURE) if failed is not None else due


def _is_ours(file: Path) -> bool:
    if file.is_symlink() or not file.is_file():
        return False
    try:
        return is_encrypted(file) == file.name.endswith(".age.tar")
    except OSError:
        return False  # not readable for us, so not ours to remove
