"""SQLite files: looking into them without touching them."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any


def read_value(database: Path, query: str) -> Any:
    """The first value that ``query`` gives; None where there is none, or nothing that can be read.

    Not even the files are made that SQLite puts beside a database that it opens.
    """
    hot = any(database.with_name(f"{database.name}{suffix}").exists() for suffix in ("-wal", "-journal"))
    uri = f"{database.absolute().as_uri()}?mode=ro{'' if hot else '&immutable=1'}"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            found = connection.execute(query).fetchone()
    except sqlite3.Error:
        return None
    return None if found is None else found[0]
