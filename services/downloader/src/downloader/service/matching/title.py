"""What a title is made of, and how two titles relate."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final

from rapidfuzz.distance import OSA

from downloader.service.matching.normalise import east_asian, fold, other_letters, scripts, squash, words
from downloader.service.matching.singers import Singers, read_singers
from downloader.service.matching.versions import DOUBTFUL, NOTE, SAME, kinds_of, maker_of, makers_of, tail_of

_OPENING: Final = "([{<〈《【「『〔〖"
_CLOSING: Final = ")]}>〉》】」』〕〗"
_QUOTED = re.compile(r"[〈《「『\"](.*?)(?:[〉》」』\"]|$)")
_DASH = re.compile(r"\s+[-~|]+\s*|\s*[-~|]+\s+|\s*\|\s*")
_FEATURE = re.compile(r"(?:^|\s)(?:feat\b\.?|ft\b\.?|featuring\b)\s*")
_FEATURE_IN_BRACKETS = re.compile(r"^(?:with\b|w/|(?:合唱|合作|对唱|和声)\s*[: ])\s*")
_ARTICLE = re.compile(r"^(?:the|a|an)(?= )")
_ROMAN_BEFORE_DOT = re.compile(r"(?<![\w'])([ivx]+)\.(?=\s)")
_ROMANS = {
    "i": "1",
    "ii": "2",
    "iii": "3",
    "iv": "4",
    "v": "5",
    "vi": "6",
    "vii": "7",
    "viii": "8",
    "ix": "9",
    "x": "10",
}
_LONE_ROMANS = frozenset({"ii", "iii", "iv", "vi", "vii", "viii", "ix"})
_SPELLED = {"one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6"}
_COUNTED = {
    **dict.fromkeys(("pt", "pts", "part", "parts"), "part"),
    **dict.fromkeys(("no", "nr", "nos", "number"), "no"),
    **dict.fromkeys(("vol", "volume"), "vol"),
    **dict.fromkeys(("op", "opus"), "op"),
    **dict.fromkeys(("act", "chapter", "movement", "scene", "book", "side"), ""),
}
_ORDINAL = re.compile(r"第([一二三四五六七八九十\d]+)|^([上中下一二三四五六七八九十])$")
_TYPO_LENGTH = 5
_TWO_TYPOS_LENGTH = 9


class TitleRelation(Enum):
    """How the title of a result stands to the one that is wanted, nearest first."""

    EXACT = "exact"
    TRANSLATED = "translated"
    """the same, with words in another script on one side: a translation, or a version that nobody has named yet"""
    SHORTER = "shorter"
    """the result lacks a subtitle"""
    LONGER = "longer"
    """the result has a subtitle, which may say that it is another recording"""
    TYPO = "typo"
    ASIDE = "aside"
    """the title of one is what the other has in brackets"""
    PART_UNSAID = "part-unsaid"
    """one of them numbers a part, the other has no number"""
    OTHER_SCRIPT = "other-script"
    OTHER_PART = "other-part"
    DIFFERENT = "different"


@dataclass(frozen=True)
class Reading:
    """One way to read a title. ``core`` and ``extras`` are folded; ``kinds`` and ``makers`` tell the recording."""

    core: str
    extras: tuple[str, ...]
    full: str
    kinds: frozenset[str]
    makers: frozenset[str]


@dataclass(frozen=True)
class Title:
    """A title with what it says beside the name of the song."""

    readings: tuple[Reading, ...]
    featured: tuple[str, ...]
    named: tuple[str, ...]
    """singers that stand in the title, as in "Adele - Hello"."""


@dataclass(frozen=True)
class _Pieces:
    """``plain``: text and whether it stood in brackets, in order."""

    plain: tuple[tuple[str, bool], ...]
    featured: tuple[str, ...]
    kinds: frozenset[str]
    makers: frozenset[str]


def read_title(name: str, known: Iterable[Singers]) -> Title:
    """Take ``name`` apart. ``known``: names that may stand in it, such as its own singers and those that are wanted."""
    pieces = _pieces(fold(name))
    known = tuple(known)
    plain, named = [], []
    for text, bracketed in pieces.plain:
        kept, names = _without_names(text, known)
        named += names
        plain.append((kept, bracketed))
    left = [(text, bracketed) for text, bracketed in plain if text]
    if not left:  # the title is a name: a song called after its singer
        left, named = list(pieces.plain), []
    core = next((text for text, bracketed in left if not bracketed), left[0][0] if left else "")
    extras = tuple(text for text, _ in left if text != core)
    readings = [_reading([text for text, _ in left], core, extras, pieces.kinds, pieces.makers)]
    tail = tail_of(core)
    if tail is not None and (kinds := kinds_of(tail[1]) or _is_same(tail[1])):
        head, end = tail
        texts = [head if text == core else text for text, _ in left]
        more = kinds if isinstance(kinds, frozenset) else frozenset[str]()
        readings.append(_reading(texts, head, extras, pieces.kinds | more, pieces.makers | makers_of(end)))
    return Title(tuple(readings), pieces.featured, tuple(named))


def relate_titles(wanted: Title, found: Title) -> tuple[TitleRelation, Reading, Reading]:
    """The nearest relation of any two readings, and those readings. As written comes before any other reading."""
    best: tuple[TitleRelation, Reading, Reading] | None = None
    for one in wanted.readings:
        for other in found.readings:
            relation = _relate(one, other)
            if best is None or _RANK[relation] < _RANK[best[0]]:
                best = relation, one, other
    assert best is not None
    return best


_RANK = {relation: rank for rank, relation in enumerate(TitleRelation)}


def _relate(wanted: Reading, found: Reading) -> TitleRelation:
    if wanted.full == found.full or _censored_equal(wanted.core, found.core):
        return TitleRelation.EXACT
    numbers, others = _numbers(wanted), _numbers(found)
    if numbers != others and numbers and others:
        return TitleRelation.OTHER_PART
    core, other = _squashed(wanted.core), _squashed(found.core)
    if core == other and core:
        return _by_extras(wanted, found, one_sided=numbers != others)
    if _translates(wanted, found) or _translates(found, wanted):
        return TitleRelation.TRANSLATED if numbers == others else TitleRelation.PART_UNSAID
    if numbers != others:
        return TitleRelation.OTHER_PART
    if any(_squashed(extra) == one.full for one, two in ((wanted, found), (found, wanted)) for extra in two.extras):
        return TitleRelation.ASIDE
    if _typo(wanted, found):
        return TitleRelation.TYPO
    if scripts(wanted.core).isdisjoint(scripts(found.core)):
        return TitleRelation.OTHER_SCRIPT
    return TitleRelation.DIFFERENT


def _by_extras(wanted: Reading, found: Reading, *, one_sided: bool) -> TitleRelation:
    """The cores are equal; what stands beside them decides."""
    mine, theirs = ({_squashed(extra) for extra in reading.extras} for reading in (wanted, found))
    if one_sided:
        return TitleRelation.PART_UNSAID
    foreign = all(scripts(extra).isdisjoint(scripts(wanted.core)) for extra in (*wanted.extras, *found.extras))
    if foreign:
        return TitleRelation.TRANSLATED
    if theirs <= mine:
        return TitleRelation.SHORTER
    if mine <= theirs:
        return TitleRelation.LONGER
    return TitleRelation.DIFFERENT


def is_doubtful(wanted: Reading, found: Reading) -> bool:
    """Whether what stands beside the names may be what a version is called, or differs."""
    mine, theirs = ({_squashed(extra) for extra in reading.extras} for reading in (wanted, found))
    if mine - theirs and theirs - mine:
        return True
    texts = [text for reading in (wanted, found) for text in (reading.core, *reading.extras)]
    return any(DOUBTFUL.search(half) for text in texts for half in (east_asian(text), other_letters(text)))


def _translates(plain: Reading, other: Reading) -> bool:
    """Whether ``other`` holds the title of ``plain`` beside itself in another script."""
    if not plain.full:
        return False
    for extra in other.extras:
        if _squashed(extra) == plain.full and scripts(extra).isdisjoint(scripts(other.core)):
            return True
    for text in (other.core, *other.extras):
        halves = east_asian(text), other_letters(text)
        if all(any(char.isalpha() for char in half) for half in halves) and plain.full in map(_squashed, halves):
            return True
    return False


def _typo(wanted: Reading, found: Reading) -> bool:
    """Whether a few letters differ, none of them of a short word."""
    mine, theirs = _canonical(wanted.core), _canonical(found.core)
    a, b = "".join(mine), "".join(theirs)
    if east_asian(a) or east_asian(b):
        return False
    if len(mine) != len(theirs):
        return min(len(a), len(b)) >= _TWO_TYPOS_LENGTH and OSA.distance(a, b, score_cutoff=1) <= 1
    for one, other in zip(mine, theirs, strict=True):
        if one == other:
            continue
        shorter = min(len(one), len(other))
        allowed = 0 if shorter < _TYPO_LENGTH else 1 if shorter < _TWO_TYPOS_LENGTH else 2
        if one.isdigit() or OSA.distance(one, other, score_cutoff=allowed) > allowed:
            return False
    return True


def _censored_equal(wanted: str, found: str) -> bool:
    """Whether letters hidden behind asterisks are all that differs."""
    if "*" not in wanted + found or len(wanted) != len(found):
        return False
    pairs = [(a, b) for a, b in zip(wanted, found, strict=True) if a != b]
    return len(pairs) <= len(wanted) // 2 and all("*" in pair for pair in pairs)


def _numbers(reading: Reading) -> list[str]:
    return sorted(word for text in (reading.core, *reading.extras) for word in _canonical(text) if word.isdigit())


def _reading(
    texts: list[str], core: str, extras: tuple[str, ...], kinds: frozenset[str], makers: frozenset[str]
) -> Reading:
    full = "".join(_squashed(text) for text in texts) or "".join(texts)
    return Reading(core, extras, full, kinds, makers)


@lru_cache(maxsize=4096)
def _squashed(folded: str) -> str:
    return "".join(_canonical(folded))


@lru_cache(maxsize=4096)
def _canonical(folded: str) -> tuple[str, ...]:
    """The words of a title without its article, numbers in digits."""
    folded = _ROMAN_BEFORE_DOT.sub(lambda roman: _ROMANS.get(roman[1], roman[1]), folded)
    folded = _ORDINAL.sub(lambda ordinal: f" {_digit(ordinal[1] or ordinal[2])} ", folded.replace("#", " no "))
    listed = words(_ARTICLE.sub("", folded))
    result: list[str] = []
    for number, word in enumerate(listed):
        before = listed[number - 1] if number else ""
        if word in _LONE_ROMANS or (before in _COUNTED and word in _ROMANS):
            word = _ROMANS[word]
        elif before in _COUNTED and word in _SPELLED:
            word = _SPELLED[word]
        elif word.isdecimal():
            word = str(int(word))
        result.append(_COUNTED.get(word) or word)
    return tuple(result)


def _digit(text: str) -> str:
    if text.isdecimal():
        return text
    return {"上": "1", "中": "2", "下": "3", "十": "10"}.get(text) or str("零一二三四五六七八九".find(text[-1]))


def _without_names(text: str, known: tuple[Singers, ...]) -> tuple[str, list[str]]:
    """``text`` without singers around a dash, and those singers; empty when it is nothing but singers."""
    if _is_names(text, known):
        return "", [text]
    left, dash, right = text.partition("-")
    if dash and _is_names(left, known):
        return right.strip(), [left]
    if dash and _is_names(right, known):
        return left.strip(), [right]
    return text, []


def _is_names(text: str, known: tuple[Singers, ...]) -> bool:
    if any(singers.has(text) for singers in known):
        return True
    names = read_singers((text,)).names
    return len(names) > 1 and all(
        any(not name.forms.isdisjoint(other.forms) for singers in known for other in singers.names) for name in names
    )


@lru_cache(maxsize=4096)
def _pieces(folded: str) -> _Pieces:
    """A title cut at brackets and dashes, its parts sorted by what they say."""
    plain: list[tuple[str, bool]] = []
    featured: list[str] = []
    kinds: set[str] = set()
    makers: set[str] = set()
    parts = _cut(folded)
    for number, (text, bracketed) in enumerate(parts):
        before, *names = _FEATURE.split(text, maxsplit=1)
        if bracketed and (with_names := _FEATURE_IN_BRACKETS.match(text)):
            before, names = "", [text[with_names.end() :]]
        if names:
            featured.append(names[0].split(" of ")[0])
            if bracketed and before and (found := kinds_of(before)):
                kinds |= found
                makers |= makers_of(before)
                continue
            if bracketed and before:
                featured.append(before)
                continue
            text = before.strip()
            if not text:
                continue
        aside = bracketed or number > 0
        if aside and NOTE.search(text) and not kinds_of(_QUOTED.sub(" ", text)) - {"other language"}:
            continue
        found = kinds_of(text)
        if found and (aside or not maker_of(text)):
            kinds |= found
            makers |= makers_of(text)
        elif not (aside and _is_same(text)):
            plain.append((text, bracketed))
    if not plain and parts:  # it is called "Demo", or "Remix"
        plain, kinds, makers = [parts[0]], kinds - kinds_of(parts[0][0]), makers
    return _Pieces(tuple(plain), tuple(featured), frozenset(kinds), frozenset(makers))


def _is_same(text: str) -> bool:
    return "remaster" in text or "re-master" in text or (SAME.search(text) is not None and not maker_of(text))


def _cut(folded: str) -> list[tuple[str, bool]]:
    """The text outside of brackets, cut at dashes, and that of each outermost bracket, in order."""
    pieces: list[tuple[str, bool]] = []
    depth, start = 0, 0

    def take(end: int, *, bracketed: bool) -> None:
        text = folded[start:end]
        for part in [text] if bracketed else _DASH.split(text):
            stripped = part.strip(" -~|,:;\"'")
            if squash(stripped) or (stripped and not bracketed):
                pieces.append((stripped, bracketed))

    for place, char in enumerate(folded):
        if char in _OPENING:
            if depth == 0:
                take(place, bracketed=False)
                start = place + 1
            depth += 1
        elif char in _CLOSING and depth:
            depth -= 1
            if depth == 0:
                take(place, bracketed=True)
                start = place + 1
    take(len(folded), bracketed=depth > 0)
    return pieces
