"""Content that was refused before: ``downloader.db``, shared by the copies of this machine."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

from common.contracts.status import Reason
from common.errors import ConfigurationError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS rejected_content (
    sha256 TEXT PRIMARY KEY,
    code TEXT NOT NULL,
    message TEXT NOT NULL,
    rejected_at REAL NOT NULL
) WITHOUT ROWID
"""


class RejectDatabase:
    """A small table that is read once per song."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigurationError when the database cannot be opened."""
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=10.0, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(
                f"The downloader's database cannot be opened ({error}). STATE_DIR must be a folder on a local disk "
                "that our user may write."
            ) from None

    def get(self, sha256: str) -> Reason | None:
        """Why these bytes were refused, if they were."""
        with self._lock:
            row = self._database.execute(
                "SELECT code, message FROM rejected_content WHERE sha256 = ?", (sha256,)
            ).fetchone()
        return Reason(code=row[0], message=row[1]) if row else None

    def put(self, sha256: str, reason: Reason) -> None:
        """Remember it."""
        with self._lock:
            self._database.execute(
                "INSERT OR REPLACE INTO rejected_content VALUES (?, ?, ?, ?)",
                (sha256, reason.code, reason.message, time.time()),
            )

    def close(self) -> None:
        with self._lock:
            self._database.close()
