"""What songs are called: the library finds a song by its words only, and a person's choice is remembered by its id."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from common.telemetry import get_logger
from sources.port import Found

MAX_SONGS = 200_000
"""The oldest are forgotten first."""
_WAIT = 5.0


class Words:
    """Name and first singer by source and id, in a file that all processes share. Failures cost only this memory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep(self, songs: Iterable[Found]) -> None:
        rows = [(one.source, one.remote_id, one.name, one.singers[0] if one.singers else "") for one in songs]
        if not rows:
            return
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with closing(self._open()) as database, database:
                database.execute(
                    "CREATE TABLE IF NOT EXISTS words"
                    " (source TEXT, remote_id TEXT, name TEXT, singer TEXT, UNIQUE (source, remote_id))"
                )
                database.executemany("INSERT OR REPLACE INTO words VALUES (?, ?, ?, ?)", rows)
                database.execute("DELETE FROM words WHERE rowid <= (SELECT max(rowid) FROM words) - ?", (MAX_SONGS,))
        except (sqlite3.Error, OSError) as error:
            get_logger().warning("words of found songs not kept", reason=type(error).__name__)

    def find(self, source: str, remote_id: str) -> tuple[str, tuple[str, ...]] | None:
        """Name and singers; None where they are not known."""
        try:
            with closing(self._open()) as database:
                row = database.execute(
                    "SELECT name, singer FROM words WHERE source = ? AND remote_id = ?", (source, remote_id)
                ).fetchone()
        except sqlite3.Error:
            return None
        return None if row is None else (row[0], (row[1],) if row[1] else ())

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=_WAIT)
