"""Locators: where a file lies in its backend, relative, with ``/`` between the parts."""

from __future__ import annotations

import re

from common.errors import PermanentError

MAX_LOCATOR_BYTES = 4096
"""As long as a path may be on Linux; object stores allow 1024 and say so themselves."""

_DRIVE = re.compile(r"^[A-Za-z]:")


class InvalidLocator(PermanentError, ValueError):
    """A locator that is not relative, or that could lead out of its backend."""

    code = "locator-invalid"


def check_locator(locator: str) -> str:
    """Return ``locator`` as it is.

    Raises :class:`InvalidLocator` when it is empty, absolute, too long, not text that UTF-8 can hold, or has a
    backslash, a NUL, or a part that is empty, ``.`` or ``..``. The locator itself is not repeated in the message.
    """
    problem = _problem(locator)
    if problem is not None:
        raise InvalidLocator(
            f"A locator is relative to its backend, such as 'qq/singer/song.flac'; this one {problem}."
        )
    return locator


def _problem(locator: str) -> str | None:
    if not isinstance(locator, str) or not locator:
        return "is empty"
    try:
        size = len(locator.encode())
    except UnicodeEncodeError:
        return "has characters that are not text"
    if size > MAX_LOCATOR_BYTES:
        return f"is longer than {MAX_LOCATOR_BYTES} bytes"
    if "\0" in locator:
        return "has a NUL in it"
    if "\\" in locator:
        return "has a backslash in it"
    if locator.startswith("/") or _DRIVE.match(locator):
        return "is absolute"
    if any(part in ("", ".", "..") for part in locator.split("/")):
        return "has an empty part, '.' or '..' in it"
    return None
