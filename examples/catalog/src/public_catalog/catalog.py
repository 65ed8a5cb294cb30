"""What the pages ask of a snapshot. Every list is a page by keyset: as fast at the end as at the beginning."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from public_catalog.errors import BadAddress, NotThere

T = TypeVar("T")
_MAX_METADATA = 256 * 1024
_MAX_ADDRESS = 16 * 1024
"""Letters; a locator has 4,096 bytes, and each may take three when it is in a URL."""
_LONGEST = 10**6
"""Seconds; what says more is mistaken."""
_INTEGERS = range(-(2**63), 2**63)


@dataclass(frozen=True)
class Playlist:
    """A playlist as lists show it."""

    playlist_id: int
    name: str
    description: str
    platform: str
    cover_url: str | None
    play_count: int
    song_count: int


@dataclass(frozen=True)
class File:
    """One place where a song's bytes lie."""

    quality: str
    ext: str
    size: int
    backend_type: str
    backend: str
    locator: str
    public_url: str | None
    primary: bool


@dataclass(frozen=True)
class Song:
    """A song, with its files, best first."""

    song_id: int
    name: str
    singers: str
    album: str
    platform: str
    seconds: int | None
    files: tuple[File, ...]


@dataclass(frozen=True)
class Entry:
    """A song at its place, from 1, in a playlist; ``song`` is None where the list names one that the catalog lacks,
    ``place`` where the list does not say which: such songs come first."""

    place: int | None
    song: Song | None


@dataclass(frozen=True)
class Page(Generic[T]):
    """A part of a list. ``after``: where the next part begins; None at the end."""

    items: Sequence[T]
    after: str | None


def number(given: str) -> int:
    """An id out of an address. Raises NotThere: nothing has such an id."""
    if given.removeprefix("-").isdecimal() and len(given) <= 20 and given.isascii() and int(given) in _INTEGERS:
        return int(given)
    raise NotThere("That is not the number of anything here.")


def text(value: object, limit: int = 500) -> str:
    """What a page shows of a value: nobody reads a name of a million letters."""
    shown = "" if value is None else str(value)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def playlists(connection: sqlite3.Connection, *, after: str | None, limit: int) -> Page[Playlist]:
    """All playlists, those played most first. Raises BadAddress."""
    plays, identity = _position(after, (2**63 - 1, -(2**63)))
    rows = connection.execute(
        "SELECT * FROM (SELECT *, coalesce(play_count, 0) AS plays FROM catalog_playlists)"
        " WHERE plays < ?1 OR (plays = ?1 AND playlist_id > ?2) ORDER BY plays DESC, playlist_id LIMIT ?3",
        (plays, identity, limit + 1),
    ).fetchall()
    items = [_playlist(row) for row in rows[:limit]]
    return Page(items, f"{items[-1].play_count}.{items[-1].playlist_id}" if len(rows) > limit else None)


def playlists_by_id(connection: sqlite3.Connection, ids: Sequence[int]) -> list[Playlist]:
    """The playlists with these ids, in the order of ``ids``; those that are not there are left out."""
    rows = _by_id(connection, "catalog_playlists", "playlist_id", ids)
    return [_playlist(rows[identity]) for identity in ids if identity in rows]


def playlist(connection: sqlite3.Connection, playlist_id: int) -> Playlist:
    """One playlist. Raises NotThere."""
    found = playlists_by_id(connection, [playlist_id])
    if not found:
        raise NotThere("There is no such playlist in this catalog. It may have been in an earlier one.")
    return found[0]


def entries(connection: sqlite3.Connection, playlist_id: int, *, after: str | None, limit: int) -> Page[Entry]:
    """The songs of a playlist in their order. Raises BadAddress."""
    rows = _entries_after(connection, playlist_id, after, limit + 1)
    (first,) = connection.execute(
        "SELECT min(position) FROM catalog_playlist_tracks WHERE playlist_id = ?", (playlist_id,)
    ).fetchone()
    kept = rows[:limit]
    known = {song.song_id: song for song in songs_by_id(connection, [row["song_id"] for row in kept])}
    places = [None if row["position"] is None else row["position"] - first + 1 for row in kept]
    items = [Entry(place, known.get(row["song_id"])) for place, row in zip(places, kept, strict=True)]
    ends = ["" if value is None else str(value) for value in kept[-1]] if kept else []
    return Page(items, ".".join(ends) if len(rows) > limit else None)


def _entries_after(
    connection: sqlite3.Connection, playlist_id: int, after: str | None, limit: int
) -> list[sqlite3.Row]:
    """Rows in the order of the index, in which NULL comes first; ``after`` holds nothing where a row has NULL."""

    def read(condition: str, *values: float | None, count: int = limit) -> list[sqlite3.Row]:
        return connection.execute(
            "SELECT position, song_id FROM catalog_playlist_tracks"  # noqa: S608
            f" WHERE playlist_id = ? {condition} ORDER BY position, song_id LIMIT ?",
            (playlist_id, *values, count),
        ).fetchall()

    if after is None:
        return read("")
    position, song_id = _place(after)
    # Nothing is more than NULL, to SQL; minus infinity is less than every number.
    rows = read("AND position IS ? AND song_id > ?", position, -math.inf if song_id is None else song_id)
    return rows + read("AND position > ?", -math.inf if position is None else position, count=limit - len(rows))


def songs_by_id(connection: sqlite3.Connection, ids: Sequence[int]) -> list[Song]:
    """The songs with these ids, in the order of ``ids``; those that are not there are left out."""
    rows = _by_id(connection, "catalog_tracks", "song_id", ids)
    files: dict[int, list[File]] = {}
    marks = ",".join("?" * len(rows))
    for row in connection.execute(
        f"SELECT * FROM catalog_track_files WHERE song_id IN ({marks})"  # noqa: S608
        " ORDER BY song_id, coalesce(is_primary, 0) DESC, backend_type, backend_name, locator",
        tuple(rows),
    ):
        files.setdefault(row["song_id"], []).append(_file(row))
    return [_song(rows[one], tuple(files.get(one, ()))) for one in ids if one in rows]


def song(connection: sqlite3.Connection, song_id: int) -> Song:
    """One song. Raises NotThere."""
    found = songs_by_id(connection, [song_id])
    if not found:
        raise NotThere("There is no such song in this catalog. It may have been in an earlier one.")
    return found[0]


def _by_id(connection: sqlite3.Connection, table: str, key: str, ids: Iterable[int]) -> dict[int, sqlite3.Row]:
    wanted = tuple(dict.fromkeys(ids))
    marks = ",".join("?" * len(wanted))
    rows = connection.execute(f"SELECT * FROM {table} WHERE {key} IN ({marks})", wanted)  # noqa: S608
    return {row[key]: row for row in rows}


def _position(after: str | None, beginning: tuple[int, int]) -> tuple[int, int]:
    if after is None:
        return beginning
    try:
        one, _, other = after.partition(".")
        return number(one), number(other)
    except NotThere:
        raise BadAddress("No page of this list begins there.") from None


def _place(after: str) -> tuple[int | None, int | None]:
    try:
        position, song_id = after.split(".")
        return number(position) if position else None, number(song_id) if song_id else None
    except (NotThere, ValueError):
        raise BadAddress("No page of this list begins there.") from None


def _playlist(row: sqlite3.Row) -> Playlist:
    return Playlist(
        playlist_id=row["playlist_id"],
        name=text(row["name"]) or "Untitled",
        description=text(row["description"], 4_000),
        platform=text(row["platform"]),
        cover_url=whole(row["cover_url"]) or None,
        play_count=_integer(row["play_count"]),
        song_count=_integer(row["song_count"]),
    )


def _file(row: sqlite3.Row) -> File:
    return File(
        quality=text(row["quality_label"]),
        ext=text(row["ext"]).lower(),
        size=_integer(row["file_size_bytes"]),
        backend_type=text(row["backend_type"]),
        backend=text(row["backend_name"]),
        locator=whole(row["locator"]),
        public_url=whole(row["public_url"]) or None,
        primary=bool(row["is_primary"]),
    )


def _song(row: sqlite3.Row, files: tuple[File, ...]) -> Song:
    known = _metadata(row["metadata_json"])
    album, seconds = known.get("album"), known.get("duration_seconds")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < _LONGEST:
        seconds = None
    return Song(
        song_id=row["song_id"],
        name=text(row["name"]) or "Untitled",
        singers=text(row["singers"]),
        album=text(album) if isinstance(album, str) else "",
        platform=text(row["platform"]),
        seconds=round(seconds) if seconds is not None else None,
        files=files,
    )


def _metadata(value: str | None) -> dict[str, Any]:
    try:
        content = json.loads(whole(value, _MAX_METADATA) or "{}")
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def whole(value: object, limit: int = _MAX_ADDRESS) -> str:
    """What means nothing when it is cut: all of it or nothing."""
    return value if isinstance(value, str) and len(value) <= limit else ""


def _integer(value: object) -> int:
    return value if isinstance(value, int) else 0
