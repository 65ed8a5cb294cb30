"""Politeness: how often a server is asked."""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar
from dataclasses import dataclass

from common.errors import ConfigurationError, Waiting
from common.settings import Settings, split_list

PATIENCE = 20.0
"""Seconds that a request waits for its turn; what would wait longer is set aside, and keeps no thread."""


class TurnWaiting(Waiting):
    """Other songs of ours are asked for before this one; its turn comes."""

    code = "turn-waiting"


@dataclass
class Question:
    """What is asked of a source at once, in one request or several. ``waited``: seconds for the turns of these."""

    waited: float = 0.0
    begun: bool = False


QUESTION: ContextVar[Question | None] = ContextVar("question", default=None)
"""The question that this thread asks, where it is one of those that wait for an answer only so long."""


class Pace:
    """At most ``rate`` requests a second of this process. Safe in threads."""

    def __init__(self, *, source: str, rate: float, patience: float = PATIENCE) -> None:
        self.rate = rate
        self._source = source
        self._patience = patience
        self._next = 0.0
        self._lock = threading.Lock()

    def take(self) -> None:
        """Wait for the next turn. Raises :class:`TurnWaiting` where that is too far away.

        A question that has begun waits for all of its turns: what it was told already would be asked for again.
        """
        question = QUESTION.get()
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next)
            if start - now > self._patience and not (question is not None and question.begun):
                raise TurnWaiting(
                    f"Waiting for {self._source}, which is asked at most {self.rate:g} times a second.",
                    seconds=start - now,
                )
            self._next = start + 1.0 / self.rate
        if question is not None:
            question.begun = True
            question.waited += start - now
        time.sleep(start - now)


def rate_of(settings: Settings, source: str, default: float) -> float:
    """Requests a second to ``source``: from SOURCE_RATES, else ``default``. Raises :class:`ConfigurationError`."""
    for part in split_list(settings.source_rates):
        name, equals, number = part.partition("=")
        try:
            rate = float(number)
        except ValueError:
            rate = 0.0
        if not equals or not 0.001 <= rate <= 1000:
            raise ConfigurationError(
                f"SOURCE_RATES holds {part[:80]!r}. Write name=requests a second, such as jamendo=2 (0.001 to 1000)."
            )
        if name.strip() == source:
            return rate
    return default
