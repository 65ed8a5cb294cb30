"""``init-db``: an empty catalog database, and the resolver's statistics beside it."""

from __future__ import annotations

import argparse
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from sqlalchemy import create_engine, insert, select
from sqlalchemy.exc import DBAPIError

from common.catalog import ids
from common.catalog.tables import metadata, storage_backends
from common.contracts.names import LIBRARY_BACKEND, BackendKind
from exporter.errors import CatalogUnusable

STATISTICS_FILE = "resolver_stats.db"
_STATISTICS = """
CREATE TABLE IF NOT EXISTS resolver_source_stats (
    origin_source TEXT NOT NULL,
    candidate_source TEXT NOT NULL,
    attempt_count INTEGER NOT NULL DEFAULT 0,
    resolve_success_count INTEGER NOT NULL DEFAULT 0,
    last_attempt_at TEXT,
    last_success_at TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (origin_source, candidate_source)
);
CREATE INDEX IF NOT EXISTS ix_resolver_source_stats_origin ON resolver_source_stats (origin_source);
"""


def init_db(database: Path, library_root: Path) -> None:
    """Make both databases where they are missing; tables that are there are left as they are.

    Raises CatalogUnusable when a file cannot be used.
    """
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        library_root.mkdir(parents=True, exist_ok=True)
        engine = create_engine(f"sqlite:///{database}")
        with engine.begin() as connection:
            metadata.create_all(connection)
            known = connection.execute(
                select(storage_backends.c.id).where(storage_backends.c.name == LIBRARY_BACKEND)
            ).first()
            if known is None:
                connection.execute(
                    insert(storage_backends).values(
                        id=ids.backend_id(LIBRARY_BACKEND),
                        name=LIBRARY_BACKEND,
                        backend_type=BackendKind.FILESYSTEM.value,
                        base_path=str(library_root.absolute()),
                    )
                )
        engine.dispose()
        with closing(sqlite3.connect(database.with_name(STATISTICS_FILE))) as statistics:
            statistics.executescript(_STATISTICS)
    except (DBAPIError, sqlite3.Error) as error:
        words = str(error.orig) if isinstance(error, DBAPIError) else str(error)
        raise CatalogUnusable(f"The database cannot be made ({words}). Give another path with --db.") from None
    except OSError as error:
        raise CatalogUnusable(
            f"The folder cannot be used ({error.strerror}). Check the paths given with --db and --library-root."
        ) from None


def main(arguments: list[str] | None = None) -> int:
    """The command. Exit status 0, or 1 with one sentence."""
    parser = argparse.ArgumentParser(prog="init-db", description="Make an empty catalog database.")
    parser.add_argument("--db", type=Path, required=True, help="the database file to make")
    parser.add_argument("--library-root", type=Path, required=True, help="folder of the library; made if missing")
    given = parser.parse_args(arguments)
    try:
        init_db(given.db, given.library_root)
    except CatalogUnusable as error:
        print(f"init-db: {error.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
