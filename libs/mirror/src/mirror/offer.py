"""A pack that is offered, and reading what a server says of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mirror.problems import Refused

_ID = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Where the pack is that leads to the snapshot ``want``. ``size``: its bytes, where that is said."""

    want: str
    url: str
    pack_id: str
    blob_count: int
    size: int | None


def read_id(value: object) -> str:
    """An id of a snapshot or a pack. Raises Refused."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise garbage()
    return value


def read_count(value: object) -> int:
    """A number of things or bytes. Raises Refused."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise garbage()
    return value


def garbage() -> Refused:
    """What is said of an answer that makes no sense."""
    return Refused("answer", "The server's answer is not that of a catalog. Check the URL.")
