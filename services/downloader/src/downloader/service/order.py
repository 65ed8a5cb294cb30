"""DOWNLOAD_SOURCES as it is now: it may change while songs are resolved."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence


class SourceOrder:
    """The sources that give files, in the order to try them."""

    def __init__(self, in_use: Collection[str], *, warn: Callable[[str], None] = lambda _: None) -> None:
        """``in_use``: what SOURCES names; ``warn``: told of names that are not among them."""
        self._in_use = in_use
        self._warn = warn
        self._names: tuple[str, ...] = ()

    def set(self, given: str) -> None:
        """Take the setting. Raises ValueError, and changes nothing, where none of its names is in use."""
        names = tuple(dict.fromkeys(part.strip() for part in given.split(",") if part.strip()))
        known = tuple(name for name in names if name in self._in_use)
        unknown = [name[:64] for name in names if name not in self._in_use]
        words = f"DOWNLOAD_SOURCES names {', '.join(map(repr, unknown))}, not in SOURCES: {', '.join(self._in_use)}"
        if unknown and not known:
            raise ValueError(words)
        if unknown:
            self._warn(words)
        self._names = known

    def get(self) -> Sequence[str]:
        """The names, in order; none where all sources in use may give files."""
        return self._names
