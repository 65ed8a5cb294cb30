"""Connections to one file that never changes: opened at once, so that all of them see the same bytes for ever."""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from public_catalog.errors import Busy

_WAIT_SECONDS = 5.0
_QUERY_SECONDS = 5.0
"""A query that takes longer is given up: no page needs one, so that something is wrong with the file or the machine."""
_STEPS = 20_000
MAX_VALUE_BYTES = 4 * 1024 * 1024
"""Of one value; a file that has a larger one is not a catalog that anybody made."""


class Pool:
    """Read-only connections to ``path``, lent to one request each. The file may be moved or deleted meanwhile."""

    def __init__(self, path: Path, *, size: int) -> None:
        self._idle: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._all: list[sqlite3.Connection] = []
        try:
            for _ in range(size):
                connection = open_read_only(path)
                self._all.append(connection)
                self._idle.put(connection)
        except sqlite3.Error:
            self.close()
            raise

    @contextlib.contextmanager
    def lend(self, *, seconds: float = _QUERY_SECONDS) -> Iterator[sqlite3.Connection]:
        """A connection whose queries end within ``seconds``. Raises Busy when none comes free."""
        try:
            connection = self._idle.get(timeout=_WAIT_SECONDS)
        except queue.Empty:
            raise Busy from None
        end = time.monotonic() + seconds
        connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
        try:
            yield connection
        finally:
            self._idle.put(connection)

    def close(self) -> None:
        """Close them all; nobody may hold one."""
        for connection in self._all:
            connection.close()


def open_read_only(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, takes no locks, and runs nothing that the file's own schema asks for."""
    uri = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
        connection.row_factory = sqlite3.Row
        connection.text_factory = _text
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA schema_version")  # only now the file is really open
        connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
