"""Values in answers, each cleaned by itself: a wrong one is left out, and does not cost what stands beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from common.errors import PermanentError

from ..paths import AUDIO_EXTENSIONS
from ..playlists.model import clean_seconds, clean_text, parse_seconds
from ..port import Licence
from ..urls import has_userinfo, normalize

MAX_ID = 512
MAX_SINGERS = 50
_NO_ID = re.compile("[\x00-\x20\x7f-\xa0\u2028\u2029\ud800-\udfff]")
_CLOCK = re.compile(r"(?:(\d{1,3}):)?(\d{1,4}):(\d{2}(?:\.\d{1,6})?)$")


class Answer(BaseModel):
    """An answer, or a part of one. What is not asked for is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


A = TypeVar("A", bound=Answer)


@dataclass(frozen=True, kw_only=True)
class Taken(Generic[A]):
    """The usable entries of a list; how many were ``refused`` as malformed, and how many were ``cut`` off."""

    entries: tuple[A, ...]
    refused: int = 0
    cut: int = 0


def take(model: type[A], entries: Sequence[Any], *, limit: int) -> Taken[A]:
    """The first ``limit`` entries, each judged by itself.

    Raises :class:`PermanentError` where none is usable: then it is the list that is wrong.
    """
    usable: list[A] = []
    for entry in entries[:limit]:
        try:
            usable.append(model.model_validate(entry))
        except ValidationError:
            continue
    seen = min(len(entries), limit)
    if seen and not usable:
        raise malformed()
    return Taken(entries=tuple(usable), refused=seen - len(usable), cut=len(entries) - seen)


def malformed() -> PermanentError:
    """The error for data that is not what the documentation of its server says."""
    return PermanentError(
        "The server answers with data of another shape than documented. Check its address, or report this.",
        code="answer-malformed",
    )


def _id(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        value = str(value)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID or _NO_ID.search(value):
        raise ValueError("no id")
    return value


def _name(value: object) -> str:
    if (text := clean_text(value)) is None:
        raise ValueError("no name")
    return text


def _seconds(value: object) -> float | None:
    """From a number, its digits, or minutes and seconds."""
    if not isinstance(value, str):
        return clean_seconds(value)
    if (clock := _CLOCK.match(value.strip()[:32])) is not None:
        hours, minutes, seconds = clock.groups()
        return clean_seconds(int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds))
    return parse_seconds(value)


def _count(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53 else None


def _flag(value: object) -> bool:
    return value is True or (isinstance(value, (int, str)) and str(value)[:5].lower() in ("1", "true"))


def _url(value: object) -> str | None:
    try:
        return normalize(value) if isinstance(value, str) and not has_userinfo(value) else None
    except PermanentError:
        return None


def _texts(value: object) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    cleaned = (clean_text(one, 200) for one in values[:MAX_SINGERS])
    return tuple(dict.fromkeys(one for one in cleaned if one))


def _ext(value: object) -> str | None:
    text = value.lower().lstrip(".")[:16] if isinstance(value, str) else ""
    return text if text in AUDIO_EXTENSIONS else None


Id = Annotated[str, BeforeValidator(_id)]
"""Required: text without blanks, or a whole number, as text."""
Name = Annotated[str, BeforeValidator(_name)]
"""Required: text for people."""
Text = Annotated[str | None, BeforeValidator(clean_text)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]
"""One text or a list of them, each once."""
Seconds = Annotated[float | None, BeforeValidator(_seconds)]
Count = Annotated[int | None, BeforeValidator(_count)]
Flag = Annotated[bool, BeforeValidator(_flag)]
"""False wherever it is not clearly true."""
Url = Annotated[str | None, BeforeValidator(_url)]
"""An http(s) address without user name and password, in one spelling."""
Ext = Annotated[str | None, BeforeValidator(_ext)]
"""An extension of audio."""

_CC = re.compile(
    r"https?://creativecommons\.org/(?:licenses/([a-z+-]{2,20})/(\d\.\d)|publicdomain/(zero|mark)/(\d\.\d))", re.I
)


def licence_of(url: str | None, name: str | None = None) -> Licence | None:
    """A licence from its address and name; those of Creative Commons are named after their address."""
    if name is None and url is not None:
        name = clean_text(url, 200)
        if (known := _CC.match(url)) is not None:
            kind, version, public, public_version = known.groups()
            name = f"CC {kind.upper()} {version}" if kind else f"{_PUBLIC[public.lower()]} {public_version}"
    return Licence(name=name, url=url) if name else None


_PUBLIC = {"zero": "CC0", "mark": "Public Domain Mark"}
