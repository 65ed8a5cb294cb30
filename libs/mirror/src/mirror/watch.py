"""Pulling for ever: when the publisher announces a snapshot, or else from time to time."""

from __future__ import annotations

import random
from collections.abc import Callable
from threading import Event
from typing import Protocol

from mirror.client import Mirror, Pulled
from mirror.errors import MirrorError
from mirror.problems import SettingsProblem, Unavailable

_FIRST_PAUSE = 5.0
_LONGEST_PAUSE = 3600.0
_SPREAD = 2.0
"""Seconds over which the mirrors that heard an announcement spread themselves."""


class Bell(Protocol):
    """Rings when there may be something new."""

    @property
    def rung(self) -> Event:
        """Set when it rang; cleared by the one who heard it."""


class Watch:
    """Pulls at the start, whenever the bell rings, and every ``every`` seconds."""

    def __init__(
        self,
        *,
        mirror: Mirror,
        every: float,
        report: Callable[[Pulled | MirrorError], None],
        bell: Bell | None = None,
    ) -> None:
        self._mirror = mirror
        self._every = every
        self._report = report
        self._rung = bell.rung if bell is not None else Event()
        self._stopped = Event()
        self._failures = 0

    def run(self) -> None:
        """Go on until :meth:`stop`. Raises SettingsProblem; anything else is reported, and tried again later."""
        while not self._stopped.is_set():
            self._rung.clear()
            deaf, pause = self._once()
            # What a server asked for is believed even if it announces something meanwhile.
            self._stopped.wait(deaf)
            if self._rung.wait(pause):
                self._stopped.wait(random.uniform(0, _SPREAD))  # noqa: S311

    def stop(self) -> None:
        """End :meth:`run` when the pull under way is over; from another thread."""
        self._stopped.set()
        self._rung.set()

    def _once(self) -> tuple[float, float]:
        """Pull once; (seconds in which nothing is asked, seconds until the next pull after those)."""
        jitter = random.uniform(0.9, 1.1)  # noqa: S311
        try:
            pulled = self._mirror.pull()
        except SettingsProblem:
            raise
        except MirrorError as error:
            self._failures += 1
            self._report(error)
            grown = 2.0 ** min(self._failures - 1, 16)
            if isinstance(error, Unavailable):
                return error.retry_after or 0.0, min(_FIRST_PAUSE * grown, self._every) * jitter
            # It would be the same again: a publisher or a person has to do something first.
            return 0.0, min(self._every * grown, max(self._every, _LONGEST_PAUSE)) * jitter
        self._failures = 0
        self._report(pulled)
        return 0.0, self._every * jitter
