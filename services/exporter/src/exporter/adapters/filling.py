"""Making the tables of a snapshot whole, in a new file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from exporter.service.read_model import fill
from exporter.service.source import Source, inspect

WAIT_FOR_LOCK = 5.0
"""Seconds that a source may be locked by a writer."""
_CACHE_KIB = 64 * 1024
_SOURCE_CACHE_KIB = 32 * 1024


@contextmanager
def filled(database: Path, source_uri: str) -> Iterator[tuple[sqlite3.Connection, Source]]:
    """A new database with the tables of a snapshot, filled from the source, which stays attached.

    The file is not synced. Raises SnapshotError when the source is not a catalog.
    """
    connection = sqlite3.connect(f"file:{quote(str(database))}", uri=True, isolation_level=None, timeout=WAIT_FOR_LOCK)
    with closing(connection):
        for pragma in (
            # The file counts only when it is complete, so a journal would protect nothing.
            "main.journal_mode = OFF",
            "main.synchronous = OFF",
            f"main.cache_size = -{_CACHE_KIB}",
            "main.page_size = 4096",
        ):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("ATTACH ? AS source", (source_uri,))
        connection.execute(f"PRAGMA source.cache_size = -{_SOURCE_CACHE_KIB}")
        connection.execute("BEGIN")
        held = inspect(connection)
        fill(connection, held)
        connection.execute("COMMIT")
        yield connection, held


def count_covers(connection: sqlite3.Connection) -> int:
    """Playlists with a cover."""
    query = "SELECT count(*) FROM catalog_playlists WHERE cover_url IS NOT NULL AND cover_url <> ''"
    return int(connection.execute(query).fetchone()[0])
