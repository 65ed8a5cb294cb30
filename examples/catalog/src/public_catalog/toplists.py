"""Toplists, and which playlist each of them is: the snapshot does not say it outright."""

from __future__ import annotations

import itertools
import sqlite3
from dataclasses import dataclass

from public_catalog.catalog import text, whole

MAX_TOPLISTS = 5_000
"""More than any catalog shows; the rest is found among the playlists."""
_ALIKE = "platform, name, description, cover_url, play_count, song_count"


@dataclass(frozen=True)
class Toplist:
    """One list of a group. ``playlist_id`` is None where no playlist fits it."""

    group: str
    name: str
    playlist_id: int | None
    song_count: int
    cover_url: str | None


def toplists(connection: sqlite3.Connection) -> list[Toplist]:
    """All toplists, by group. Groups and lists keep the order of their ids, which is that of their sources."""
    rows = connection.execute(
        f"SELECT toplist_id, group_name, {_ALIKE} FROM catalog_toplists ORDER BY toplist_id LIMIT ?",  # noqa: S608
        (MAX_TOPLISTS,),
    ).fetchall()
    wanted: dict[tuple[object, ...], list[tuple[str, int]]] = {tuple(row)[2:]: [] for row in rows}
    if wanted:
        for row in connection.execute(
            f"SELECT remote_playlist_id, playlist_id, {_ALIKE} FROM catalog_playlists ORDER BY playlist_id"  # noqa: S608
        ):
            if (alike := wanted.get(tuple(row)[2:])) is not None:
                alike.append((str(row[0]), row[1]))
    found = [
        Toplist(
            group=text(row["group_name"]) or "Toplists",
            name=text(row["name"]) or "Untitled",
            playlist_id=_playlist(str(row["toplist_id"]), wanted[tuple(row)[2:]]),
            song_count=row["song_count"] or 0,
            cover_url=whole(row["cover_url"]) or None,
        )
        for row in rows
    ]
    return sorted(found, key=lambda toplist: toplist.group.casefold())


def groups(all_of_them: list[Toplist]) -> list[tuple[str, list[Toplist]]]:
    """Toplists by the name of their group."""
    return [(name, list(members)) for name, members in itertools.groupby(all_of_them, key=lambda one: one.group)]


def _playlist(toplist_id: str, alike: list[tuple[str, int]]) -> int | None:
    """A list that shares its pool with others ends in its playlist's own id; the first of a pool may not."""
    for remote_id, playlist_id in alike:
        if toplist_id == remote_id or toplist_id.endswith(f":{remote_id}"):
            return playlist_id
    return alike[0][1] if alike else None
