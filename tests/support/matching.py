"""The labelled pairs for matching, a third of them held out by hash."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parent.parent / "unit" / "downloader" / "data" / "matching_pairs.txt"


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One side of a pair: what a matcher reads."""

    name: str
    singers: tuple[str, ...] = ()
    album: str | None = None
    duration_seconds: float | None = None
    size: int | None = None
    bitrate: int | None = None
    lossless: bool = False


@dataclass(frozen=True, kw_only=True)
class Pair:
    """``right``: both are the same recording. ``held_out``: not looked at while the rules were made."""

    right: bool
    wanted: Recording
    found: Recording
    note: str
    held_out: bool


def labelled_pairs() -> list[Pair]:
    """All of them."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    return [_pair(line) for line in lines if line.startswith(("+ ", "- "))]


def _pair(line: str) -> Pair:
    label, _, rest = line.partition(" ")
    sides, _, note = rest.partition(" ## ")
    wanted, _, found = sides.partition(" => ")
    return Pair(
        right=label == "+",
        wanted=_recording(wanted),
        found=_recording(found),
        note=note,
        held_out=zlib.crc32(sides.encode()) % 3 == 0,
    )


def _recording(text: str) -> Recording:
    name, singers, album, seconds = (field.strip() for field in text.split("~"))
    return Recording(
        name=name,
        singers=tuple(singers.split("|")) if singers else (),
        album=album or None,
        duration_seconds=float(seconds) if seconds else None,
    )
