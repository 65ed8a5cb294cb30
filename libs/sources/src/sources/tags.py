"""What a music file says of itself. A file whose tags cannot be read is still a song."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import mutagen

from .paths import escape, extension
from .playlists.model import clean_seconds, clean_text
from .port import Song

_MAX_SINGERS = 50
_EXTRA = {
    "albumartist": "album_artist",
    "tracknumber": "track",
    "discnumber": "disc",
    "date": "date",
    "genre": "genre",
}
_OTHER_KEYS: dict[str, tuple[str, ...]] = {
    "title": ("TIT2", "Title"),
    "artist": ("TPE1", "Author", "Artist"),
    "album": ("TALB", "WM/AlbumTitle", "Album"),
    "albumartist": ("TPE2", "WM/AlbumArtist", "Album Artist"),
    "tracknumber": ("TRCK", "WM/TrackNumber", "Track"),
    "discnumber": ("TPOS", "WM/PartOfSet", "Disc"),
    "date": ("TDRC", "WM/Year", "Year"),
    "genre": ("TCON", "WM/Genre", "Genre"),
}
"""The same tags in ID3 without its easy form (WAV, AIFF, DSF), in ASF (WMA) and in APEv2."""


def fingerprint(stat: os.stat_result) -> str:
    """Changes when the file is written again; the same for a file that was not touched."""
    return f"{stat.st_size}-{stat.st_mtime_ns}"


def read_song(path: str, *, remote_id: str, stat: os.stat_result) -> Song:
    """The song in a file: from its tags, else from its name with ``metadata_status`` pending."""
    name = os.path.basename(path)  # noqa: PTH119 - a plain string, a hundred thousand times
    tags, seconds = _tags(path)
    title, singers = clean_text(_first(tags, "title")), _singers(tags)
    return Song(
        remote_id=remote_id,
        name=title or name_of_file(name),
        singers=singers,
        album=clean_text(_first(tags, "album")),
        duration_seconds=clean_seconds(seconds),
        ext=extension(name) or None,
        size=stat.st_size,
        fingerprint=fingerprint(stat),
        metadata_status="complete" if title and singers else "pending",
        metadata={
            ours: text for theirs, ours in _EXTRA.items() if (text := clean_text(_first(tags, theirs), 200)) is not None
        },
    )


def name_of_file(name: str) -> str:
    """A song's name from its file name, for people."""
    stem = name[: -len(extension(name)) - 1] if extension(name) else name
    return clean_text(escape(stem)) or "unnamed"


def _tags(path: str) -> tuple[Mapping[str, Any], float | None]:
    try:
        file = mutagen.File(path, easy=True)
    except Exception:
        # The file is anybody's; its parsers raise whatever they stumble over. The song comes in
        # without tags and is completed later.
        return {}, None
    if file is None:
        return {}, None
    tags = file.tags if isinstance(file.tags, Mapping) or hasattr(file.tags, "get") else {}
    return tags or {}, getattr(file.info, "length", None)


def _first(tags: Mapping[str, Any], key: str) -> str | None:
    return next(iter(_values(tags, key)), None)


def _values(tags: Mapping[str, Any], key: str) -> list[str]:
    for name in (key, *_OTHER_KEYS.get(key, ())):
        try:
            found = tags.get(name)
        except (KeyError, ValueError):
            continue
        if found is not None and (texts := _texts(found)):
            return texts
    return []


def _texts(found: Any) -> list[str]:
    """The values of one tag: a list, an ID3 frame with a list, or text with NUL between values."""
    values = found if isinstance(found, list) else getattr(found, "text", None)
    if isinstance(values, list):
        return [str(value) for value in values[:_MAX_SINGERS]]
    return str(found).split("\0")[:_MAX_SINGERS]


def _singers(tags: Mapping[str, Any]) -> tuple[str, ...]:
    cleaned = (clean_text(value, 200) for value in _values(tags, "artist"))
    return tuple(dict.fromkeys(value for value in cleaned if value))
