"""Looking for songs and playlists: in an index, or slowly in the catalog itself while there is none.

The index numbers songs by the playlists that they are in, most first, and playlists by plays. Its posting lists are in
that order, so that the best of a million matches are simply the first ones. Results come in three tiers: titles that
are what was asked; titles that have all the words; the rest, where words may be of the singers or only begun.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from public_catalog.index_build import FORMAT
from public_catalog.pool import Pool
from public_catalog.words import Asked

Kind = Literal["song", "playlist"]
_CURSOR = re.compile(r"([012])\.(\d{1,18})", re.ASCII)
_WILD = re.compile(r"(?=[!%_])")
"""Before each character that LIKE would take for more than itself."""
_SCAN_SECONDS = 1.5
_SCAN_TABLES = {
    "song": ("catalog_tracks", "song_id", ("name", "singers")),
    "playlist": ("catalog_playlists", "playlist_id", ("name",)),
}


@dataclass(frozen=True)
class Hits:
    """Ids of one page of results, best first. ``after``: where the next page begins; None: there is none."""

    ids: list[int]
    after: str | None


class Search(Protocol):
    """A way to look for things."""

    ready: bool
    """Whether it finds all there is."""

    def find(self, kind: Kind, asked: Asked, *, after: str | None, limit: int) -> Hits:
        """One page of results. Raises ValueError for an ``after`` that no page gave."""

    def playlists_of(self, song_id: int, *, limit: int) -> list[int]:
        """The best known playlists that a song is in."""

    def close(self) -> None:
        """Let go of files."""


class Index:
    """The index that ``index_build`` made."""

    ready = True

    def __init__(self, path: Path, *, connections: int) -> None:
        """Raises sqlite3.Error where it cannot be used."""
        self._pool = Pool(path, size=connections)
        with self._pool.lend() as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != FORMAT:
            self._pool.close()
            raise sqlite3.DatabaseError("this index is of another version")

    def find(self, kind: Kind, asked: Asked, *, after: str | None, limit: int) -> Hits:
        """As the protocol says: a look-up for each tier, until the page is full."""
        tier, rank = _position(after)
        rows: list[tuple[int, int, int]] = []
        with self._pool.lend() as connection:
            while tier <= 2 and len(rows) <= limit:
                found = _tier(connection, kind, asked, tier, rank, limit + 1 - len(rows))
                rows += [(tier, row[0], row[1]) for row in found]
                tier, rank = tier + 1, -1
        last = rows[limit - 1] if len(rows) > limit else None
        return Hits([row[2] for row in rows[:limit]], f"{last[0]}.{last[1]}" if last else None)

    def playlists_of(self, song_id: int, *, limit: int) -> list[int]:
        """As the protocol says."""
        with self._pool.lend() as connection:
            rows = connection.execute(
                "SELECT p.playlist_id FROM song_playlists s JOIN playlists p ON p.rank = s.playlist"
                " WHERE s.song_id = ? ORDER BY s.playlist LIMIT ?",
                (song_id, limit),
            )
            return [row[0] for row in rows]

    def close(self) -> None:
        """Close its connections."""
        self._pool.close()


class Scan:
    """Reads the catalog itself, for as long as a visitor would wait; what it finds by then is what there is."""

    ready = False

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def find(self, kind: Kind, asked: Asked, *, after: str | None, limit: int) -> Hits:
        """As the protocol says, in the order of ids; a second page is not offered."""
        table, key, columns = _SCAN_TABLES[kind]
        words = asked.text.split()
        either = " OR ".join(f"{column} LIKE ? ESCAPE '!'" for column in columns)
        where = " AND ".join([f"({either})"] * len(words))
        like = [f"%{_WILD.sub('!', word)}%" for word in words for _ in columns]
        ids: list[int] = []
        with self._pool.lend(seconds=_SCAN_SECONDS) as connection, contextlib.suppress(sqlite3.OperationalError):
            for row in connection.execute(f"SELECT {key} FROM {table} WHERE {where} LIMIT ?", (*like, limit)):  # noqa: S608
                ids.append(row[0])  # one by one: what was found before the time was over counts
        return Hits(ids, None)

    def playlists_of(self, song_id: int, *, limit: int) -> list[int]:
        """None: that would mean to read them all."""
        return []

    def close(self) -> None:
        """Nothing: the connections are the catalog's."""


def _position(after: str | None) -> tuple[int, int]:
    if after is None:
        return 0, -1
    found = _CURSOR.fullmatch(after)
    if found is None:
        raise ValueError("no page of ours ends there")
    return int(found[1]), int(found[2])


def _tier(
    connection: sqlite3.Connection, kind: Kind, asked: Asked, tier: int, rank: int, limit: int
) -> Iterator[sqlite3.Row]:
    key = f"{kind}_id"
    if tier == 0:
        return connection.execute(
            f"SELECT rank, {key} FROM {kind}s WHERE title = ? AND rank > ? ORDER BY rank LIMIT ?",  # noqa: S608
            (asked.title, rank, limit),
        )
    named = f"{{name}} : ({asked.whole})"
    expression = named if tier == 1 else f"({asked.begun}) NOT ({named})"
    return connection.execute(
        f"SELECT s.rank, s.{key} FROM {kind}_words w JOIN {kind}s s ON s.rank = w.rowid"  # noqa: S608
        f" WHERE w.{kind}_words MATCH ? AND w.rowid > ? AND s.title != ? ORDER BY w.rowid LIMIT ?",
        (expression, rank, asked.title, limit),
    )
