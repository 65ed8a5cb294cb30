"""Rows as the format has them: what their values may be, and their bytes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgpack

from mirror.format.schema import TABLES, TableSpec

LARGEST, SMALLEST = 2**63 - 1, -(2**63)

_TYPES = {"integer": int, "text": str}
_ALLOWED: dict[str, list[frozenset[type]]] = {
    table.name: [
        # The group's column is never NULL; of bool, a kind of int in Python, type() still tells.
        frozenset({_TYPES[kind]} if column == table.group else {_TYPES[kind], type(None)})
        for column, kind in zip(table.columns, table.kinds, strict=True)
    ]
    for table in TABLES.values()
}


def encoder() -> Callable[[Sequence[Any]], bytes]:
    """A function that gives the bytes of a row: a msgpack array, each value in its shortest form."""
    pack: Callable[[Sequence[Any]], bytes] = msgpack.Packer(use_bin_type=True).pack
    return pack


def problem_of(table: TableSpec, rows: Collection[Sequence[Any]], *, stored: bool = False) -> str | None:
    """What is wrong with rows of a table, if anything is; they are as wide as the table.

    Looked at by column: many rows at once cost far less than one by one. ``stored``: they come from SQLite, whose
    integers fit 64 bits.
    """
    for column, kind, allowed, values in zip(
        table.columns, table.kinds, _ALLOWED[table.name], zip(*rows, strict=True), strict=False
    ):
        if kind == "text":
            try:
                # This takes nothing but text, and looks at the types by the way.
                text = "".join(values)
            except TypeError:
                if not allowed.issuperset(map(type, values)):
                    return f"a value of {table.name}.{column} is not {kind}"
                text = "".join(filter(None, values))
            if "\0" in text:
                return f"a text of {table.name}.{column} holds a NUL character"
        elif not allowed.issuperset(map(type, values)):
            return f"a value of {table.name}.{column} is not {kind}"
        elif stored:
            continue
        elif max(filter(None, values), default=0) > LARGEST or min(filter(None, values), default=0) < SMALLEST:
            return f"an integer of {table.name}.{column} does not fit 64 bits"
    return None
