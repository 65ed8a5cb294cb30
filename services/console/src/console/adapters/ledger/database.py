"""Opening ``ops.db``: one owner, WAL, one writer at a time."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event, insert, select
from sqlalchemy.exc import DatabaseError, OperationalError

from common.errors import ConfigurationError
from console.adapters.ledger.tables import SCHEMA_VERSION, metadata, schema_info
from console.errors import LedgerUnwritable


class Database:
    """The console's database. Reading goes on while one thread writes."""

    def __init__(self, path: Path) -> None:
        """Open or make it. Raises ConfigurationError when another console owns it, or it is no such database."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock_file = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock_file)
            raise ConfigurationError(
                "Another console works with this database. Stop it, or give this one its own (--db, OPS_DB_PATH).",
                code="database-in-use",
            ) from None
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self.engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 15})
        event.listen(self.engine, "connect", _prepare)
        self._writing = threading.Lock()
        try:
            with _write_errors():
                metadata.create_all(self.engine)
            self._check_version()
        except LedgerUnwritable:
            self.close()
            raise
        except DatabaseError:
            self.close()
            raise ConfigurationError(
                f"{path.name} cannot be read as the console's database. Give another file (--db, OPS_DB_PATH), or "
                "move it away: running jobs and what STATUS holds are taken over from the bus.",
                code="database-unreadable",
            ) from None

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction; committed at the end of the block. Raises LedgerUnwritable."""
        with self._writing, _write_errors(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view."""
        with self.engine.connect() as connection:
            yield connection

    def close(self) -> None:
        """Close it, and let another console have it."""
        self.engine.dispose()
        os.close(self._lock_file)

    def _check_version(self) -> None:
        with self.write() as connection:
            version = connection.scalar(select(schema_info.c.version))
            if version is None:
                connection.execute(insert(schema_info).values(id=1, version=SCHEMA_VERSION))
            elif version != SCHEMA_VERSION:
                raise ConfigurationError(
                    f"ops.db has schema {version}, this console knows {SCHEMA_VERSION}. Use the version that made it.",
                    code="database-version",
                )


@contextmanager
def _write_errors() -> Iterator[None]:
    """Turn the database's words for a full or failing disk into an error that says what to do."""
    try:
        yield
    except OperationalError as error:
        words = str(error.orig)
        if "full" in words:
            sentence = "The console's database cannot be written: its disk is full. Free some space; it goes on then."
        elif "readonly" in words or "unable to open" in words:
            sentence = (
                f"The console's database cannot be written ({words}). Check the permissions of STATE_DIR and the "
                "service's user."
            )
        else:
            sentence = f"The console's database cannot be written ({words}); it is tried again."
        raise LedgerUnwritable(sentence, retry_after=10) from None


def _prepare(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    # A commit is the truth about a job before the bus hears of it: it must survive a power cut.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()
