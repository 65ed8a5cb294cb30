"""Follows the mirror's folder: a new snapshot is checked and indexed first, and shown only then."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from public_catalog.errors import SnapshotUnusable
from public_catalog.index_build import FORMAT
from public_catalog.search import Index
from public_catalog.shelf import Edition, Shelf
from public_catalog.snapshot import DATABASE_FILE, Found, Snapshot, look

log = logging.getLogger("public_catalog")

_RETRY_SECONDS = 30.0
"""After a failure that may have been of this machine, such as a full disk; a change is noticed at once."""


@dataclass(frozen=True)
class State:
    """What is going on, for /about. ``problem`` is a sentence about the newest files; what is shown is good."""

    shown_since: datetime | None = None
    problem: str | None = None
    problem_at: datetime | None = None
    index_problem: str | None = None


class Follower:
    """A thread that looks at the folder every ``poll_seconds``."""

    def __init__(self, shelf: Shelf, *, mirror: Path, cache: Path, poll_seconds: float, connections: int) -> None:
        self.state = State()
        self._shelf = shelf
        self._mirror = mirror
        self._cache = cache
        self._poll = poll_seconds
        self._connections = connections
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follow", daemon=True)
        self._builder: subprocess.Popen[bytes] | None = None
        self._tried: tuple[str, float] | None = None

    def start(self) -> None:
        """Begin; what is there already is shown as soon as it is checked."""
        self._thread.start()

    def stop(self) -> None:
        """End; an index that is being built is given up."""
        self._stop.set()
        builder = self._builder
        if builder is not None:
            builder.terminate()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._look()
            except Exception:  # a thread that died would leave an old catalog for ever, and say nothing
                log.exception("the mirror's folder could not be followed")
                self._problem("The mirror's folder could not be followed: an error of this program, see its log.")
            self._stop.wait(self._poll)

    def _look(self) -> None:
        try:
            found = look(self._mirror)
        except OSError as error:
            self._problem(f"The mirror's folder cannot be read: {error.strerror}.")
            return
        current = self._shelf.current
        if found is None:
            if current is not None:
                self._problem("The mirror's folder is empty.")
            return
        if current is not None and found.key == current.snapshot.key:
            self._cleared()
            if not current.search.ready and self._due(found.key):
                self._improve(current)
            return
        if self._due(found.key):
            self._take(found, current)

    def _due(self, key: str) -> bool:
        """Whether to try now: each state of the files once, and then now and again."""
        now = time.monotonic()
        if self._tried is not None and self._tried[0] == key and now - self._tried[1] < _RETRY_SECONDS:
            return False
        self._tried = (key, now)
        return True

    def _take(self, found: Found, current: Edition | None) -> None:
        try:
            snapshot = Snapshot.open(found, connections=self._connections)
        except SnapshotUnusable as error:
            self._problem(str(error))
            return
        index = None
        try:
            # Visitors who have nothing yet are not kept waiting for the index.
            if current is not None or self._path(snapshot).exists():
                index = self._index(snapshot)
            edition = Edition(snapshot, index)
        except BaseException as error:
            snapshot.close()
            if index is not None:
                index.close()
            if not isinstance(error, sqlite3.Error):
                raise
            self._problem(f"{DATABASE_FILE} is damaged ({error}).")
            return
        if self._stop.is_set():
            edition.close()
            return
        self._shelf.put(edition)
        self.state = replace(self.state, shown_since=datetime.now(UTC))
        self._cleared()
        log.info("showing snapshot %s", snapshot.manifest.snapshot_id)
        if index is None and current is None:
            self._improve(edition)
        self._sweep(snapshot)

    def _improve(self, edition: Edition) -> None:
        """Give an edition that is shown already its index; a request uses what it found when it began."""
        index = self._index(edition.snapshot)
        if index is not None:
            edition.search = index

    def _index(self, snapshot: Snapshot) -> Index | None:
        """The index of a snapshot, made if it is not there; None where that failed, which /about then says."""
        path = self._path(snapshot)
        reason = "it is damaged as soon as it is made"
        for _ in range(2):
            try:
                if not path.exists():
                    self._build(snapshot, path)
                index = Index(path, connections=self._connections)
            except subprocess.SubprocessError as error:
                reason = f"it could not be made ({error})"
                break
            except OSError as error:
                reason = f"its folder cannot be used: {error.strerror}"
                break
            except sqlite3.Error:
                with contextlib.suppress(OSError):
                    path.unlink()  # damaged: once more
                continue
            self.state = replace(self.state, index_problem=None)
            return index
        if not self._stop.is_set():
            log.warning("search is slow, for there is no index: %s", reason)
            self.state = replace(self.state, index_problem=reason)
        return None

    def _build(self, snapshot: Snapshot, path: Path) -> None:
        started = time.monotonic()
        command = [sys.executable, "-m", "public_catalog.index_build", str(snapshot.database), str(path)]
        self._builder = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if self._stop.is_set():
            self._builder.terminate()
        _, complaint = self._builder.communicate()
        status, self._builder = self._builder.returncode, None
        if status:
            last = complaint.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"status {status}"]
            raise subprocess.SubprocessError(last[0][:200])
        log.info("search index made in %.1f s", time.monotonic() - started)

    def _path(self, snapshot: Snapshot) -> Path:
        return self._cache / f"search-{FORMAT}-{snapshot.manifest.snapshot_id[7:23]}-{snapshot.key}.db"

    def _sweep(self, snapshot: Snapshot) -> None:
        """Delete the indexes of other snapshots; who still reads one has it open."""
        for path in self._cache.glob("search-*.db"):
            if path != self._path(snapshot):
                path.unlink(missing_ok=True)

    def _problem(self, sentence: str) -> None:
        if self.state.problem != sentence:
            shown = "The last good snapshot stays." if self._shelf.current else "Nothing is shown."
            log.warning("%s %s", sentence, shown)
            self.state = replace(self.state, problem=sentence, problem_at=datetime.now(UTC))

    def _cleared(self) -> None:
        if self.state.problem is not None:
            self.state = replace(self.state, problem=None, problem_at=None)
