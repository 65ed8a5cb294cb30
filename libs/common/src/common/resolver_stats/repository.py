"""The resolver's statistics in their database, shared by all processes that resolve."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Final, TypeVar

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from common.database import Database, Location, Schema, remove_file, upsert
from common.database_locks import hold_file
from common.errors import ConfigurationError, DatabaseDown, MusicCloudError
from common.resolver_stats import migrations
from common.resolver_stats.ranking import Counts, Ranking, explore, faded, rank, unranked
from common.resolver_stats.tables import resolver_source_recent as recent
from common.resolver_stats.tables import resolver_source_stats as stats
from common.telemetry import get_logger

SERVICE: Final = "resolver_stats"
"""Also the name of its schema in PostgreSQL."""
STATISTICS_FILE: Final = "resolver_stats.db"
WARMUP_ATTEMPTS: Final = 1000
_DAY = 86_400.0
_REST_SECONDS = 10.0
"""After a failure nothing is asked for so long: a server that is away would cost each song its time-out."""

SCHEMA = Schema(migrations=migrations, marker=stats.name, alone=False, synchronous="NORMAL", pool=1, mode=0o644)

T = TypeVar("T")


class ResolverStatsRepository:
    """Counts tries of candidate sources for each origin, and orders sources by them. Thread-safe.

    Nothing that happens to the database reaches the caller: what cannot be counted is not counted, what cannot be
    ordered keeps its configured order, and the log says so once. A damaged file is put aside and a new one begun.
    """

    def __init__(
        self,
        place: str | Path | Location,
        *,
        half_life_days: float = 0.0,
        exploration: float = 0.0,
        random: Random | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open or make it. ``place``: the SQLite file, or where else the tables lie.

        ``half_life_days``: after so many days a result counts half; 0: all count the same. ``exploration``: in this
        share of the orders (0 to 1) a source that is not the best comes first, chosen by ``random``. ``clock``:
        seconds since the epoch. Raises ConfigurationError for numbers that cannot be meant, and for nothing else.
        """
        if not 0 <= exploration <= 1 or not 0 <= half_life_days < float("inf"):
            raise ConfigurationError(
                "The resolver's half-life must be 0 days or more, and its exploration between 0 and 1.",
                code="resolver-statistics",
            )
        self._location = place if isinstance(place, Location) else Location(service=SERVICE, path=Path(place))
        self._half_life = half_life_days * _DAY
        self._exploration = exploration
        self._random = random or Random()  # noqa: S311 - chance, no secret
        self._clock = clock
        self._guard = threading.Lock()
        self._database: Database | None = None
        self._rest_until = 0.0
        self._said = False
        self.problem: str | None = None
        """Why it cannot be used now, in one sentence."""
        self._attempt(lambda connection: None)

    def record_fallback_result(self, origin: str, candidate: str, *, succeeded: bool) -> None:
        """Count one try: whether ``candidate`` had a song of ``origin``. Never raises for the database."""
        self._attempt(lambda connection: self._count(connection, origin, candidate, succeeded=succeeded))

    def record_verification(self, origin: str, candidate: str, *, passed: bool) -> None:
        """Count what became of a success: its bytes were the song, or were refused. Never raises for the database.

        The exact counters stay as they are; of the fading sums a refused success is taken away again.
        """
        self._attempt(lambda connection: self._verify(connection, origin, candidate, passed=passed))

    def rank_fallback_sources(
        self, origin: str, sources: Sequence[str], warmup_attempts: int = WARMUP_ATTEMPTS
    ) -> list[str]:
        """``sources`` in the order to ask them. Never raises for the database."""
        return self.ranking(origin, sources, warmup_attempts).sources

    def ranking(self, origin: str, sources: Sequence[str], warmup_attempts: int = WARMUP_ATTEMPTS) -> Ranking:
        """The order to ask ``sources`` in, with its reasons, to be kept beside what is resolved by it."""
        ordered = self.explain(origin, sources, warmup_attempts)
        with self._guard:
            return explore(ordered, share=self._exploration, random=self._random)

    def explain(self, origin: str, sources: Sequence[str], warmup_attempts: int = WARMUP_ATTEMPTS) -> Ranking:
        """The order as the numbers make it, without chance, and why each source stands where it does."""
        read = self._attempt(lambda connection: self._read(connection, origin))
        if read is None:
            why = f"In the configured order: {self.problem or 'the statistics cannot be read.'}"
            return unranked(origin, list(dict.fromkeys(sources)), why=why)
        counts = read.get(origin, {})
        total = sum(one.attempts for one in counts.values())
        fades = self._half_life > 0
        return rank(origin, sources, counts, total=total, warmup_attempts=warmup_attempts, fades=fades)

    def pairs(self) -> dict[str, dict[str, Counts]]:
        """What was counted, by origin and candidate, of sources in use or not; empty where it cannot be read."""
        return self._attempt(lambda connection: self._read(connection)) or {}

    def close(self) -> None:
        """Close the database."""
        with self._guard:
            if self._database is not None:
                self._database.close()
                self._database = None

    def _count(self, connection: Connection, origin: str, candidate: str, *, succeeded: bool) -> None:
        now = self._clock()
        at = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
        success = int(succeeded)
        statement = upsert(connection, stats).values(
            origin_source=origin,
            candidate_source=candidate,
            attempt_count=1,
            resolve_success_count=success,
            last_attempt_at=at,
            last_success_at=at if succeeded else None,
            created_at=at,
            updated_at=at,
        )
        changes = {
            "attempt_count": stats.c.attempt_count + 1,
            "resolve_success_count": stats.c.resolve_success_count + success,
            "last_attempt_at": at,
            "updated_at": at,
        }
        if succeeded:
            changes["last_success_at"] = at
        # The row is ours until the transaction ends, and with it the pair's row of the other table.
        connection.execute(
            statement.on_conflict_do_update(index_elements=["origin_source", "candidate_source"], set_=changes)
        )
        self._add_recent(connection, origin, candidate, now=now, attempts=1.0, successes=float(success))

    def _verify(self, connection: Connection, origin: str, candidate: str, *, passed: bool) -> None:
        mine = (stats.c.origin_source == origin) & (stats.c.candidate_source == candidate)
        # Written first: it makes the others wait, as in _count.
        touched = connection.execute(update(stats).where(mine).values(updated_at=stats.c.updated_at))
        if touched.rowcount:  # else the try itself was not counted
            successes = 0.0 if passed else -1.0
            self._add_recent(
                connection, origin, candidate, now=self._clock(), attempts=0.0, successes=successes, passed=passed
            )

    def _add_recent(
        self,
        connection: Connection,
        origin: str,
        candidate: str,
        *,
        now: float,
        attempts: float,
        successes: float,
        passed: bool | None = None,
    ) -> None:
        mine = (recent.c.origin_source == origin) & (recent.c.candidate_source == candidate)
        row = connection.execute(select(recent).where(mine)).one_or_none()
        if row is not None:
            seconds = now - row.as_of
            attempts += faded(row.attempts, seconds=seconds, half_life=self._half_life)
            successes += faded(row.successes, seconds=seconds, half_life=self._half_life)
        values = {
            "attempts": attempts,
            "successes": min(max(successes, 0.0), attempts),
            "as_of": now,
            "verified_count": (row.verified_count if row else 0) + int(passed is True),
            "refuted_count": (row.refuted_count if row else 0) + int(passed is False),
        }
        if row is None:
            connection.execute(insert(recent).values(origin_source=origin, candidate_source=candidate, **values))
        else:
            connection.execute(update(recent).where(mine).values(**values))

    def _read(self, connection: Connection, origin: str | None = None) -> dict[str, dict[str, Counts]]:
        """By origin and candidate; of one ``origin`` or of all."""
        both = stats.outerjoin(
            recent,
            (recent.c.origin_source == stats.c.origin_source) & (recent.c.candidate_source == stats.c.candidate_source),
        )
        query = (
            select(stats, recent.c.attempts, recent.c.successes, recent.c.as_of)
            .add_columns(recent.c.verified_count, recent.c.refuted_count)
            .select_from(both)
        )
        if origin is not None:
            query = query.where(stats.c.origin_source == origin)
        now = self._clock()
        pairs: dict[str, dict[str, Counts]] = {}
        for row in connection.execute(query):
            seconds = now - row.as_of if row.as_of is not None else 0.0
            pairs.setdefault(row.origin_source, {})[row.candidate_source] = Counts(
                attempts=int(row.attempt_count),
                successes=int(row.resolve_success_count),
                recent_attempts=faded(row.attempts or 0.0, seconds=seconds, half_life=self._half_life),
                recent_successes=faded(row.successes or 0.0, seconds=seconds, half_life=self._half_life),
                verified=row.verified_count or 0,
                refuted=row.refuted_count or 0,
                last_attempt_at=row.last_attempt_at,
                last_success_at=row.last_success_at,
            )
        return pairs

    def _attempt(self, act: Callable[[Connection], T]) -> T | None:
        """What ``act`` returns, in a transaction of its own; None when the database cannot be used."""
        if time.monotonic() < self._rest_until:
            return None
        try:
            database = self._database or self._open()
            with database.engine.begin() as connection:
                result = act(connection)
        except (MusicCloudError, SQLAlchemyError, OSError) as error:
            self._note(error)
            return None
        if self._said:
            get_logger().info("the resolver's statistics are back")
        self._said, self.problem = False, None
        return result

    def _open(self) -> Database:
        with self._guard:
            if self._database is None:
                self._database = _open_sound(self._location)
            return self._database

    def _note(self, error: Exception) -> None:
        """Say it once, and rest a while; a file that turned out to be damaged is opened anew, which puts it aside."""
        self.problem = error.message if isinstance(error, MusicCloudError) else _plain(error)
        self._rest_until = time.monotonic() + _REST_SECONDS
        if not self._said:
            get_logger().error("the resolver's statistics cannot be used", reason=self.problem)
        self._said = True
        if not isinstance(error, DatabaseDown):
            self.close()


def _open_sound(location: Location) -> Database:
    """The database, or a new one in place of a damaged file. Raises the errors of :class:`Database`."""
    if location.url is None and location.path.exists():
        _put_damaged_aside(location.path)
    return Database(location, SCHEMA)


def _put_damaged_aside(path: Path) -> None:
    """Rename a file that is no sound database. Of several processes that find it one does so, and the rest see it."""
    lock = hold_file(path, service=SERVICE, alone=False, mode=SCHEMA.mode)
    try:
        if _is_sound(path):
            return
        aside = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
        path.replace(aside)
        remove_file(path)  # what belongs to the old one and lies beside it
        get_logger().error(
            "the resolver's statistics were damaged, and begin anew; a backup has the old ones",
            put_aside=aside.name,
        )
    finally:
        lock.release()


def _is_sound(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(path, timeout=_REST_SECONDS)) as connection:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except sqlite3.OperationalError:
        return True  # it cannot be opened now: nothing is known of what it holds
    except sqlite3.DatabaseError:
        return False


def _plain(error: Exception) -> str:
    """In one line, without the statement."""
    words = getattr(error, "orig", None) or getattr(error, "strerror", None) or type(error).__name__
    return f"The resolver's statistics cannot be used ({' '.join(str(words).split())[:200]})."
