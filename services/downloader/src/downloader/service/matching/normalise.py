"""Text as it is compared: one form for width, case, accents, traditional and simplified Chinese, and punctuation."""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache
from typing import Final, Protocol, cast

MAX_TEXT: Final = 300
"""Characters of a title, name or album that are looked at; the longest real titles have about 250."""

_PUNCTUATION = str.maketrans(
    {
        **dict.fromkeys("‐‑‒–—―−﹣", "-"),
        **dict.fromkeys("‘’‚‛ʼʻ`´′＇", "'"),
        **dict.fromkeys("“”„‟″«»＂", '"'),
        **dict.fromkeys("∕⁄⧸", "/"),
        **dict.fromkeys("·・•‧∙⋅", " "),
        **dict.fromkeys("～〜∼", "~"),
        "×": "x",
    }
)
_LETTERS = str.maketrans(
    {
        "ø": "o",
        "ł": "l",
        "đ": "d",
        "ð": "d",
        "þ": "th",
        "æ": "ae",
        "œ": "oe",
        "ı": "i",
        "妳": "你",
        "著": "着",
        "祂": "他",
    }
)
"""Letters that no decomposition takes apart, and characters that a simplified text writes with another."""
_MARKS = re.compile("[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670]")
"""Accents of Latin, Greek and Cyrillic, points of Hebrew and Arabic; not the voicing marks of kana."""
_HAN = re.compile("[\u3400-\u9fff\uf900-\ufaff]")
_NOT_LETTERS = re.compile(r"[\W_]+")
_SPACES = re.compile(r"\s+")
EAST_ASIAN: Final = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
"""Kana, Han and Hangul, as a class of a pattern."""
_EAST_ASIAN_RUN = re.compile(f"[{EAST_ASIAN}]+")


class _Converter(Protocol):
    def convert(self, text: str) -> str: ...


def clean(text: str) -> str:
    """``text`` bounded, in NFKC, with one kind of each punctuation mark, without control and direction characters."""
    text = unicodedata.normalize("NFKC", text[:MAX_TEXT]).translate(_PUNCTUATION)[:MAX_TEXT]
    if not text.isprintable():
        text = "".join(_printable(char) for char in text)
    return _SPACES.sub(" ", text).strip()


@lru_cache(maxsize=8192)
def fold(text: str) -> str:
    """:func:`clean`, then lower case, simplified Chinese, and letters without accents."""
    text = clean(text)
    if not text.isascii():
        if _HAN.search(text):
            text = _simplifier().convert(text)
        text = unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFD", text.casefold())))
        text = text.translate(_LETTERS)
    return text.casefold()


def squash(folded: str) -> str:
    """Letters and digits alone: what must be equal for two texts to be the same."""
    return _NOT_LETTERS.sub("", folded.replace("&", " and "))


def words(folded: str) -> list[str]:
    """The words of a text, without apostrophes; a run of East Asian characters is one word."""
    spaced = _EAST_ASIAN_RUN.sub(lambda run: f" {run[0]} ", folded.replace("'", "").replace("&", " and "))
    return _NOT_LETTERS.sub(" ", spaced).split()


def east_asian(folded: str) -> str:
    """The East Asian characters of a text."""
    return "".join(_EAST_ASIAN_RUN.findall(folded))


def other_letters(folded: str) -> str:
    """What is left of a text without its East Asian characters."""
    return _SPACES.sub(" ", _EAST_ASIAN_RUN.sub(" ", folded)).strip()


@lru_cache(maxsize=4096)
def scripts(folded: str) -> frozenset[str]:
    """The scripts that a text is written in, by the first word of its letters' Unicode names (LATIN, CJK, …)."""
    return frozenset(_script(char) for char in set(folded) if char.isalpha())


@lru_cache(maxsize=4096)
def _script(char: str) -> str:
    return unicodedata.name(char, "UNKNOWN").split()[0].split("-")[0]


def _printable(char: str) -> str:
    if char.isprintable():
        return char
    return "" if unicodedata.category(char) == "Cf" else " "


@cache
def _simplifier() -> _Converter:
    """Traditional to simplified, by OpenCC. Loaded when it is first needed; threads may share it."""
    from opencc import OpenCC

    return cast(_Converter, OpenCC("t2s"))
