"""The services' own databases, as SQLite files: copied whole, or table by table from and into PostgreSQL."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import BLANK_SCHEMA

from cli.backup.errors import ArchiveDamaged, BackupFailed, RestoreFailed
from common.database import parse_url, take_any_text

_ROWS = 1000
_LITERAL = re.compile(
    r"\(?'?(?P<value>-?\d+(?:\.\d+)?|true|false|(?<=')[^'\\]*(?='))'?\)?(?:::[a-z ]+)?", re.IGNORECASE
)
_INTEGER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""Ids have 53 bits; SQLite counts up only a column that is called INTEGER."""
_ENDED = ("completed", "completed_with_errors", "failed", "canceled")


def is_sqlite(path: Path) -> bool:
    """Whether a file is an SQLite database."""
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\x00"


def copy_sqlite(source: Path, target: Path) -> None:
    """A consistent copy, also while others write. Raises BackupFailed, also for a damaged source."""
    try:
        with closing(_open(source, "ro")) as reading, closing(sqlite3.connect(target)) as writing:
            # All pages in one step, which is one read transaction.
            reading.backup(writing, pages=-1)
            writing.execute("PRAGMA journal_mode = DELETE")
            broken = _problem(writing)
    except sqlite3.Error as error:
        raise BackupFailed(
            f"{source.name} cannot be copied ({error}). Mend or move it, and run the backup again."
        ) from None
    if broken:
        raise BackupFailed(f"{source.name} is damaged ({broken}). Restore it from an earlier backup.")


def check_sqlite(path: Path) -> None:
    """Raises ArchiveDamaged when a file of an archive is not a sound database."""
    try:
        with closing(_open(path, "ro")) as connection:
            broken = _problem(connection)
    except sqlite3.Error as error:
        broken = str(error)
    if broken:
        raise ArchiveDamaged(f"{path.name} in the backup is not a sound database ({broken}). Take another one.")


def jobs_of(path: Path) -> tuple[int, set[int]]:
    """(highest number of a job, the jobs that have not ended) in a console's database."""
    marks = ", ".join("?" * len(_ENDED))
    try:
        with closing(_open(path, "ro")) as connection:
            highest = connection.execute("SELECT coalesce(max(id), 0) FROM job_runs").fetchone()[0]
            rows = connection.execute(f"SELECT id FROM job_runs WHERE status NOT IN ({marks})", _ENDED)  # noqa: S608
            return int(highest), {int(row[0]) for row in rows}
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        return 0, set()  # made, and never used


def dump_schema(url: str, schema: str, target: Path) -> bool:
    """The tables of a PostgreSQL schema as an SQLite file; False where there are none. Raises BackupFailed."""
    try:
        with _postgresql(url) as engine, engine.connect() as source:
            source = source.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            if not sa.inspect(source).get_table_names(schema=schema):
                return False
            out = sa.create_engine(f"sqlite:///{target}")
            try:
                with out.begin() as writing:
                    _copy(source, schema, writing, None)
            finally:
                out.dispose()
    except SQLAlchemyError as error:
        raise BackupFailed(f"The tables of {schema} cannot be read ({_cause(error)}). Run the backup again.") from None
    return True


def has_jobs(url: str) -> bool:
    """Whether the console's schema in PostgreSQL holds a job. Raises RestoreFailed."""
    try:
        with _postgresql(url) as engine, engine.connect() as connection:
            if not sa.inspect(connection).has_table("job_runs", schema="console"):
                return False
            return connection.execute(sa.text("SELECT 1 FROM console.job_runs LIMIT 1")).first() is not None
    except SQLAlchemyError as error:
        raise RestoreFailed(
            f"The database of DATABASE_URL cannot be read ({_cause(error)}). Mend that and run the same command again."
        ) from None


def load_schema(url: str, schema: str, source: Path, *, aside: str) -> None:
    """Make a PostgreSQL schema what an SQLite file holds, in one transaction; a schema that is there is renamed.

    Raises RestoreFailed.
    """
    inside = sa.create_engine(f"sqlite:///file:{source}?mode=ro&uri=true")
    try:
        with _postgresql(url) as engine, engine.begin() as target, inside.connect() as reading:
            quote = engine.dialect.identifier_preparer.quote
            schemas = sa.inspect(target).get_schema_names()
            if schema in schemas:
                # Run again after an interruption: what was there at first is aside already.
                words = "DROP SCHEMA {} CASCADE" if aside in schemas else "ALTER SCHEMA {} RENAME TO {}"
                target.execute(sa.text(words.format(quote(schema), quote(aside))))
            target.execute(sa.schema.CreateSchema(schema))
            _copy(reading, None, target, schema)
    except SQLAlchemyError as error:
        raise RestoreFailed(
            f"The tables of {schema} cannot be written ({_cause(error)}). Mend that and run the same command again."
        ) from None
    finally:
        inside.dispose()


def _copy(source: sa.Connection, source_schema: str | None, target: sa.Connection, target_schema: str | None) -> None:
    """All tables with their keys and indexes, then all rows, in an order that foreign keys allow."""
    read, made = sa.MetaData(), sa.MetaData()
    read.reflect(source, schema=source_schema)
    for table in read.sorted_tables:
        copy = table.to_metadata(
            made,
            schema=target_schema,  # type: ignore[arg-type]
            referred_schema_fn=lambda *_: target_schema or BLANK_SCHEMA,  # type: ignore[arg-type]
        )
        for column in copy.columns:
            _make_portable(column)
    made.create_all(target)
    for table in read.sorted_tables:
        copy = made.tables[f"{target_schema}.{table.name}" if target_schema else table.name]
        rows = source.execution_options(yield_per=_ROWS).execute(sa.select(*copy_columns(table, copy)))
        for part in rows.partitions(_ROWS):
            target.execute(copy.insert(), [dict(row._mapping) for row in part])
        if target.dialect.name == "postgresql":
            _set_counter(target, copy)


def copy_columns(table: sa.Table, like: sa.Table) -> list[sa.ColumnElement[object]]:
    """The columns of ``table``, read with the portable types of ``like``."""
    return [sa.type_coerce(column, like.c[column.name].type).label(column.name) for column in table.c]


def _make_portable(column: sa.Column[object]) -> None:
    generic: sa.types.TypeEngine[object] = column.type.as_generic(allow_nulltype=True)
    if isinstance(generic, sa.Integer):
        generic = _INTEGER  # type: ignore[assignment]
    elif isinstance(generic, sa.JSON):
        generic = sa.JSON(none_as_null=True)
    column.type = generic
    default, column.server_default, column.identity = column.server_default, None, None
    found = _LITERAL.fullmatch(str(getattr(default, "arg", "")).strip()) if default is not None else None
    if found is None:
        return
    value = found["value"]
    if isinstance(generic, sa.Boolean):
        column.server_default = sa.DefaultClause(sa.true() if value.lower() in {"1", "true"} else sa.false())
    else:
        column.server_default = sa.DefaultClause(value)


def _set_counter(connection: sa.Connection, table: sa.Table) -> None:
    keys = list(table.primary_key.columns)
    if len(keys) != 1 or not isinstance(keys[0].type, sa.Integer):
        return
    highest = connection.scalar(sa.select(sa.func.max(keys[0])))
    name = connection.dialect.identifier_preparer.format_table(table)
    counter = connection.scalar(sa.select(sa.func.pg_get_serial_sequence(name, keys[0].name)))
    if highest is not None and counter is not None:
        connection.execute(sa.select(sa.func.setval(counter, highest)))


@contextmanager
def _postgresql(url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(parse_url(url), hide_parameters=True)
    # SQLite's text may hold NUL.
    sa.event.listen(engine, "connect", take_any_text)
    try:
        yield engine
    finally:
        engine.dispose()


def _open(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=30)
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _problem(connection: sqlite3.Connection) -> str:
    found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    return "" if found == "ok" else found


def _cause(error: SQLAlchemyError) -> str:
    """The database's own words in one line; never the statement, which may hold anything."""
    return " ".join(str(getattr(error, "orig", None) or type(error).__name__).split())[:300]
