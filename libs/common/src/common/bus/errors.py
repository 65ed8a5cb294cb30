"""What the bus can answer to a publication, and how its error numbers map to our errors."""

from __future__ import annotations

from typing import Any

from common.errors import BusUnavailable, MusicCloudError

_WRONG_LAST_SEQUENCE = 10071
_STORE_FAILED = 10077


class WrongLastSequence(MusicCloudError):
    """Somebody else wrote this subject since it was read."""

    code = "wrong-last-sequence"


class SubjectTaken(MusicCloudError):
    """WORK already holds this item."""

    code = "already-queued"


class StreamFull(MusicCloudError):
    """The stream takes no more messages until some are gone."""

    code = "stream-full"


class StreamMissing(BusUnavailable):
    """No stream holds this subject: the console has not made the streams yet, or JetStream is off."""

    code = "stream-missing"


class ConsoleNeeded(BusUnavailable):
    """A reader waits for the console, which alone may make its consumer."""

    code = "console-needed"


class StreamReplaced(MusicCloudError):
    """The stream is not the one that was being read: it was made anew, or has lost its end."""

    code = "stream-replaced"


def from_answer(subject: str, error: dict[str, Any]) -> MusicCloudError:
    """The error for JetStream's answer ``{"code", "err_code", "description"}``."""
    number = error.get("err_code")
    words = str(error.get("description", ""))
    if number == _WRONG_LAST_SEQUENCE:
        return WrongLastSequence(f"{subject}: {words}")
    if number == _STORE_FAILED and "per subject" in words:
        return SubjectTaken(f"{subject} is queued already")
    if number == _STORE_FAILED and "maximum" in words:
        return StreamFull(f"the stream of {subject} is full")
    return BusUnavailable(f"the bus refused {subject}: {words or 'no reason given'} ({number})")
