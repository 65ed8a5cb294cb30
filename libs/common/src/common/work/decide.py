"""What follows from an error: try again, park, or hold the lane. Pure, so that it can be read and tested."""

from __future__ import annotations

import random
from dataclasses import dataclass

from common.contracts.status import ItemStatus, Reason
from common.errors import (
    BusUnavailable,
    DependencyDown,
    MusicCloudError,
    PermanentError,
    TransientError,
    Unreachable,
    Waiting,
)

MAX_DELAY = 600.0
"""Seconds; a source that is down for hours is asked six times an hour."""
MAX_INTERRUPTIONS = 10
"""An item during which the worker died so often is the likely cause; it is parked."""
MAX_HOLD = 120.0
SET_ASIDE_AFTER = 5.0
"""Seconds. An item that waits longer leaves the queue until then: there it would take the place of others."""
MIN_HOLD = 0.2
"""Seconds; a dependency that asks for no pause at all must not be asked without one."""
MAX_ASKED = 86_400.0
"""Seconds. A server that asks for more than a day is asked once a day."""
_MAX_DOUBLINGS = 30
"""Past it every delay is at its bound; a float overflows at 1,024, after a day and a half of holds."""


@dataclass(frozen=True, kw_only=True)
class Retry:
    """Again after ``delay`` seconds; ``counts``: it used up a try."""

    delay: float
    reason: Reason
    counts: bool = True


@dataclass(frozen=True, kw_only=True)
class Park:
    """Not again by itself. ``permanent``: further tries would not change it."""

    reason: Reason
    permanent: bool = False


@dataclass(frozen=True, kw_only=True)
class HoldLane:
    """The whole lane waits ``seconds``; the item keeps its tries."""

    seconds: float
    reason: Reason


Decision = Retry | Park | HoldLane


def after_error(error: BaseException, *, tries: int, max_tries: int, base_delay: float) -> Decision:
    """``tries`` counts those before this one."""
    if isinstance(error, DependencyDown):
        return HoldLane(seconds=_bounded(error.retry_after), reason=error.reason)
    if isinstance(error, BusUnavailable):
        return HoldLane(seconds=1.0, reason=error.reason)
    if isinstance(error, Waiting):
        return Retry(delay=_bounded(error.seconds), reason=error.reason, counts=False)
    if isinstance(error, Unreachable):
        return Park(reason=error.reason)
    if isinstance(error, PermanentError):
        return Park(reason=error.reason, permanent=True)
    expected = isinstance(error, MusicCloudError)
    reason = error.reason if isinstance(error, MusicCloudError) else _bug(error)
    if tries + 1 >= max_tries:
        used_up = f"{reason.message} (tried {tries + 1} times)"
        return Park(reason=Reason(code=reason.code, message=used_up))
    asked = error.retry_after if expected and isinstance(error, TransientError) else None
    return Retry(delay=retry_delay(tries, base_delay=base_delay, asked=asked), reason=reason)


def retry_delay(tries: int, *, base_delay: float, asked: float | None) -> float:
    """Seconds until the next try: doubled each time, spread by a quarter, never less than asked for."""
    spread = random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, guards nothing
    delay = min(MAX_DELAY, base_delay * 2.0 ** min(tries, _MAX_DOUBLINGS)) * spread
    return max(delay, 0.0 if asked is None else _bounded(asked))


def hold_delay(asked: float, *, holds_in_a_row: int) -> float:
    """Seconds until a lane on hold is tried again; grows while the dependency stays down."""
    return min(max(MAX_HOLD, asked), asked * 2.0 ** min(max(0, holds_in_a_row - 1), _MAX_DOUBLINGS))


def _bounded(asked: float) -> float:
    """What another side asked for, within reason: it may be hostile, infinite or not a number."""
    return min(asked, MAX_ASKED) if asked >= MIN_HOLD else MIN_HOLD


def after_interruption(status: ItemStatus) -> Park | None:
    """Park an item during which workers keep dying."""
    if status.interruptions < MAX_INTERRUPTIONS:
        return None
    return Park(
        reason=Reason(
            code="keeps-interrupting",
            message=f"The worker ended {status.interruptions} times during this item; its log says more. "
            "Retry it by hand when the cause is mended.",
        )
    )


def _bug(error: BaseException) -> Reason:
    return Reason(
        code="internal-error",
        message=f"An error that should not happen ({type(error).__name__}); the log of the worker has the details.",
    )
