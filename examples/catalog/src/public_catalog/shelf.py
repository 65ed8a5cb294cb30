"""The edition that is shown: requests keep the one they began with, and the last to leave an old one closes it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from public_catalog.search import Scan, Search
from public_catalog.snapshot import Snapshot
from public_catalog.toplists import Toplist, toplists


class Edition:
    """A snapshot with all that its pages need."""

    def __init__(self, snapshot: Snapshot, search: Search | None = None) -> None:
        self.snapshot = snapshot
        self.search: Search = search or Scan(snapshot.pool)
        with snapshot.pool.lend(seconds=60) as connection:
            self.toplists: list[Toplist] = toplists(connection)

    def close(self) -> None:
        """Let the files go; nobody may be reading."""
        self.search.close()
        self.snapshot.close()


class Shelf:
    """Holds the current edition and counts who reads which."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: Edition | None = None
        self._readers: dict[Edition, int] = {}

    @property
    def current(self) -> Edition | None:
        """What new requests get, to look at only: it may be closed at any time."""
        return self._current

    @contextlib.contextmanager
    def read(self) -> Iterator[Edition | None]:
        """The current edition, which stays open and the same until the end of the block; None before the first."""
        with self._lock:
            edition = self._current
            if edition is not None:
                self._readers[edition] += 1
        try:
            yield edition
        finally:
            if edition is not None:
                with self._lock:
                    self._readers[edition] -= 1
                self._close_idle(edition)

    def put(self, edition: Edition | None) -> None:
        """Show ``edition`` from now on; the one before is closed when its last reader has left."""
        with self._lock:
            before, self._current = self._current, edition
            if edition is not None:
                self._readers[edition] = 0
        if before is not None:
            self._close_idle(before)

    def _close_idle(self, edition: Edition) -> None:
        with self._lock:
            if edition is self._current or self._readers.get(edition) != 0:
                return
            del self._readers[edition]
        edition.close()
