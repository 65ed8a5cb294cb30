"""Who sings: names in all spellings of lists and features, and how two lists of them relate."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from itertools import islice
from typing import Final

from rapidfuzz import fuzz

from downloader.service.matching.normalise import MAX_TEXT, east_asian, fold, other_letters, scripts, squash, words

MAX_NAMES: Final = 30
"""Names of one song that are looked at."""
_NEAR = 85.0
"""Of 100: two names that differ by a letter or two."""
_NEAR_LENGTH = 5

_SEPARATOR = re.compile(
    r"\s*(?:[,;/、|&+]|\bfeat\b\.?|\bft\b\.?|\bfeaturing\b|\band\b|\bwith\b|\bvs\b\.?|\s[x]\s)\s*", re.IGNORECASE
)
_BRACKETS = re.compile(r"[(\[{<【「『《](.*?)[)\]}>】」』》]")
_CHANNEL = re.compile(r"(?:\s*-\s*topic|\s+official|\s*vevo|\s+channel)$")
_NOBODY = frozenset(
    [
        *(
            "unknown",
            "unknownartist",
            "various",
            "variousartists",
            "va",
            "artist",
            "na",
            "none",
            "noartist",
            "official",
        ),
        *("群星", "佚名", "未知", "未知歌手", "未知艺术家", "网络歌手", "华语群星", "合辑", "乐队", "组合", "乐团"),
    ]
)
"""What stands in place of a name, without spaces."""


class Relation(Enum):
    """How the singers of a result stand to those that are wanted."""

    SAME = "same"
    MORE = "more"
    """all that are wanted, and others"""
    FEWER = "fewer"
    """some of those that are wanted, the first among them, nobody else"""
    OVERLAP = "overlap"
    """some of those that are wanted, but not the first, or others too"""
    NEAR = "near"
    """nearly the same letters"""
    UNKNOWN = "unknown"
    """one side names nobody"""
    OTHER_SCRIPT = "other-script"
    """written in different scripts, with nothing in common"""
    DIFFERENT = "different"


@dataclass(frozen=True)
class Name:
    """One singer: all forms that stand for the same name."""

    forms: frozenset[str]
    scripts: frozenset[str]


@dataclass(frozen=True)
class Singers:
    """The singers of one song. ``words`` are all of their names' words."""

    names: tuple[Name, ...]
    words: frozenset[str]

    def has(self, folded: str) -> bool:
        """Whether ``folded`` names one of them."""
        form = squash(folded)
        return any(form in name.forms for name in self.names)


def read_singers(singers: Iterable[str], featured: Sequence[str] = ()) -> Singers:
    """The names in a list of singers, and in what a title says of guests."""
    names: dict[frozenset[str], Name] = {}
    every: set[str] = set()
    for text in (*islice(singers, MAX_NAMES), *featured):
        for name, its_words in _names_in(text[:MAX_TEXT]):
            if len(names) < MAX_NAMES:
                names.setdefault(name.forms, name)
                every.update(its_words)
    return Singers(tuple(names.values()), frozenset(every - {"the", "and", "a"}))


def relate(wanted: Singers, found: Singers) -> Relation:
    """How ``found`` stands to ``wanted``."""
    if not wanted.names or not found.names:
        return Relation.UNKNOWN
    if wanted.words == found.words:
        return Relation.SAME
    missing = [name for name in wanted.names if not _among(name, found.names)]
    others = [name for name in found.names if not _among(name, wanted.names)]
    if not missing and not others:
        return Relation.SAME
    if len(missing) < len(wanted.names):
        if not missing:
            return Relation.MORE
        return Relation.OVERLAP if others or missing[0] is wanted.names[0] else Relation.FEWER
    if any(_near(one, other) for one in wanted.names for other in found.names):
        return Relation.NEAR
    if _scripts(wanted).isdisjoint(_scripts(found)):
        return Relation.OTHER_SCRIPT
    return Relation.DIFFERENT


@lru_cache(maxsize=4096)
def _names_in(text: str) -> tuple[tuple[Name, tuple[str, ...]], ...]:
    """The names in one text, each with its words."""
    folded = _stylised(_CHANNEL.sub("", fold(text)))
    parts = [folded] if squash(_BRACKETS.sub("", folded)) == "" else _split(folded)
    read = ((_name(part), tuple(words(part))) for part in parts)
    return tuple((name, its_words) for name, its_words in read if name.forms)


def _split(folded: str) -> list[str]:
    """Names between separators; what stands in brackets stays with its name."""
    parts, depth, start = [], 0, 0
    for found in re.finditer(rf"[(\[{{<【「『《]|[)\]}}>】」』》]|{_SEPARATOR.pattern}", folded):
        mark = found[0]
        if mark in "([{<【「『《":
            depth += 1
        elif mark in ")]}>】」』》":
            depth = max(0, depth - 1)
        elif depth == 0:
            parts.append(folded[start : found.start()])
            start = found.end()
    parts.append(folded[start:])
    return parts[:MAX_NAMES]


def _name(folded: str) -> Name:
    """A name with its forms: as written, without brackets, what is in them, and each script alone."""
    outside = _BRACKETS.sub(" ", folded)
    texts = [folded, outside, *_BRACKETS.findall(folded)]
    texts += [part for text in (outside,) for part in (east_asian(text), other_letters(text))]
    forms = {_form(text) for text in texts} - {""} - _NOBODY
    # "(G)I-DLE": a letter in brackets is no name.
    whole = _form(folded)
    forms = {form for form in forms if form == whole or len(form) > 1}
    if whole in _NOBODY:
        forms = set()
    return Name(frozenset(forms), scripts(folded))


def _form(text: str) -> str:
    text = text.strip()
    for article in ("the ", "los ", "les "):
        text = text.removeprefix(article)
    form = squash(text.removesuffix(" band"))
    return "" if form == "the" else form


def _stylised(folded: str) -> str:
    """Signs in place of letters: Ke$ha, P!nk."""
    return re.sub(r"(?<=\w)!(?=\w)", "i", re.sub(r"\$(?=\w)", "s", folded))


def _among(name: Name, names: Iterable[Name]) -> bool:
    return any(not name.forms.isdisjoint(other.forms) for other in names)


def _near(one: Name, other: Name) -> bool:
    return any(
        min(len(a), len(b)) >= _NEAR_LENGTH and fuzz.ratio(a, b, score_cutoff=_NEAR) > 0
        for a in one.forms
        for b in other.forms
    )


def _scripts(singers: Singers) -> frozenset[str]:
    return frozenset[str]().union(*(name.scripts for name in singers.names))
