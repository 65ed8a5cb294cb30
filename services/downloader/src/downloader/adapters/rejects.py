"""Content that was refused before: ``downloader.db``, shared by the copies of this machine."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

from common.contracts.status import Reason
from common.errors import ConfigurationError

_REFRESH_SECONDS = 1.0
_OVERLAP_SECONDS = 30.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS rejected_content (
    sha256 TEXT PRIMARY KEY,
    code TEXT NOT NULL,
    message TEXT NOT NULL,
    rejected_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS rejected_content_time ON rejected_content (rejected_at);
"""


class RejectDatabase:
    """A small table. Which checksums it has is kept in memory, and read again every second."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigurationError when the database cannot be opened."""
        self._lock = threading.Lock()
        self._known: set[str] = set()
        self._newest = 0.0
        self._read_again_at = 0.0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=10.0, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(
                f"The downloader's database cannot be opened ({error}). STATE_DIR must be a folder on a local disk "
                "that our user may write."
            ) from None

    def get(self, sha256: str) -> Reason | None:
        """Why these bytes were refused, if they were."""
        with self._lock:
            self._refresh()
            if sha256 not in self._known:
                return None
            row = self._database.execute(
                "SELECT code, message FROM rejected_content WHERE sha256 = ?", (sha256,)
            ).fetchone()
        return Reason(code=row[0], message=row[1]) if row else None

    def put(self, sha256: str, reason: Reason) -> None:
        """Remember it."""
        with self._lock:
            self._known.add(sha256)
            self._database.execute(
                "INSERT OR REPLACE INTO rejected_content VALUES (?, ?, ?, ?)",
                (sha256, reason.code, reason.message, time.time()),
            )

    def _refresh(self) -> None:
        """Take in what other copies refused meanwhile."""
        if time.monotonic() < self._read_again_at:
            return
        self._read_again_at = time.monotonic() + _REFRESH_SECONDS
        # A little overlap: clocks of copies on one machine agree, but commits come in any order.
        rows = self._database.execute(
            "SELECT sha256, rejected_at FROM rejected_content WHERE rejected_at > ?", (self._newest - _OVERLAP_SECONDS,)
        ).fetchall()
        for sha256, rejected_at in rows:
            self._known.add(sha256)
            self._newest = max(self._newest, rejected_at)

    def close(self) -> None:
        with self._lock:
            self._database.close()
