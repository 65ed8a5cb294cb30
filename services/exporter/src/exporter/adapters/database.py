"""The catalog database as a file: opened by one exporter at a time, written durably."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError
from sqlalchemy.pool import StaticPool

from common.audit import Finding, ours, read_value
from exporter.errors import CatalogUnusable, CatalogWriteFailed, DatabaseInUse
from exporter.service.fact_tables import SCHEMA_VERSION
from exporter.service.load import SCHEMA

_CACHE_KIB = 256 * 1024
"""Ids are hashes, so that rows arrive all over the file: most of what one transaction touches should be at hand."""
_CHECKPOINT_PAGES = 64_000
"""Fewer, larger checkpoints write each page once instead of several times."""


class DatabaseLock:
    """A lock beside the database, held as long as the process lives, however it ends."""

    def __init__(self, database: Path) -> None:
        """Raises DatabaseInUse when another process has it."""
        database.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(database.with_name(f"{database.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise DatabaseInUse(
                "Another exporter uses this catalog database. Stop it, or give this one its own STATE_DIR."
            ) from None

    def release(self) -> None:
        """Let the next one have it."""
        os.close(self._descriptor)


def open_catalog(database: Path) -> Connection:
    """A connection for the projection; transactions are begun and ended by hand.

    Raises CatalogUnusable when the file is not a database or cannot be written.
    """
    database.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        f"sqlite:///{database}",
        poolclass=StaticPool,
        isolation_level="AUTOCOMMIT",
        connect_args={"check_same_thread": False, "timeout": 30, "cached_statements": 256},
    )
    try:
        connection = engine.connect()
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            f"cache_size = -{_CACHE_KIB}",
            "temp_store = MEMORY",
            f"wal_autocheckpoint = {_CHECKPOINT_PAGES}",
            f"journal_size_limit = {256 * 1024 * 1024}",
        ):
            connection.exec_driver_sql(f"PRAGMA {pragma}")
        detach_beside(connection)
    except DBAPIError as error:
        raise CatalogUnusable(
            f"The catalog database cannot be opened ({_words(error)}). If it is damaged, run `exporter rebuild`: "
            "it is made again from the bus."
        ) from None
    return connection


def attach_beside(connection: Connection) -> None:
    """Attach an empty database as ``load``, in a file beside the catalog: fast, and worth nothing after a crash."""
    detach_beside(connection)
    connection.exec_driver_sql(f"ATTACH ? AS {SCHEMA}", (str(_beside(connection)),))
    for pragma in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE", "cache_size = -32768"):
        connection.exec_driver_sql(f"PRAGMA {SCHEMA}.{pragma}")


def detach_beside(connection: Connection) -> None:
    """Detach it, if it is there, and remove its file."""
    if any(row.name == SCHEMA for row in connection.exec_driver_sql("PRAGMA database_list")):
        connection.exec_driver_sql(f"DETACH {SCHEMA}")
    _beside(connection).unlink(missing_ok=True)


def _beside(connection: Connection) -> Path:
    return Path(f"{connection.engine.url.database}.{SCHEMA}")


@contextlib.contextmanager
def without_log(connection: Connection) -> Iterator[None]:
    """Write one large transaction into an empty database without writing it twice.

    What is new needs no copy of what was there: a crash in the middle cuts the file off at its old end. Where
    another program reads the database right now, it goes through the write-ahead log all the same.
    """
    with contextlib.suppress(OperationalError):
        connection.exec_driver_sql("PRAGMA main.journal_mode = DELETE")
    try:
        yield
    finally:
        # Where a reader is at work at this moment, the next start does it.
        with contextlib.suppress(OperationalError):
            connection.exec_driver_sql("PRAGMA main.journal_mode = WAL")


def interrupt(connection: Connection) -> None:
    """End the statement that another thread runs on this connection: it fails, and its transaction with it."""
    raw: Any = connection.connection.driver_connection
    raw.interrupt()


def newer_catalog(database: Path) -> Finding | None:
    """Whether a newer version of this program made the database: its rows may mean what we do not know."""
    # None yet, or one that cannot be read: opening it says so.
    found = read_value(database, "SELECT schema_version FROM projection_state")
    if not isinstance(found, int) or found <= SCHEMA_VERSION:
        return None
    return Finding(
        code="database-newer",
        severity="error",
        message=f"catalog.db was made by a newer exporter (schema {found}, this one knows {SCHEMA_VERSION}); run "
        "that version again, or have it put aside and made anew from the bus",
        mend=ours("rebuild", program="exporter"),
    )


def close_catalog(connection: Connection) -> None:
    """Close it; what is in the write-ahead log goes into the file."""
    connection.close()
    connection.engine.dispose()


def move_aside(database: Path) -> Path | None:
    """Put the database out of the way under a name with the time; return that, None if there was none."""
    if not database.exists():
        return None
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = database.with_name(f"{database.name}.{stamp}")
    for number in range(1, 1000):
        if not aside.exists():
            break
        aside = database.with_name(f"{database.name}.{stamp}-{number}")
    # The log goes first: beside a new database it would be taken for that one's.
    for suffix in ("-wal", "-shm", "-journal", ""):
        source = database.with_name(database.name + suffix)
        if source.exists():
            source.rename(aside.with_name(aside.name + suffix))
    return aside


@contextlib.contextmanager
def write_errors() -> Iterator[None]:
    """Turn the database's words for a full or failing disk into an error that says what to do."""
    try:
        yield
    except OperationalError as error:
        raise CatalogWriteFailed(_sentence(str(error.orig))) from None
    except DatabaseError as error:
        if "malformed" not in str(error.orig) and "not a database" not in str(error.orig):
            raise
        raise CatalogUnusable(
            f"The catalog database is damaged ({error.orig}). Run `exporter rebuild`: it is made again from the bus."
        ) from None


def _sentence(words: str) -> str:
    if "full" in words:
        return "The catalog cannot be written: the disk is full. Free some space; it goes on by itself."
    if "readonly" in words or "unable to open" in words:
        return f"The catalog cannot be written ({words}). Check the permissions of STATE_DIR and the service's user."
    if "locked" in words:
        return "The catalog is locked by another program. Close that program; it goes on by itself."
    return f"The catalog cannot be written ({words}); it is tried again."


def _words(error: DBAPIError) -> str:
    return str(error.orig)
