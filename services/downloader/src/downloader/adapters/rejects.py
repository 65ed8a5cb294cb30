"""Content that was refused before: ``downloader.db`` or a schema of PostgreSQL, shared by the copies."""

from __future__ import annotations

import threading
import time
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, literal, select

from common.contracts.status import Reason
from common.database import Database, Location, Schema, upsert
from downloader import migrations
from downloader.adapters.tables import rejected_content

_REFRESH_SECONDS = 1.0
_OVERLAP_SECONDS = 30.0

SCHEMA = Schema(
    migrations=migrations, marker=rejected_content.name, alone=False, synchronous="NORMAL", pool=2, mode=0o644
)


class RejectDatabase:
    """A small table. Which checksums it has is kept in memory, and read again every second."""

    def __init__(self, location: Location) -> None:
        """Raises ConfigurationError when the database cannot be opened, DatabaseDown when it cannot be now."""
        self.database = Database(location, SCHEMA)
        self._engine = self.database.engine
        self._lock = threading.Lock()
        self._known: set[str] = set()
        self._newest = 0.0
        self._read_again_at = 0.0

    def get(self, sha256: str) -> Reason | None:
        """Why these bytes were refused, if they were. Raises DatabaseDown."""
        with self._lock:
            self._refresh()
            if sha256 not in self._known:
                return None
        with self._engine.connect() as connection:
            row = connection.execute(
                select(rejected_content.c.code, rejected_content.c.message).where(rejected_content.c.sha256 == sha256)
            ).one_or_none()
        return Reason(code=row.code, message=row.message) if row else None

    def put(self, sha256: str, reason: Reason) -> None:
        """Remember it. Raises DatabaseDown."""
        with self._engine.begin() as connection:
            statement = upsert(connection, rejected_content).values(
                sha256=sha256, code=reason.code, message=reason.message, rejected_at=_clock(connection)
            )
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["sha256"],
                    set_={name: statement.excluded[name] for name in ("code", "message", "rejected_at")},
                )
            )
        with self._lock:
            self._known.add(sha256)

    def _refresh(self) -> None:
        """Take in what other copies refused meanwhile."""
        if time.monotonic() < self._read_again_at:
            return
        # A little overlap: the clock is one for all copies, but commits come in any order.
        query = select(rejected_content.c.sha256, rejected_content.c.rejected_at).where(
            rejected_content.c.rejected_at > self._newest - _OVERLAP_SECONDS
        )
        with self._engine.connect() as connection:
            for row in connection.execute(query):
                self._known.add(row.sha256)
                self._newest = max(self._newest, row.rejected_at)
        self._read_again_at = time.monotonic() + _REFRESH_SECONDS

    def close(self) -> None:
        self.database.close()


def _clock(connection: Connection) -> ColumnElement[Any]:
    """Seconds since the epoch: the server's where copies run on several machines."""
    if connection.dialect.name == "postgresql":
        return func.extract("epoch", func.clock_timestamp())
    return literal(time.time())
