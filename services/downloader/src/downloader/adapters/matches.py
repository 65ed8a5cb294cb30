"""Judged search results, kept in the downloader's database for a person to choose from."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import SQLAlchemyError

from common.database import Database
from common.errors import DatabaseDown, PermanentError
from common.telemetry import get_logger
from downloader.adapters.tables import song_matches, song_searches
from downloader.ports import Asked, Judged, Searched
from sources.port import Found, Licence

_KEEP_SECONDS = 180 * 86_400.0
"""A search that old is done again rather than chosen from."""
_MAX_TEXT = 200
_MAX_SINGERS = 20
"""Of one result: all that is told of a song fits one message, however it is escaped."""


class MatchDatabase:
    """The results of the last search for each song, best first. Shared by the copies of the downloader."""

    def __init__(self, database: Database) -> None:
        self._engine = database.engine

    def last(self, song_id: int, *, job_id: int) -> Searched:
        """The last search for the song, where it was done for this job. Never raises."""
        query = select(song_searches.c.asked).where(
            song_searches.c.song_id == song_id, song_searches.c.job_id == job_id
        )
        results = select(song_matches).where(song_matches.c.song_id == song_id).order_by(song_matches.c.place)
        try:
            with self._engine.connect() as connection:
                asked = [Asked(**one) for one in connection.scalar(query) or ()]
                return Searched(
                    asked=asked, found=[_found(row) for row in connection.execute(results)] if asked else ()
                )
        except (DatabaseDown, SQLAlchemyError, TypeError, KeyError) as error:  # a newer copy may keep more of it
            get_logger().warning("the last search cannot be read", song=song_id, error=type(error).__name__)
            return Searched()

    def keep(self, song_id: int, judged: Sequence[Judged], asked: Sequence[Asked], *, job_id: int) -> None:
        """In place of what was kept for this song before. Never raises: a song does not fail for it."""
        rows = [_row(song_id, place, one) for place, one in enumerate(judged)]
        search = {
            "song_id": song_id,
            "job_id": job_id,
            "asked": [asdict(one) for one in asked],
            "searched_at": time.time(),
        }
        try:
            with self._engine.begin() as connection:
                for table in (song_matches, song_searches):
                    connection.execute(delete(table).where(table.c.song_id == song_id))
                connection.execute(insert(song_searches), search)
                if rows:
                    connection.execute(insert(song_matches), rows)
        except (DatabaseDown, SQLAlchemyError, ValueError) as error:
            get_logger().warning("search results not kept", song=song_id, error=type(error).__name__)

    def searched(self, song_id: int) -> dict[str, Any] | None:
        """Which sources the last search asked, in order, and why in this one; None without any. Raises DatabaseDown."""
        query = select(song_searches).where(song_searches.c.song_id == song_id)
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else {"job_id": row.job_id, "at": row.searched_at, "asked": row.asked}

    def get(self, song_id: int) -> list[dict[str, Any]]:
        """What was found for a song, best first. Raises DatabaseDown."""
        query = select(song_matches).where(song_matches.c.song_id == song_id).order_by(song_matches.c.place)
        with self._engine.connect() as connection:
            return [
                {
                    "source": row.source,
                    "remote_id": row.remote_id,
                    "verdict": row.verdict,
                    "score": row.score,
                    "reasons": row.reasons,
                    "judged_at": row.judged_at,
                    **row.found,
                }
                for row in connection.execute(query)
            ]

    def tell(self, question: dict[str, Any]) -> dict[str, Any]:
        """What was found for ``question["song_id"]``."""
        song_id = question.get("song_id")
        if not isinstance(song_id, int) or isinstance(song_id, bool) or not 0 <= song_id < 2**63:
            raise PermanentError("Say for which song: song_id.", code="song-missing")
        return {"song_id": song_id, "items": self.get(song_id), "search": self.searched(song_id)}

    def prune(self) -> None:
        """Forget what is old. Raises DatabaseDown."""
        with self._engine.begin() as connection:
            before = time.time() - _KEEP_SECONDS
            connection.execute(delete(song_matches).where(song_matches.c.judged_at < before))
            connection.execute(delete(song_searches).where(song_searches.c.searched_at < before))


def _found(row: Any) -> Found:
    """The result as far as it was kept: enough to judge it again."""
    kept = row.found
    return Found(
        source=row.source,
        remote_id=row.remote_id,
        name=kept["name"],
        singers=tuple(kept["singers"]),
        licence=Licence(name=kept["licence"]) if kept["licence"] else None,
        **{name: kept[name] for name in ("album", "duration_seconds", "ext", "size", "bitrate", "lossless")},
    )


def _row(song_id: int, place: int, judged: Judged) -> dict[str, Any]:
    found = judged.found
    seconds = found.duration_seconds
    return {
        "song_id": song_id,
        "place": place,
        "source": found.source,
        "remote_id": found.remote_id,
        "verdict": judged.verdict,
        "score": judged.score,
        "reasons": [{"code": reason.code, "message": reason.message} for reason in judged.reasons],
        "found": {
            "name": found.name[:_MAX_TEXT],
            "singers": [singer[:_MAX_TEXT] for singer in found.singers[:_MAX_SINGERS]],
            "album": found.album[:_MAX_TEXT] if found.album else None,
            "duration_seconds": seconds if seconds is not None and math.isfinite(seconds) else None,
            "ext": found.ext,
            "size": found.size,
            "bitrate": found.bitrate,
            "lossless": found.lossless,
            "licence": found.licence.name[:_MAX_TEXT] if found.licence else None,
        },
        "judged_at": time.time(),
    }
