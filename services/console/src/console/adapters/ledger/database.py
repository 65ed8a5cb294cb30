"""Opening the ledger, ``ops.db`` or a schema of PostgreSQL: one owner, one writer at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from common import database
from common.errors import DatabaseDown, DatabaseUnreadable
from console import migrations
from console.adapters.ledger.tables import job_runs
from console.errors import LedgerUnwritable

SCHEMA = database.Schema(
    migrations=migrations,
    marker=job_runs.name,
    alone=True,
    # A commit is the truth about a job before the bus hears of it: it must survive a power cut.
    synchronous="FULL",
    pool=8,
    mode=0o600,
)


class Database:
    """The console's database. Reading goes on while one thread writes."""

    def __init__(self, location: database.Location) -> None:
        """Open or make it.

        Raises ConfigurationError when another console owns it, or it is no such database, or a newer one;
        DatabaseDown when it cannot be used now.
        """
        try:
            self.opened = database.Database(location, SCHEMA)
        except DatabaseUnreadable:
            raise DatabaseUnreadable(
                f"{location.path.name} cannot be read as the console's database. Give another file (--db, "
                "OPS_DB_PATH), or move it away: running jobs and what STATUS holds are taken over from the bus."
            ) from None
        self.engine = self.opened.engine
        self._writing = threading.Lock()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction; committed at the end of the block. Raises LedgerUnwritable."""
        with self._writing, _errors(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection to read with. Raises LedgerUnwritable when there is none."""
        with _errors(), self.engine.connect() as connection:
            yield connection

    def close(self) -> None:
        """Close it, and let another console have it."""
        self.opened.close()


@contextmanager
def _errors() -> Iterator[None]:
    """A database that cannot be used now, as an answer to a request."""
    try:
        yield
    except DatabaseDown as error:
        sentence = error.message.replace("The database", "The console's database", 1)
        raise LedgerUnwritable(sentence, retry_after=round(error.retry_after)) from None
