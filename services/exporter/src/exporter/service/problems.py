"""Facts that are kept out of the rows, each with its reason, until a better fact of the subject comes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, Table, select

from exporter.service import fact_tables as facts
from exporter.service.fact_tables import Row

ID_COLLISION = "id-collision"
KEY_TAKEN = "key-taken"


def count(connection: Connection) -> int:
    """How many there are."""
    return int(connection.exec_driver_sql("SELECT count(*) FROM projection_problems").scalar_one())


def record(
    connection: Connection,
    *,
    subject: str,
    code: str,
    message: str,
    sequence: int,
    kind: str | None = None,
    item: int | None = None,
    platform: str | None = None,
    remote_id: str | None = None,
) -> None:
    """Remember one, in place of an older one of the same subject."""
    connection.exec_driver_sql(
        "INSERT OR REPLACE INTO projection_problems VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (subject, code, message, sequence, kind, item, platform, remote_id),
    )


def record_contested(
    connection: Connection,
    *,
    kind: str,
    subject: str,
    item: int,
    platform: str,
    remote_id: str,
    sequence: int,
    holder: int | None,
) -> None:
    """Two ids for one thing, or one id for two: the first by order holds it, this one waits."""
    by = f"{kind} {holder}" if holder is not None else f"another {kind}"
    record(
        connection,
        subject=subject,
        code=KEY_TAKEN,
        message=f"{by} has this id or this key already; {kind} {item} is kept out until that one is withdrawn",
        sequence=sequence,
        kind=kind,
        item=item,
        platform=platform,
        remote_id=remote_id,
    )


def clear(connection: Connection, subjects: Sequence[str]) -> None:
    """Newer facts of these subjects were read: what was wrong with the older ones is past.

    Waiting for another's key is not: the derivation decides about that.
    """
    if subjects:
        connection.exec_driver_sql(
            "DELETE FROM projection_problems WHERE subject = ? AND kind IS NULL",
            [(subject,) for subject in subjects],
        )


def record_collisions(connection: Connection, table: Table, rows: Iterable[Row]) -> None:
    """Look through rows of which some were not taken: older revisions are nothing, collisions are."""
    if table.name not in facts.KEYS_OF_THINGS:
        return
    names = facts.KEYS_OF_THINGS[table.name]
    columns = [column.name for column in table.c]
    keys = [column for column in table.c if column.primary_key]
    # Of one key, the last fact says what stands on the bus.
    last = {row[: len(keys)]: dict(zip(columns, row, strict=True)) for row in rows}
    for key, values in last.items():
        held = connection.execute(
            select(*(table.c[name] for name in names), table.c.removed).where(
                *(column == value for column, value in zip(keys, key, strict=True))
            )
        ).one()
        if not held.removed and tuple(held[:-1]) != tuple(values[name] for name in names):
            subject = facts.subject(table, key)
            record(
                connection,
                subject=subject,
                code=ID_COLLISION,
                message=f"two things share the id of {subject}; the one that came second is kept out",
                sequence=values["sequence"],
            )


def record_collisions_of(connection: Connection, table: Table, *, source: str) -> None:
    """The same for the rows of the table ``source``, of which some were not taken."""
    if table.name in facts.KEYS_OF_THINGS:
        key = ", ".join(column.name for column in table.primary_key)
        twice = f"SELECT {key} FROM {source} GROUP BY {key} HAVING count(*) > 1"  # noqa: S608
        rows = connection.exec_driver_sql(
            f"SELECT * FROM {source} WHERE ({key}) IN ({twice}) ORDER BY sequence"  # noqa: S608
        )
        record_collisions(connection, table, (tuple(row) for row in rows))
