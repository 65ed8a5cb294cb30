"""Whether a search result is the song that is wanted: accepted, for a person to review, or refused, with reasons."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Final, Protocol, TypeVar

from downloader.service.matching.normalise import fold, words
from downloader.service.matching.reasons import Code, Finding, clock
from downloader.service.matching.singers import Relation, Singers, read_singers, relate
from downloader.service.matching.title import Reading, Title, TitleRelation, is_doubtful, read_title, relate_titles
from downloader.service.matching.versions import KINDS, MIXED_ALBUMS, kinds_of_album, other_makers

_LONGEST: Final = 24 * 3600.0
"""No song is longer; a source that says so counts milliseconds, or anything."""
_EQUAL_SECONDS, _EQUAL_SHARE = 2.0, 0.01
_CLOSE_SECONDS, _CLOSE_SHARE = 5.0, 0.03
"""As the check of the file itself later on has it."""
_OFF_SECONDS, _OFF_SHARE = 12.0, 0.06
_ALBUM_LENGTH: Final = 4
"""Letters that the beginning of an album's name must have to stand for all of it."""
_COMMON: Final = frozenset(
    [
        *("intro", "outro", "interlude", "prelude", "postlude", "skit", "untitled", "unknown", "theme", "opening"),
        *("ending", "finale", "overture", "introduction", "prologue", "epilogue", "intermission", "track"),
        *("前奏", "序曲", "序", "间奏", "尾声", "尾奏", "开场", "无题", "未知", "开场白", "结尾", "引子"),
    ]
)
"""Titles that albums have rather than songs."""
_REMAKERS: Final = re.compile(
    r"\b(?:orchestra|philharmonic|symphony|choir|ensemble|karaoke|tribute|dj|covers?|cast)\b|乐团|合唱团|伴奏|翻唱"
)
"""Words of names that stand beside a singer who did not sing it so."""


class Wanted(Protocol):
    """The song that is looked for. ``duration_seconds``: where it is known."""

    @property
    def name(self) -> str: ...
    @property
    def singers(self) -> tuple[str, ...]: ...
    @property
    def album(self) -> str | None: ...
    @property
    def duration_seconds(self) -> float | None: ...


class Result(Wanted, Protocol):
    """What a source found. ``size`` in bytes, ``bitrate`` in kbit/s."""

    @property
    def size(self) -> int | None: ...
    @property
    def bitrate(self) -> int | None: ...
    @property
    def lossless(self) -> bool: ...


R = TypeVar("R", bound=Result)


class Verdict(Enum):
    """What is done with a result."""

    ACCEPTED = "accepted"
    REVIEW = "review"
    """a person decides; it does not end the search"""
    REFUSED = "refused"


class _Length(Enum):
    EQUAL = "equal"
    CLOSE = "close"
    OFF = "off"
    FAR = "far"
    MISSING = "missing"


@dataclass(frozen=True, kw_only=True)
class Match:
    """How a result stands to what is wanted. ``score`` (0 to 100) is for people; the verdict follows from rules."""

    verdict: Verdict
    score: int
    reasons: tuple[Finding, ...]
    match_group: int
    """0: all that is known agrees; 1: accepted; 2, 3: to review, the better ones first; 4: refused"""
    order: tuple[int, int, int] = field(repr=False)
    """lowest first: match group, quality group, size (largest first)"""


class Matcher:
    """Judges results for one song. Whatever they hold, it costs a bounded time and never raises."""

    def __init__(self, wanted: Wanted) -> None:
        self._name = wanted.name
        self._singers = read_singers(wanted.singers)
        self._title = read_title(wanted.name, (self._singers,))
        self._all = read_singers(wanted.singers, self._title.featured)
        self._album = fold(wanted.album or "")
        self._seconds = _seconds(wanted.duration_seconds)

    def judge(self, found: Result) -> Match:
        """The verdict on one result, with every reason for and against it."""
        judged = _Judged(refused=[], review=[], agreed=[])
        own = read_singers(found.singers)
        title = read_title(found.name, (self._all, own))
        singers = read_singers(found.singers, title.featured)
        relation, mine, theirs = relate_titles(self._title, title)
        if self._is_swapped(found, own, relation):
            judged.review.append(Finding.of(Code.SWAPPED))
            relation, who = TitleRelation.EXACT, Relation.SAME
        else:
            who = self._who(singers, title, judged)
        length = _compare_lengths(self._seconds, seconds := _seconds(found.duration_seconds))
        album = _Album.of(self._album, fold(found.album or ""))
        self._judge_title(judged, relation, mine, theirs, length, album)
        self._judge_versions(judged, mine, theirs, album, length)
        guests = self._has_guests(own, singers, who)
        self._judge_singers(judged, who, length, guests=guests)
        self._judge_length(judged, length, seconds, relation, album)
        if not mine.full or not theirs.full:
            judged.refused.append(Finding.of(Code.NO_TITLE))
        return judged.match(relation, who, length, album, _quality(found), _size(found))

    def _is_swapped(self, found: Result, own: Singers, relation: TitleRelation) -> bool:
        if relation is TitleRelation.EXACT or not self._all.has(fold(found.name)):
            return False
        return own.has(self._title.readings[0].core)

    def _has_guests(self, own: Singers, singers: Singers, who: Relation) -> bool:
        """Whether only one side names guests in its title, or an orchestra or a DJ: made again, more often than not."""
        if who not in (Relation.MORE, Relation.FEWER):
            return False
        if _REMAKERS.search(" ".join(sorted(singers.words ^ self._all.words))):
            return True
        if who is Relation.MORE:
            return len(singers.names) > len(own.names)
        return relate(self._singers, singers) in (Relation.SAME, Relation.MORE)

    def _who(self, singers: Singers, title: Title, judged: _Judged) -> Relation:
        who = relate(self._all, singers)
        if who is Relation.UNKNOWN and self._all.names and title.named:
            judged.review.append(Finding.of(Code.SINGER_ONLY_IN_TITLE))
            return relate(self._all, read_singers(title.named, title.featured))
        return who

    def _judge_title(
        self, judged: _Judged, relation: TitleRelation, mine: Reading, theirs: Reading, length: _Length, album: _Album
    ) -> None:
        equal = length is _Length.EQUAL
        match relation:
            case TitleRelation.EXACT:
                judged.agreed.append(Finding.of(Code.TITLE_AGREES))
            case TitleRelation.TRANSLATED:
                sure = equal and album.agrees and not is_doubtful(mine, theirs)
                judged.either(sure, Finding.of(Code.TITLE_TRANSLATED))
            case TitleRelation.SHORTER | TitleRelation.LONGER:
                judged.review.append(Finding.of(Code.SUBTITLE))
            case TitleRelation.TYPO:
                judged.review.append(Finding.of(Code.TITLE_NEARLY))
            case TitleRelation.ASIDE:
                judged.review.append(Finding.of(Code.TITLE_ASIDE))
            case TitleRelation.PART_UNSAID if equal:
                judged.review.append(Finding.of(Code.PART_UNSAID))
            case TitleRelation.OTHER_SCRIPT if length in (_Length.EQUAL, _Length.CLOSE):
                judged.review.append(Finding.of(Code.TITLE_OTHER_SCRIPT))
            case TitleRelation.PART_UNSAID | TitleRelation.OTHER_PART:
                judged.refused.append(Finding.of(Code.OTHER_PART))
            case _:
                judged.refused.append(Finding.of(Code.TITLE_DIFFERS))

    def _judge_versions(self, judged: _Judged, mine: Reading, theirs: Reading, album: _Album, length: _Length) -> None:
        explained = (album.wanted & (theirs.kinds - mine.kinds)) | (album.found & (mine.kinds - theirs.kinds))
        differ = (mine.kinds ^ theirs.kinds) - (explained - MIXED_ALBUMS)
        if hard := differ & KINDS.keys():
            judged.refused.append(Finding.of(Code.VERSION_DIFFERS, kinds=", ".join(sorted(hard))))
        elif differ:
            judged.review.append(Finding.of(Code.VERSION_UNCLEAR, kinds=", ".join(sorted(differ))))
        elif other_makers(mine.makers, theirs.makers):
            judged.refused.append(Finding.of(Code.OTHER_MAKER))
        elif mine.makers != theirs.makers and length is not _Length.EQUAL:
            judged.review.append(Finding.of(Code.MAKER_UNCLEAR))
        said = mine.kinds | theirs.kinds
        if unsaid := (album.wanted ^ album.found) - said:
            finding = Finding.of(Code.ALBUM_VERSION, kinds=", ".join(sorted(unsaid)))
            (judged.refused if album.both_known and unsaid - MIXED_ALBUMS else judged.review).append(finding)

    def _judge_singers(self, judged: _Judged, who: Relation, length: _Length, *, guests: bool) -> None:
        equal, close = length is _Length.EQUAL, length in (_Length.EQUAL, _Length.CLOSE)
        match who:
            case Relation.SAME:
                judged.agreed.append(Finding.of(Code.SINGERS_AGREE))
            case Relation.MORE:
                judged.either(equal and not guests, Finding.of(Code.MORE_SINGERS))
            case Relation.FEWER:
                judged.either(close and not guests, Finding.of(Code.FEWER_SINGERS))
            case Relation.OVERLAP:
                judged.review.append(Finding.of(Code.OTHER_SINGERS_TOO))
            case Relation.NEAR:
                judged.review.append(Finding.of(Code.SINGER_NEARLY))
            case Relation.UNKNOWN:
                judged.review.append(Finding.of(Code.SINGER_UNKNOWN))
            case Relation.OTHER_SCRIPT:
                judged.review.append(Finding.of(Code.SINGER_OTHER_SCRIPT))
            case Relation.DIFFERENT:
                judged.refused.append(Finding.of(Code.SINGER_DIFFERS))

    def _judge_length(
        self, judged: _Judged, length: _Length, seconds: float | None, relation: TitleRelation, album: _Album
    ) -> None:
        match length:
            case _Length.MISSING:
                unsure = _is_common(self._title) or (album.both_known and not album.agrees)
                judged.either(album.agrees or not unsure, Finding.of(Code.LENGTH_UNKNOWN))
            case _Length.EQUAL | _Length.CLOSE:
                judged.agreed.append(Finding.of(Code.LENGTH_AGREES))
            case _:
                finding = Finding.of(Code.LENGTH_DIFFERS, wanted=clock(self._seconds), found=clock(seconds))
                (judged.review if length is _Length.OFF else judged.refused).append(finding)
        if _is_album_title(self._title) and not album.agrees:
            judged.review.append(Finding.of(Code.COMMON_TITLE))


@dataclass
class _Judged:
    refused: list[Finding]
    review: list[Finding]
    agreed: list[Finding]

    def either(self, agrees: bool, finding: Finding) -> None:
        (self.agreed if agrees else self.review).append(finding)

    def match(
        self, relation: TitleRelation, who: Relation, length: _Length, album: _Album, quality: int, size: int
    ) -> Match:
        score = _TITLE[relation] + _WHO[who] + _LENGTH[length] + (6 if album.agrees else 0 if album.both_known else 3)
        if self.refused:
            verdict, group = Verdict.REFUSED, 4
            score = score // 2
        elif self.review:
            verdict, group = Verdict.REVIEW, 2 if score >= _GOOD else 3
        else:
            sure = relation in (TitleRelation.EXACT, TitleRelation.TRANSLATED) and who is Relation.SAME
            verdict, group = Verdict.ACCEPTED, 0 if sure and length is _Length.EQUAL else 1
        return Match(
            verdict=verdict,
            score=score,
            reasons=(*self.refused, *self.review, *self.agreed),
            match_group=group,
            order=(group, quality, -size),
        )


_TITLE = {
    TitleRelation.EXACT: 48,
    TitleRelation.TRANSLATED: 45,
    TitleRelation.SHORTER: 42,
    TitleRelation.LONGER: 40,
    TitleRelation.TYPO: 36,
    TitleRelation.ASIDE: 34,
    TitleRelation.PART_UNSAID: 30,
    TitleRelation.OTHER_SCRIPT: 24,
    TitleRelation.OTHER_PART: 12,
    TitleRelation.DIFFERENT: 0,
}
_WHO = {
    Relation.SAME: 30,
    Relation.FEWER: 25,
    Relation.MORE: 25,
    Relation.OVERLAP: 18,
    Relation.NEAR: 20,
    Relation.UNKNOWN: 12,
    Relation.OTHER_SCRIPT: 12,
    Relation.DIFFERENT: 0,
}
_LENGTH = {_Length.EQUAL: 16, _Length.CLOSE: 12, _Length.OFF: 5, _Length.MISSING: 6, _Length.FAR: 0}
_GOOD = 75
"""From this score on a result for review comes before the others."""


@dataclass(frozen=True)
class _Album:
    """What the albums say. ``wanted`` and ``found``: the kinds of recording that their names speak of."""

    wanted: frozenset[str]
    found: frozenset[str]
    agrees: bool
    both_known: bool

    @classmethod
    def of(cls, wanted: str, found: str) -> _Album:
        one, other = (_album_words(text) for text in (wanted, found))
        agrees = bool(one and other) and (
            one == other
            or (min(len(one), len(other)) >= _ALBUM_LENGTH and (one.startswith(other) or other.startswith(one)))
        )
        return cls(kinds_of_album(wanted), kinds_of_album(found), agrees, bool(one and other))


def ranked(wanted: Wanted, results: Iterable[R]) -> list[tuple[R, Match]]:
    """All results with their verdicts, the best first; equal ones in the order in which they came."""
    matcher = Matcher(wanted)
    return sorted(((result, matcher.judge(result)) for result in results), key=lambda pair: pair[1].order)


@lru_cache(maxsize=4096)
def _album_words(folded: str) -> str:
    """An album's name without its edition."""
    text = folded
    for mark in "([{【":
        text = text.partition(mark)[0] or text
    return "".join(word for word in words(text.partition(" - ")[0]) if word not in ("the", "ep", "single"))


def _seconds(value: float | None) -> float | None:
    """A length that can be meant, or None."""
    if value is None or isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 < value < _LONGEST else None


def _compare_lengths(wanted: float | None, found: float | None) -> _Length:
    if wanted is None or found is None:
        return _Length.MISSING
    difference = abs(wanted - found)
    for length, seconds, share in (
        (_Length.EQUAL, _EQUAL_SECONDS, _EQUAL_SHARE),
        (_Length.CLOSE, _CLOSE_SECONDS, _CLOSE_SHARE),
        (_Length.OFF, _OFF_SECONDS, _OFF_SHARE),
    ):
        if difference <= max(seconds, share * wanted):
            return length
    return _Length.FAR


def _is_common(title: Title) -> bool:
    """Whether the title alone says little: one short word, or one that albums have."""
    listed: Sequence[str] = words(title.readings[0].core)
    return _is_album_title(title) or (len(listed) == 1 and len(listed[0]) <= (5 if listed[0].isascii() else 2))


def _is_album_title(title: Title) -> bool:
    listed = [word for word in words(title.readings[0].core) if not word.isdecimal()]
    return not listed or all(word in _COMMON for word in listed)


def _quality(found: Result) -> int:
    """0 lossless, 1 from 256 kbit/s, 2 from 160, 3 below, 4 not known."""
    if found.lossless:
        return 0
    rate = found.bitrate
    if not isinstance(rate, (int, float)) or not math.isfinite(rate) or rate <= 0:
        return 4
    return 1 if rate >= 256 else 2 if rate >= 160 else 3


def _size(found: Result) -> int:
    return found.size if isinstance(found.size, int) and 0 < found.size < 2**53 else 0
