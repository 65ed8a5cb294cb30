"""Masking what a log must not hold: the process's own secrets, and credentials in URLs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import quote, unquote, urlsplit

from pydantic import BaseModel, SecretStr

MASK = "********"
_SHORTEST = 4
"""A shorter value would mask parts of ordinary words, and guards nothing."""
_USERINFO = re.compile(r"(?<=://)[^/@\s\"'<>]+(?=@)")
_PARAMETER = re.compile(
    r"(?i)(?<=[?&;\s\"'(])((?:[\w.-]*(?:token|password|passwd|secret|signature|credential|api[_-]?key))=)[^&\s\"'<>)]+"
)
_SUBSONIC = re.compile(r"(/rest/[\w.]+\?)[^\s\"'<>)]+")
"""The query of the Subsonic API: user, password or token in parameters of one letter."""
_HEADER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}")
_JWT = re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}")


class Redaction:
    """Masks in a finished line: there a value has been formatted, escaped or quoted already."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if len(secret) >= _SHORTEST for form in _forms(secret)}
        # The longest first: one secret may be the beginning of another.
        ordered = sorted(forms, key=len, reverse=True)
        self._known = re.compile("|".join(re.escape(form) for form in ordered)) if ordered else None

    def __call__(self, line: str) -> str:
        if self._known is not None:
            line = self._known.sub(MASK, line)
        if "://" in line and "@" in line:
            line = _USERINFO.sub(MASK, line)
        if "=" in line:
            line = _PARAMETER.sub(rf"\1{MASK}", line)
        if "/rest/" in line:
            line = _SUBSONIC.sub(rf"\1{MASK}", line)
        if "eyJ" in line:
            line = _JWT.sub(MASK, line)
        return _HEADER.sub(rf"\1 {MASK}", line)


def secrets_of(settings: BaseModel) -> set[str]:
    """The secrets that a process was given: settings that are secret, and passwords in URLs."""
    found: set[str] = set()
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            text = value.get_secret_value()
            # Some hold several, separated by commas; some are a URL with a password.
            found |= {text, *(part.strip() for part in text.split(","))}
            found |= _passwords(text)
        elif isinstance(value, str):
            found |= _passwords(value)
    return {secret for secret in found if len(secret) >= _SHORTEST}


def _passwords(text: str) -> set[str]:
    found: set[str] = set()
    for part in text.split(","):
        try:
            password = urlsplit(part.strip()).password
        except ValueError:
            continue
        if password:
            found |= {password, unquote(password)}
    return found


def _forms(secret: str) -> set[str]:
    """How it may stand in a line: plain, in JSON, in a repr, in a URL."""
    return {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        quote(secret, safe=""),
    }
