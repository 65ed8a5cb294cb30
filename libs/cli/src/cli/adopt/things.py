"""Songs, playlists and pools of the older database, as facts that keep their ids."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from cli.adopt.older import Older, content, identifier, natural, text
from cli.adopt.report import Report
from common.contracts.facts import PlaylistCollected, PlaylistHeader, PoolDefined, SongListed

Row = dict[str, Any]
_TOKEN = re.compile(r"[a-z0-9_-]{1,64}")
_BATCH = 2000


class Things:
    """Reads the tables row by row. :meth:`settle` comes first: it decides which rows are taken."""

    def __init__(self, older: Older, report: Report) -> None:
        self._older = older
        self._report = report

    def settle(self) -> tuple[int, int]:
        """Decide which songs and playlists are taken; return how many."""
        return self._keep("songs", "remote_song_id", "song"), self._keep("playlists", "remote_playlist_id", "playlist")

    def songs(self) -> Iterator[SongListed]:
        """The songs that are taken."""
        for row, platform, remote_id in self._kept("songs", "adopt_songs"):
            metadata = content(row["metadata_json"])
            if metadata is None:
                self._report.notes["songs whose metadata_json could not be read; taken without it"] += 1
            singers = text(row["singers"])
            yield SongListed(
                song_id=row["id"],
                platform=platform,
                remote_id=remote_id,
                name=text(row["name"]),
                singers=tuple(singers.split(", ")) if singers else (),
                ext=text(row["ext"]).strip().lstrip(".").lower() or None,
                size=natural(row["file_size_bytes"]),
                metadata=metadata or {},
            )

    def playlists(self) -> Iterator[list[PlaylistCollected]]:
        """The playlists that are taken, each as its pages with page 0 last."""
        for row, platform, remote_id in self._kept("playlists", "adopt_playlists"):
            entries = self._entries(row["id"])
            header = PlaylistHeader(
                name=text(row["name"]),
                description=_optional(row["description"]),
                cover_url=_optional(row["cover_url"]),
                play_count=natural(row["play_count"]),
                song_count=len(entries),
            )
            size = PlaylistCollected.PAGE_SIZE
            pages = max(1, -(-len(entries) // size))
            yield [
                PlaylistCollected(
                    playlist_id=row["id"],
                    platform=platform,
                    remote_id=remote_id,
                    version=1,
                    page=page,
                    pages=pages,
                    header=header if page == 0 else None,
                    entries=tuple(entries[page * size : (page + 1) * size]),
                )
                for page in (*range(1, pages), 0)
            ]

    def pools(self) -> Iterator[PoolDefined]:
        """The pools that are taken."""
        seen: set[int] = set()
        for row in self._older.rows("playlist_pools"):
            id, platform = identifier(row["id"]), token(row["platform"])
            if id is None:
                self._report.leave("id-unusable", "pool", row["id"], row["name"])
            elif id in seen:
                self._report.leave("duplicate-id", "pool", id, row["name"])
            elif platform is None or row["external_id"] is None:
                self._report.leave("key-unusable", "pool", id, row["name"])
            else:
                seen.add(id)
                yield PoolDefined(
                    pool_id=id,
                    platform=platform,
                    pool_kind=text(row["pool_kind"]),
                    external_id=text(row["external_id"]),
                    name=text(row["name"]),
                    url=_optional(row["url"]),
                    metadata=content(row["metadata_json"]) or {},
                    playlist_ids=self._listed(id),
                )

    def _keep(self, table: str, key: str, what: str) -> int:
        """Note the rows that are taken, and for the others of the same key which one stands for them."""
        connection, count = self._older.connection, 0
        ours = f"adopt_{table}"
        known = f"SELECT id FROM {ours} WHERE platform = ? AND remote_id = ? AND id = kept"  # noqa: S608
        note = f"INSERT OR IGNORE INTO {ours} (id, kept, platform, remote_id) VALUES (?, ?, ?, ?)"  # noqa: S608
        with self._older.writing():
            for row in self._older.rows(table):
                id, platform, remote_id = identifier(row["id"]), token(row["platform"]), text(row[key])
                if id is None:
                    self._report.leave("id-unusable", what, row["id"], row["name"])
                    continue
                if platform is None or not remote_id:
                    self._report.leave("key-unusable", what, id, row["name"])
                    continue
                first = connection.execute(known, (platform, remote_id)).fetchone()
                kept = first[0] if first else id
                if connection.execute(note, (id, kept, platform, remote_id)).rowcount == 0:
                    self._report.leave("duplicate-id", what, id, row["name"])
                elif kept != id:
                    self._report.leave(f"duplicate-{what}", what, id, row["name"])
                else:
                    count += 1
        return count

    def _kept(self, table: str, ours: str) -> Iterator[tuple[Row, str, str]]:
        last = -1
        query = f"SELECT kept, platform, remote_id FROM {ours} WHERE id = ?"  # noqa: S608
        for row in self._older.rows(table):
            id = identifier(row["id"])
            found = None if id is None else self._older.connection.execute(query, (id,)).fetchone()
            if id is None or found is None or found[0] != id or id == last:
                continue
            last = id
            yield {**row, "id": id}, found[1], found[2]

    def _entries(self, playlist: int) -> list[tuple[int, int]]:
        """(position, song id) in order; the positions are the older ones where each is there once."""
        position = self._older.column("playlist_songs", "position", "p")
        rows = self._older.connection.execute(
            f"SELECT {position}, p.song_id, s.kept FROM playlist_songs p "  # noqa: S608
            "LEFT JOIN adopt_songs s ON s.id = p.song_id WHERE p.playlist_id = ?",
            (playlist,),
        )
        found: dict[tuple[int | None, int], None] = {}
        for said, song, kept in rows:
            if kept is None:
                self._report.leave("dangling-entry", "playlist entry", song, f"playlist {playlist}")
            elif (entry := (identifier(said), kept)) in found and entry[0] is not None:
                self._report.notes["entries of playlists that stood there twice; taken once"] += 1
            elif entry[0] is None:
                found[(-len(found) - 1, kept)] = None
            else:
                found[entry] = None
        places = Counter(place for place, _ in found)
        ordered = sorted(
            ((place if place is not None and place >= 0 else None, song) for place, song in found),
            key=lambda entry: (entry[0] is None, entry[0] or 0),
        )
        if all(count == 1 for count in places.values()) and all(place is not None for place, _ in ordered):
            return [(place or 0, song) for place, song in ordered]
        self._report.notes["playlists whose positions were missing or there twice; numbered anew in their order"] += 1
        return [(index, song) for index, (_, song) in enumerate(ordered)]

    def _listed(self, pool: int) -> tuple[int, ...]:
        if not self._older.has("pool_playlists"):
            return ()
        listed: dict[int, None] = {}
        for said, kept in self._older.connection.execute(
            "SELECT p.playlist_id, l.kept FROM pool_playlists p LEFT JOIN adopt_playlists l ON l.id = p.playlist_id "
            "WHERE p.pool_id = ? ORDER BY p.playlist_id",
            (pool,),
        ):
            if kept is None:
                self._report.leave("dangling-pool-entry", "pool entry", said, f"pool {pool}")
            else:
                listed[kept] = None
        return tuple(listed)


def token(value: object) -> str | None:
    """A platform's name as it may stand in a subject; None where it cannot."""
    name = text(value).strip().lower()
    return name if _TOKEN.fullmatch(name) else None


def _optional(value: object) -> str | None:
    return None if value is None else text(value)
