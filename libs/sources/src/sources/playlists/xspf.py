"""XSPF: the XML playlist. Read element by element, so that memory follows the list, not the markup."""

from __future__ import annotations

import io
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from .model import (
    MAX_LOCATION,
    Entry,
    ParsedPlaylist,
    Problems,
    check_count,
    clean_seconds,
    clean_text,
    malformed,
    usable_location,
)

MAX_DEPTH = 50
"""XSPF needs six levels; extensions rarely more."""


def parse(content: bytes) -> ParsedPlaylist:
    """Read an XSPF. Raises :class:`PermanentError` when it is not well-formed or holds entities."""
    entries: list[Entry] = []
    problems = Problems()
    header: dict[str, str | None] = {}
    path: list[Element] = []
    count = 0
    try:
        for event, element in iterparse(io.BytesIO(content), events=("start", "end"), forbid_dtd=True):
            if event == "start":
                path.append(element)
                if len(path) > MAX_DEPTH:
                    raise malformed("The XSPF playlist is nested too deeply.")
                if len(path) == 1 and _name(element) != "playlist":
                    raise malformed("The XML is not an XSPF playlist: its first element is not <playlist>.")
                continue
            path.pop()
            names = [_name(parent) for parent in path]
            if names == ["playlist", "trackList"] and _name(element) == "track":
                count += 1
                check_count(count)
                _take(element, count, entries, problems)
                path[-1].clear()
            elif names == ["playlist"] and _name(element) in ("title", "annotation", "image"):
                header[_name(element)] = element.text
    except ParseError as error:
        line = error.position[0] if getattr(error, "position", None) else 0
        raise malformed(f"The XSPF playlist is not well-formed XML (line {line}).") from None
    except DefusedXmlException:
        raise malformed("The XSPF playlist declares a DTD or entities, which are refused.") from None
    except (ValueError, LookupError):
        raise malformed("The XSPF playlist has an encoding that cannot be read.") from None
    image = (header.get("image") or "").strip()
    return ParsedPlaylist(
        entries=tuple(entries),
        title=clean_text(header.get("title")),
        description=clean_text(header.get("annotation"), 5000),
        image=image if image.startswith(("http://", "https://")) and len(image) <= MAX_LOCATION else None,
        problems=problems.sentences(),
    )


def _take(track: Element, number: int, entries: list[Entry], problems: Problems) -> None:
    values: dict[str, str] = {}
    for child in track:
        values.setdefault(_name(child), (child.text or "").strip())
    location = usable_location(values.get("location"))
    if location is None:
        problems.add(f"Track {number} has no usable location, and was left out.")
        return
    singer = clean_text(values.get("creator"))
    duration = values.get("duration", "")
    entries.append(
        Entry(
            location=location,
            title=clean_text(values.get("title")),
            singers=(singer,) if singer else (),
            album=clean_text(values.get("album")),
            duration_seconds=clean_seconds(int(duration) / 1000) if _is_number(duration) else None,
        )
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 12


def _name(element: Element) -> str:
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""
