"""Opening ``collector.db``: one writer, one process, nothing in it that a replay does not give back."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, insert, select
from sqlalchemy.exc import DatabaseError

from common.errors import ConfigurationError
from common.telemetry import get_logger

from .tables import SCHEMA_VERSION, meta, metadata

FILE_NAME = "collector.db"


class Database:
    """The file, locked for this process while it is open."""

    def __init__(self, *, engine: Engine, lock: int) -> None:
        self.engine = engine
        self._lock = lock

    @classmethod
    def open(cls, state: Path) -> Database:
        """Open or make it below ``state``; a file that cannot be used is made anew.

        Raises :class:`ConfigurationError` when another process has it, or the folder is not writable.
        """
        try:
            state.mkdir(parents=True, exist_ok=True)
            lock = os.open(state / f"{FILE_NAME}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ConfigurationError(
                f"The folder STATE_DIR cannot be written ({error.strerror}). Allow our user to write it."
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise ConfigurationError(
                "Another collector already runs on this STATE_DIR. Stop it, or give this one its own."
            ) from None
        path = state / FILE_NAME
        engine = _engine(path)
        try:
            usable = _prepare(engine)
        except DatabaseError:
            usable = False
        if not usable:
            get_logger().warning("the record is made anew from the bus")
            engine.dispose()
            for suffix in ("", "-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
            engine = _engine(path)
            _prepare(engine)
        return cls(engine=engine, lock=lock)

    def close(self) -> None:
        self.engine.dispose()
        os.close(self._lock)


def _engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False, "timeout": 30})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        # NORMAL: a power cut may lose the last commits; they are read from the bus again.
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "cache_size=-65536", "temp_store=MEMORY"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


def _prepare(engine: Engine) -> bool:
    """Make the tables; False when the file is of another version."""
    metadata.create_all(engine)
    with engine.begin() as connection:
        version = connection.execute(select(meta.c.value).where(meta.c.key == "schema")).scalar()
        if version is None:
            connection.execute(insert(meta).values(key="schema", value=SCHEMA_VERSION))
        return version in (None, SCHEMA_VERSION)
