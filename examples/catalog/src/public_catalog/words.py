"""Words that can be found: of text in any script, the same for what is stored and for what is asked.

Scripts that put spaces between words give their words, folded: no case, no diacritics. Scripts that do not are cut
into pairs of characters (``青花瓷`` gives ``青花 花瓷 瓷``), so that two characters are one look-up, more are a
phrase, and one is the beginning of a pair.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass

MAX_QUERY_CHARS = 200
MAX_QUERY_WORDS = 12
"""Each word costs a look-up; nobody needs more to find a song."""

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"  # Japanese
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
    "\uac00-\ud7af"  # Korean, where parts of words are looked for too
)
_WORD = re.compile(f"[{_UNSPACED}]+|[^\\W_{_UNSPACED}]+")
_RUN = re.compile(f"[{_UNSPACED}]")
_LETTERS = {"ø": "o", "ł": "l", "đ": "d", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th", "ð": "d"}
"""Letters that people type without their stroke or ligature, though Unicode does not take them apart."""
_MARK = re.compile(f"[\u0300-\u036f{''.join(_LETTERS)}]")


def fold(text: str) -> str:
    """``text`` without case, diacritics and differences of width."""
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFKD", text).casefold()
    return unicodedata.normalize("NFC", _MARK.sub(lambda found: _LETTERS.get(found[0], ""), apart))


def stored(text: str) -> str:
    """The words of ``text``, separated by spaces, as the index holds them."""
    return " ".join([word if _spaced(word) else _pairs(word) for word in _WORD.findall(fold(text))])


def digest(words: str) -> int:
    """A number for the words of a title, so that equal titles are found by one look-up."""
    return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest(), "big", signed=True)


@dataclass(frozen=True)
class Asked:
    """What somebody looks for. ``whole`` and ``begun`` are FTS5 expressions: whole words, and words as far as typed."""

    text: str
    whole: str
    begun: str
    title: int
    shortened: bool


def asked(text: str) -> Asked | None:
    """What to look for; None if there is no word in ``text``. Whatever it holds, no syntax of FTS5 gets through."""
    cut = text[:MAX_QUERY_CHARS]
    words = _WORD.findall(fold(cut))
    kept = words[:MAX_QUERY_WORDS]
    if not kept:
        return None
    return Asked(
        text=" ".join(cut.replace("\0", " ").split()),
        whole=" AND ".join(_expression(word, begun=False) for word in kept),
        begun=" AND ".join(_expression(word, begun=True) for word in kept),
        title=digest(stored(cut)),
        shortened=len(text) > len(cut) or len(words) > len(kept),
    )


def _spaced(word: str) -> bool:
    return word.isascii() or not _RUN.match(word)


def _pairs(run: str) -> str:
    return " ".join([run[index : index + 2] for index in range(len(run))])


def _expression(word: str, *, begun: bool) -> str:
    if _spaced(word):
        return f'"{word}"*' if begun else f'"{word}"'
    if len(word) == 1:
        return f'"{word}"*'  # the first of a pair, or the last of a run
    return '"' + " ".join([word[index : index + 2] for index in range(len(word) - 1)]) + '"'
