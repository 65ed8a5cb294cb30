"""JSPF: XSPF as JSON."""

from __future__ import annotations

import json
from typing import Any

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


def parse(content: bytes) -> ParsedPlaylist:
    """Read a JSPF. Raises :class:`PermanentError` when it is not JSON or not a playlist."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise malformed("The JSPF playlist is not valid JSON.") from None
    playlist = document.get("playlist") if isinstance(document, dict) else None
    tracks = playlist.get("track", []) if isinstance(playlist, dict) else None
    if not isinstance(playlist, dict) or not isinstance(tracks, list):
        raise malformed("The JSON is not a JSPF playlist: it has no playlist with a list of tracks.")
    check_count(len(tracks))
    problems = Problems()
    entries: list[Entry] = []
    for number, track in enumerate(tracks, start=1):
        location = _location(track)
        if location is None:
            problems.add(f"Track {number} has no usable location, and was left out.")
            continue
        singer = clean_text(track.get("creator"))
        milliseconds = track.get("duration")
        entries.append(
            Entry(
                location=location,
                title=clean_text(track.get("title")),
                singers=(singer,) if singer else (),
                album=clean_text(track.get("album")),
                duration_seconds=_seconds(milliseconds),
            )
        )
    image = playlist.get("image")
    return ParsedPlaylist(
        entries=tuple(entries),
        title=clean_text(playlist.get("title")),
        description=clean_text(playlist.get("annotation"), 5000),
        image=image
        if isinstance(image, str) and image.startswith(("http://", "https://")) and len(image) <= MAX_LOCATION
        else None,
        problems=problems.sentences(),
    )


def _location(track: Any) -> str | None:
    """The first location; some writers put a string where the format has a list."""
    if not isinstance(track, dict):
        return None
    location = track.get("location")
    if isinstance(location, list):
        location = location[0] if location else None
    return usable_location(location)


def _seconds(milliseconds: object) -> float | None:
    if isinstance(milliseconds, (int, float)) and not isinstance(milliseconds, bool):
        try:
            return clean_seconds(milliseconds / 1000)
        except OverflowError:
            return None
    return None
