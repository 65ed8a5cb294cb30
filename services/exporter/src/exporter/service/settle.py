"""When to export: once changes have settled, and at the latest after an interval."""

from __future__ import annotations


class Settling:
    """Times are seconds of one clock that never goes back."""

    def __init__(self, *, settle: float, interval: float) -> None:
        self._settle = settle
        self._interval = interval
        self._first: float | None = None
        self._last = 0.0

    def changed(self, at: float) -> None:
        """Something changed."""
        if self._first is None:
            self._first = at
        self._last = at

    def begun(self) -> None:
        """An export began: what changes from now on is for the next."""
        self._first = None

    def due_in(self, now: float) -> float | None:
        """Seconds until an export is due, 0 when it is, None when nothing changed."""
        if self._first is None:
            return None
        return max(0.0, min(self._last + self._settle, self._first + self._interval) - now)
