"""Values that a snapshot may hold: NULL, integers, and text in UTF-8 without NUL characters.

Kinds are made right by casts as rows are selected. Broken text is rare, and looking at every value by
itself is dear: tables are looked through in large pieces, and mended only where that finds something.
"""

from __future__ import annotations

import sqlite3
from functools import cache
from urllib.parse import quote_from_bytes

from mirror.format.schema import TABLES, TableSpec

_ROWS_AT_ONCE = 1000


def register(connection: sqlite3.Connection) -> None:
    """Make the functions known to this connection."""
    connection.create_function("clean_text", 1, clean_text, deterministic=True)
    connection.create_function("percent_encoded", 1, percent_encoded, deterministic=True)


def clean_text(data: bytes | None) -> str | None:
    """What a player can show of text that may be none."""
    return None if data is None else data.decode("utf-8", "replace").replace("\0", "")


def percent_encoded(locator: bytes | None) -> str | None:
    """The locator as the path of a URL."""
    text = clean_text(locator)
    return None if text is None else "".join(map(_encoded_bytes().__getitem__, text.encode()))


def purify(connection: sqlite3.Connection, table: str, *, schema: str = "main") -> None:
    """Mend the text in a filled table (or one with the columns of ``table``) where it is broken."""
    spec = TABLES[table]
    name = f'"{schema}"."{table}"'
    columns = [column for column, kind in zip(spec.columns, spec.kinds, strict=True) if kind == "text"]
    if columns and _broken(connection, name, columns):
        mended = ", ".join(f'"{column}" = clean_text(CAST("{column}" AS BLOB))' for column in columns)
        connection.execute(f"UPDATE {name} SET {mended}")  # noqa: S608


def cast(spec: TableSpec, column: str, expression: str) -> str:
    """The expression as a value of the column's kind."""
    return f"CAST({expression} AS {'INTEGER' if spec.kinds[spec.columns.index(column)] == 'integer' else 'TEXT'})"


def _broken(connection: sqlite3.Connection, name: str, columns: list[str]) -> bool:
    # A separator keeps the end of one text and the beginning of the next from making a character together.
    text = "||'|'||".join(f"coalesce(\"{column}\", '')" for column in columns)
    piece = (
        "SELECT CAST(group_concat(line, '|') AS BLOB), max(place) FROM"  # noqa: S608
        f" (SELECT {text} AS line, rowid AS place FROM {name} WHERE rowid > ? ORDER BY rowid LIMIT {_ROWS_AT_ONCE})"
    )
    place: int | None = -(2**63)
    while place is not None:
        data, place = connection.execute(piece, (place,)).fetchone()
        if data is None:
            break
        if b"\0" in data:
            return True
        try:
            data.decode()
        except UnicodeDecodeError:
            return True
    return False


@cache
def _encoded_bytes() -> list[str]:
    return [quote_from_bytes(bytes([number]), safe="/") for number in range(256)]
