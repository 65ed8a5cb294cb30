"""Writing a pack: the groups of rows that it holds, read one after the other from a snapshot's file."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

from exporter.errors import PackFailed, RequestRefused
from exporter.ports import History, Snapshots
from exporter.service.fetch import Plan, Way, manifest_bytes
from mirror.format.pack import PackInfo, PackWriter
from mirror.format.schema import TABLES, Key, Row, TableSpec

_KEYS_AT_ONCE = 400
"""Below the number of parameters that any SQLite takes; their rows are never all in memory."""

Group = tuple[str, Key, Sequence[Row]]


def write_pack(file: BinaryIO, plan: Plan, *, snapshots: Snapshots, history: History) -> PackInfo:
    """Write the pack that was planned, whose sources are held. Memory does not grow with it.

    Raises RequestRefused when a snapshot that it is made from is gone, PackFailed when its history is, or its file.
    """
    with contextlib.ExitStack() as stack:
        want = stack.enter_context(_opened(plan.want, snapshots))
        if plan.way is Way.CHANGES:
            assert plan.after is not None
            groups = _changed(want, history.changes(after=plan.after))
        elif plan.way is Way.COMPARED:
            assert plan.have is not None
            groups = _different(stack.enter_context(_opened(plan.have, snapshots)), want)
        else:
            groups = _all(want)
        writer = PackWriter(file, want=plan.want, have=plan.have, manifest=manifest_bytes(plan.manifest))
        for group in groups:
            writer.add(*group)
        if plan.way is Way.CHANGES and (history.current() or ("",))[0] != plan.manifest.get("lineage"):
            # The changes were those of another lineage, so that some may be missing.
            raise PackFailed("The catalog was rebuilt while the pack was made.", code="lineage-ended")
        return writer.close()


@contextlib.contextmanager
def _opened(snapshot_id: str, snapshots: Snapshots) -> Iterator[sqlite3.Connection]:
    path = snapshots.database(snapshot_id)
    if path is None:
        if snapshots.manifest(snapshot_id) is not None:
            raise PackFailed("A snapshot's file is missing below SNAPSHOT_DIR. `music-cloud export` puts it anew.")
        raise RequestRefused(
            404, "snapshot-gone", "This snapshot is not kept any more. Ask /refs for the newest, and want that."
        )
    # Its content never changes, so it needs no locks.
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    with contextlib.closing(connection):
        yield connection


def _all(connection: sqlite3.Connection) -> Iterator[Group]:
    for table in TABLES.values():
        for key, rows in _groups(connection, table):
            yield table.name, key, list(rows)


def _changed(connection: sqlite3.Connection, changes: Iterator[tuple[str, Key]]) -> Iterator[Group]:
    for name, of_table in groupby(changes, key=itemgetter(0)):
        table = TABLES[name]
        while keys := [key for _, key in islice(of_table, _KEYS_AT_ONCE)]:
            found = _groups(connection, table, keys)
            next_key, rows = next(found, (None, iter(())))
            for key in keys:
                if key == next_key:
                    yield name, key, list(rows)
                    next_key, rows = next(found, (None, iter(())))
                else:
                    yield name, key, ()


def _different(have: sqlite3.Connection, want: sqlite3.Connection) -> Iterator[Group]:
    for table in TABLES.values():
        older, newer = _listed(have, table), _listed(want, table)
        old, new = next(older, None), next(newer, None)
        while old is not None or new is not None:
            if new is None or (old is not None and old[0] < new[0]):  # type: ignore[operator]
                assert old is not None
                yield table.name, old[0], ()
                old = next(older, None)
                continue
            if old is None or new[0] < old[0]:  # type: ignore[operator]
                yield table.name, *new
                new = next(newer, None)
                continue
            if old[1] != new[1]:
                yield table.name, *new
            old, new = next(older, None), next(newer, None)


def _listed(connection: sqlite3.Connection, table: TableSpec) -> Iterator[tuple[Key, list[Row]]]:
    return ((key, list(rows)) for key, rows in _groups(connection, table))


def _groups(
    connection: sqlite3.Connection, table: TableSpec, keys: Sequence[Key] | None = None
) -> Iterator[tuple[Key, Iterator[Row]]]:
    """The groups of a table in order, or those of some keys; each one's rows are read before the next."""
    columns, order = (", ".join(f'"{name}"' for name in names) for names in (table.columns, table.order))
    which = "" if keys is None else f'WHERE "{table.group}" IN ({", ".join("?" * len(keys))})'
    cursor = connection.execute(f'SELECT {columns} FROM "{table.name}" {which} ORDER BY {order}', keys or ())  # noqa: S608
    return groupby(cursor, key=itemgetter(table.group_index))


def pack_file(folder: Path, pack_id: str) -> Path:
    """Where a pack lies in a folder of packs."""
    return folder / f"{pack_id.removeprefix('sha256:')}.pack"
