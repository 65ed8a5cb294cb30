"""Who may use a database: a lock beside an SQLite file, a session that holds a lock of PostgreSQL."""

from __future__ import annotations

import fcntl
import hashlib
import os
import select
import threading
import time
from pathlib import Path

from sqlalchemy import Connection, Engine, text

from common.errors import ConfigurationError, DatabaseDown

_TURN_SECONDS = 60.0
"""A copy that starts at the same time brings the database up to date within that."""
_LEAVING_SECONDS = 3.0
"""After a kill PostgreSQL may take a moment to see that the process before this one is gone."""


class FileLock:
    """A lock that the kernel lets go of when the process ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def hold_file(path: Path, *, service: str, alone: bool, mode: int) -> FileLock:
    """Lock the file ``<path>.lock``; a copy of a shared database waits for its turn.

    Raises ConfigurationError when another process owns it, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode))
    except OSError as error:
        raise ConfigurationError(
            f"The folder of {path.name} (STATE_DIR) cannot be written ({error.strerror}). Allow our user to write it."
        ) from None
    deadline = time.monotonic() + (0 if alone else _TURN_SECONDS)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise in_use(service, server=False) from None
            time.sleep(0.05)
        else:
            return FileLock(descriptor)


def in_use(service: str, *, server: bool) -> ConfigurationError:
    """Another process has it."""
    own = "its own database (DATABASE_URL)" if server else "its own (STATE_DIR; the console's: --db, OPS_DB_PATH)"
    return ConfigurationError(
        f"Another {service} already works with this database. Stop it, or give this one {own}.",
        code="database-in-use",
    )


def lock_number(service: str, purpose: str) -> int:
    """The number of an advisory lock; they are counted per database."""
    return int.from_bytes(hashlib.sha256(f"music-cloud {service} {purpose}".encode()).digest()[:8], "big", signed=True)


class OwnerSession:
    """A session of its own that holds the service's lock; PostgreSQL frees it when the process is gone.

    When the server was restarted the lock is taken again before anything else is done; where another process
    has it by then, this one does nothing more.
    """

    def __init__(self, engine: Engine, *, service: str) -> None:
        """``engine``: for this session alone. Raises ConfigurationError when another process owns the database,
        DatabaseDown when the server does not answer.
        """
        self._engine = engine
        self._service = service
        self._guard = threading.Lock()
        self._session: Connection | None = None
        deadline = time.monotonic() + _LEAVING_SECONDS
        while not self._take():
            if time.monotonic() >= deadline:
                self.close()
                raise in_use(service, server=True)
            time.sleep(0.1)

    def on_checkout(self, *_: object) -> None:
        """Before a connection is used: the lock is ours. Raises DatabaseDown."""
        with self._guard:
            if self._session is not None and _lives(self._session):
                return
            self._drop()
            if not self._take():
                raise DatabaseDown(in_use(self._service, server=True).message, code="database-in-use")

    def close(self) -> None:
        """Give the lock back."""
        with self._guard:
            self._drop()
            self._engine.dispose()

    def _take(self) -> bool:
        session = self._engine.connect()
        try:
            taken = session.scalar(
                text("SELECT pg_try_advisory_lock(:number)"), {"number": lock_number(self._service, "owner")}
            )
            session.commit()  # the lock is the session's, and stays
        except BaseException:
            session.close()
            raise
        if taken:
            self._session = session
        else:
            session.close()
        return bool(taken)

    def _drop(self) -> None:
        if self._session is not None:
            self._session.invalidate()
            self._session.close()
            self._session = None


def _lives(session: Connection) -> bool:
    """Whether a session goes on. An idle one has nothing to read; if there is something, it may be its end."""
    raw = session.connection.dbapi_connection
    if raw is None or raw.closed:
        return False
    poll = select.poll()
    poll.register(raw.fileno(), select.POLLIN)
    if not poll.poll(0):
        return True
    try:
        session.execute(text("SELECT 1"))
        session.commit()
    except DatabaseDown:
        return False
    return True
