"""A second process that reads half of a large file.

Threads would not do: reading rows holds Python's lock, and SQLite's own threads wait for one another at its
memory. What the helper cannot do (it may not start, or find another file) is done here: the result is the same.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgpack

from mirror.format.chunks import Chunk, Span, TableDigest, combine, read_chunks
from mirror.format.schema import TABLES, Key, TableSpec

PARTS = 16
"""Pieces of each table, of which the helper reads every other one: keys are seldom spread evenly."""


def read_by_two(path: Path, connection: sqlite3.Connection) -> dict[str, TableDigest]:
    """The digests of all tables. Raises ContentError."""
    spans = {name: list(_spans(connection, table)) for name, table in TABLES.items()}
    shares: tuple[list[Any], list[Any]] = ([], [])
    for order, (name, pieces) in enumerate(spans.items()):
        for number, span in enumerate(pieces):
            shares[(order + number) % 2].append((name, *span))
    with _started(path, shares[1]) as helper:
        found = {(name, since): _read(connection, name, since, before) for name, since, before in shares[0]}
        answers = _answers(helper, len(shares[1]))
    for number, (name, since, before) in enumerate(shares[1]):
        found[name, since] = answers[number] if answers else _read(connection, name, since, before)
    return {
        name: combine(chunk for since, _ in pieces for chunk in found[name, since]) for name, pieces in spans.items()
    }


def main() -> None:
    """The helper: spans on standard input, chunks on standard output."""
    path, identity, share = msgpack.unpackb(sys.stdin.buffer.read())
    if list(_identity(Path(path))) != identity:
        raise SystemExit("another file is there now")
    with closing(sqlite3.connect(Path(path).as_uri() + "?mode=ro", uri=True)) as connection:
        answers = [
            [(chunk.first, chunk.rows, chunk.size, chunk.digest) for chunk in _read(connection, name, since, before)]
            for name, since, before in share
        ]
    sys.stdout.buffer.write(msgpack.packb(answers))


def _read(connection: sqlite3.Connection, name: str, since: Key | None, before: Key | None) -> list[Chunk]:
    return list(read_chunks(connection, TABLES[name], spans=[(since, before)]))


def _identity(path: Path) -> tuple[int, int, int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _spans(connection: sqlite3.Connection, table: TableSpec) -> Iterator[Span]:
    """Ranges of keys that begin with a boundary, so that they can be cut into chunks alone."""
    group, name = table.group, table.name
    lowest = highest = None
    # A table that is not as it must be is read in one piece, and refused there.
    with contextlib.suppress(sqlite3.OperationalError):
        if connection.execute(f"SELECT 1 FROM {name} WHERE {group} IS NULL").fetchone() is None:  # noqa: S608
            lowest, highest = connection.execute(f"SELECT min({group}), max({group}) FROM {name}").fetchone()  # noqa: S608
    since: Key | None = None
    if isinstance(lowest, int) and isinstance(highest, int):
        for part in range(1, PARTS):
            row = connection.execute(
                f"SELECT {group} FROM {name} WHERE {group} >= ? AND {table.boundary} ORDER BY 1 LIMIT 1",  # noqa: S608
                (lowest + (highest - lowest) * part // PARTS,),
            ).fetchone()
            if row is not None and (since is None or row[0] > since):
                yield since, row[0]
                since = row[0]
    yield since, None


@contextlib.contextmanager
def _started(path: Path, share: list[Any]) -> Iterator[subprocess.Popen[bytes] | None]:
    command = [sys.executable, "-c", "from mirror.format.helper import main; main()"]
    try:
        helper = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ
        )
    except (OSError, ValueError):
        yield None
        return
    with helper:
        try:
            assert helper.stdin is not None
            with contextlib.suppress(BrokenPipeError), helper.stdin:
                helper.stdin.write(msgpack.packb((str(path), _identity(path), share)))
            yield helper
        finally:
            helper.kill()


def _answers(helper: subprocess.Popen[bytes] | None, count: int) -> list[list[Chunk]] | None:
    if helper is None or helper.stdout is None:
        return None
    data = helper.stdout.read()
    if helper.wait() != 0:
        return None
    answers = [[Chunk(*chunk) for chunk in answer] for answer in msgpack.unpackb(data)]
    return answers if len(answers) == count else None
