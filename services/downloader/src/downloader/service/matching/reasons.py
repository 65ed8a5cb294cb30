"""Why a result was accepted, sent to review or refused: stable codes, each with its sentence."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """A reason. The values are stored, and never change their meaning."""

    NO_TITLE = "no-title"
    TITLE_DIFFERS = "title-differs"
    OTHER_PART = "other-part"
    VERSION_DIFFERS = "version-differs"
    ALBUM_VERSION = "album-version"
    OTHER_MAKER = "other-maker"
    SINGER_DIFFERS = "singer-differs"
    LENGTH_DIFFERS = "length-differs"
    SWAPPED = "swapped"
    TITLE_NEARLY = "title-nearly"
    TITLE_ASIDE = "title-aside"
    TITLE_OTHER_SCRIPT = "title-other-script"
    SUBTITLE = "subtitle"
    PART_UNSAID = "part-unsaid"
    COMMON_TITLE = "common-title"
    VERSION_UNCLEAR = "version-unclear"
    MAKER_UNCLEAR = "maker-unclear"
    SINGER_NEARLY = "singer-nearly"
    SINGER_OTHER_SCRIPT = "singer-other-script"
    SINGER_UNKNOWN = "singer-unknown"
    SINGER_ONLY_IN_TITLE = "singer-only-in-title"
    OTHER_SINGERS_TOO = "other-singers-too"
    MORE_SINGERS = "more-singers"
    FEWER_SINGERS = "fewer-singers"
    LENGTH_UNKNOWN = "length-unknown"
    TITLE_AGREES = "title-agrees"
    TITLE_TRANSLATED = "title-translated"
    SINGERS_AGREE = "singers-agree"
    LENGTH_AGREES = "length-agrees"


SENTENCES: dict[Code, str] = {
    Code.NO_TITLE: "One of the titles is empty.",
    Code.TITLE_DIFFERS: "The titles are different.",
    Code.OTHER_PART: "The titles number different parts.",
    Code.VERSION_DIFFERS: "Only one of the titles speaks of: {kinds}.",
    Code.ALBUM_VERSION: "Only one of the albums speaks of: {kinds}.",
    Code.OTHER_MAKER: "Both are versions, but of different people, places, years or numbers.",
    Code.SINGER_DIFFERS: "The singers are different.",
    Code.LENGTH_DIFFERS: "It is {found} long, not {wanted}.",
    Code.SWAPPED: "Title and singer have changed places.",
    Code.TITLE_NEARLY: "The titles differ by a few letters.",
    Code.TITLE_ASIDE: "The title of one stands in brackets in the other.",
    Code.TITLE_OTHER_SCRIPT: "The titles are written in different scripts and cannot be compared.",
    Code.SUBTITLE: "Only one of the titles has a subtitle.",
    Code.PART_UNSAID: "Only one of the titles numbers a part.",
    Code.COMMON_TITLE: "Many albums have a piece of this name, and the albums do not agree.",
    Code.VERSION_UNCLEAR: "Only one of the titles speaks of: {kinds}. It may be the same recording.",
    Code.MAKER_UNCLEAR: "Only one of the titles says whose version it is.",
    Code.SINGER_NEARLY: "The singers' names differ by a few letters.",
    Code.SINGER_OTHER_SCRIPT: "The singers are written in different scripts and cannot be compared.",
    Code.SINGER_UNKNOWN: "One of them names no singer.",
    Code.SINGER_ONLY_IN_TITLE: "The singer stands only in the title.",
    Code.OTHER_SINGERS_TOO: "They share some singers, and each has others.",
    Code.MORE_SINGERS: "It names more singers.",
    Code.FEWER_SINGERS: "It names fewer singers.",
    Code.LENGTH_UNKNOWN: "The length of one of them is not known.",
    Code.TITLE_AGREES: "The titles agree.",
    Code.TITLE_TRANSLATED: "The titles agree but for words in another script.",
    Code.SINGERS_AGREE: "The singers agree.",
    Code.LENGTH_AGREES: "The lengths agree.",
}


@dataclass(frozen=True)
class Finding:
    """One reason. Its sentence holds nothing that a source said."""

    code: Code
    sentence: str

    @classmethod
    def of(cls, code: Code, **values: str) -> Finding:
        """A finding with the sentence of its code."""
        return cls(code, SENTENCES[code].format(**values))


def clock(seconds: float | None) -> str:
    """A length as people write it."""
    whole = round(seconds or 0)
    return f"{whole // 60}:{whole % 60:02}"
