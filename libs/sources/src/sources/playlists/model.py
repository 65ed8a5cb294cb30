"""What a playlist file says, whatever its format."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass

from common.errors import PermanentError

MAX_ENTRIES = 200_000
"""Far beyond any list that a person made; what is longer is an attack or a mistake."""
MAX_TEXT = 500
"""Characters of a title or name that are kept."""
MAX_LOCATION = 4096
MAX_SECONDS = 7 * 86_400.0
_PROBLEMS_SHOWN = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One line of a playlist. ``location`` is as written: a URL, or a path relative to the playlist.

    Bytes of a location that are not UTF-8 stand as lone surrogates (PEP 383), as in file names.
    """

    location: str
    title: str | None = None
    singers: tuple[str, ...] = ()
    album: str | None = None
    duration_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class ParsedPlaylist:
    """A playlist file, read. ``problems`` are sentences about entries that were left out."""

    entries: tuple[Entry, ...]
    title: str | None = None
    description: str | None = None
    image: str | None = None
    problems: tuple[str, ...] = ()


class Problems:
    """Sentences about entries, bounded: a list of a million bad lines gives no million sentences."""

    def __init__(self, shown: int = _PROBLEMS_SHOWN) -> None:
        self._shown = shown
        self._sentences: list[str] = []
        self._count = 0

    def add(self, sentence: str) -> None:
        self._count += 1
        if len(self._sentences) < self._shown:
            self._sentences.append(sentence)

    def extend(self, sentences: tuple[str, ...]) -> None:
        for sentence in sentences:
            self.add(sentence)

    def __len__(self) -> int:
        return self._count

    def sentences(self) -> tuple[str, ...]:
        hidden = self._count - len(self._sentences)
        return (*self._sentences, f"… and {hidden} more.") if hidden else tuple(self._sentences)


def malformed(what: str) -> PermanentError:
    """The error for a playlist that cannot be read."""
    return PermanentError(what, code="playlist-malformed")


def check_count(count: int) -> None:
    """Raise :class:`PermanentError` for a list beyond :data:`MAX_ENTRIES`."""
    if count > MAX_ENTRIES:
        raise PermanentError(
            f"The playlist lists more than {MAX_ENTRIES} songs; split it into several.", code="playlist-too-long"
        )


_NO_LOCATION = re.compile("[\x00\ud800-\udc7f\udd00-\udfff]")
"""Neither a file name nor a URL can hold these; the surrogates left out stand for bytes (PEP 383)."""


def usable_location(text: object) -> str | None:
    """A location as written, or None where it cannot be one."""
    if not isinstance(text, str):
        return None
    text = text.strip()
    return text if 0 < len(text) <= MAX_LOCATION and not _NO_LOCATION.search(text) else None


_UNWANTED = re.compile(
    "["
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # control characters
    "\u202a-\u202e\u2066-\u2069"  # overrides of the writing direction, which make a name lie
    "\ufeff\ud800-\udfff"  # byte order marks and lone surrogates
    "]"
)


def clean_text(text: object, limit: int = MAX_TEXT) -> str | None:
    """Text for people: normalised, on one line, without control characters, bounded; None when nothing is left."""
    if not isinstance(text, str):
        return None
    text = _UNWANTED.sub("", text[: limit * 4])
    return unicodedata.normalize("NFC", " ".join(text.split()))[:limit].strip() or None


def clean_seconds(value: object) -> float | None:
    """A duration in seconds, or None where the value is not one."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            seconds = float(value)
        except OverflowError:
            return None
        if math.isfinite(seconds) and 0 < seconds <= MAX_SECONDS:
            return round(seconds, 3)
    return None


def parse_seconds(text: str) -> float | None:
    """Like :func:`clean_seconds`, from the digits of a playlist."""
    try:
        return clean_seconds(float(text[:32]))
    except ValueError:
        return None
