"""A service's own database: an SQLite file on this machine, or a schema of its own in PostgreSQL.

Which of the two is one setting, ``DATABASE_URL``. Whatever a statement meets, a database that cannot be used
now is :class:`DatabaseDown`: the lane waits, and the service says so and goes on by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal, TypeVar

import psycopg
from psycopg.types.string import StrDumperUnknown
from sqlalchemy import URL, BigInteger, Connection, Engine, Integer, Table, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, DatabaseError

from common.contracts.status import Reason
from common.database_locks import FileLock, OwnerSession, hold_file, lock_number
from common.database_migrations import migrate
from common.errors import ConfigurationError, DatabaseDown, DatabaseUnreadable
from common.settings import Settings
from common.telemetry import get_logger

WholeNumber = BigInteger().with_variant(Integer, "sqlite")
"""64 bits everywhere: SQLite's integers have them anyway, and count up only in a column called INTEGER."""

_BUSY_SECONDS = 30
"""How long SQLite waits for another writer."""
_CONNECT_SECONDS = 5
_SILENT_MS = 15_000
"""Bytes that a PostgreSQL server has not taken for so long end the connection: its machine is gone."""
_RECYCLE_SECONDS = 1800
_SERVER_SIDE = " ".join(
    f"-c {name}={value}"
    for name, value in {
        # The server lets go of the locks of a machine that is gone as soon as we give up on a server that is.
        "tcp_keepalives_idle": 10,
        "tcp_keepalives_interval": 5,
        "tcp_keepalives_count": 3,
        "tcp_user_timeout": _SILENT_MS,
    }.items()
)
_LOOK_EVERY = 2.0
_WAIT_FOR_START = 1.0
_URL_FORM = "postgresql://user:password@host:5432/database"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where a service's tables lie. ``url`` is None for the SQLite file ``path``."""

    service: str
    path: Path
    url: URL | None = None


@dataclass(frozen=True, kw_only=True)
class Schema:
    """What a service asks of its database.

    ``migrations``: its package of that name. ``marker``: a table that databases from before the migrations have.
    ``alone``: one process at a time. ``synchronous``: what SQLite does at a commit (FULL survives a power cut).
    ``pragmas``: more of SQLite's own settings. ``pool``: connections to PostgreSQL that are kept open; at busy
    times there may be twice as many.
    """

    migrations: ModuleType
    marker: str
    alone: bool
    synchronous: Literal["FULL", "NORMAL"]
    pragmas: tuple[str, ...] = ()
    pool: int = 5
    mode: int = 0o644


def location_of(settings: Settings, *, service: str, file: Path) -> Location:
    """Where a service keeps its tables. Raises ConfigurationError when DATABASE_URL cannot be meant."""
    given = settings.database_url.get_secret_value().strip() if settings.database_url else ""
    return Location(service=service, path=file, url=parse_url(given) if given else None)


def parse_url(given: str) -> URL:
    """DATABASE_URL for our driver. Raises ConfigurationError, which never shows a part of it."""
    wrong = ConfigurationError(
        f"DATABASE_URL is not a PostgreSQL URL. Write it like {_URL_FORM}, or leave it empty for SQLite files.",
        code="database-url",
    )
    try:
        url = make_url(given)
    except (ArgumentError, ValueError):
        raise wrong from None
    if url.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise wrong
    if not url.host or not url.database:
        if "host" in url.query and url.database:
            return url.set(drivername="postgresql+psycopg")
        raise wrong
    if "@" in url.host or "/" in url.host:
        raise ConfigurationError(
            "The password in DATABASE_URL holds a character that ends it; write @ as %40, / as %2F and : as %3A.",
            code="database-url",
        )
    return url.set(drivername="postgresql+psycopg")


def make_engine(location: Location, schema: Schema) -> Engine:
    """An engine whose errors are ours. Nothing is opened yet."""
    if location.url is None:
        engine = create_engine(
            f"sqlite:///{location.path}", connect_args={"check_same_thread": False, "timeout": _BUSY_SECONDS}
        )
        pragmas = ("journal_mode=WAL", f"synchronous={schema.synchronous}", "foreign_keys=ON", *schema.pragmas)
        event.listen(engine, "connect", lambda connection, _: _set_pragmas(connection, pragmas))
    else:
        query = dict(location.url.query)
        options = query.pop("options", "")
        options = options if isinstance(options, str) else " ".join(options)
        engine = create_engine(
            location.url.set(query=query),
            connect_args={
                "options": f"{options} {_SERVER_SIDE} -c search_path={location.service}".strip(),
                "application_name": f"music-cloud {location.service}",
                "connect_timeout": _CONNECT_SECONDS,
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": _SILENT_MS,
            },
            pool_size=schema.pool,
            max_overflow=schema.pool,
            pool_pre_ping=True,
            pool_recycle=_RECYCLE_SECONDS,
            hide_parameters=True,
        )
        event.listen(engine, "connect", take_any_text)
    event.listen(engine, "handle_error", _as_ours, retval=True)
    return engine


class Database:
    """A service's database, brought up to date, and owned while it is open where ``schema.alone`` says so."""

    def __init__(self, location: Location, schema: Schema) -> None:
        """Open or make it.

        Raises ConfigurationError when it is another process's, newer than this program, unreadable or refused;
        DatabaseDown when it cannot be used now.
        """
        self.location = location
        self.problem: Reason | None = None
        """Why it cannot be used now, as far as :meth:`watch` has seen."""
        self._lock: FileLock | None = None
        self._owner: OwnerSession | None = None
        if location.url is None:
            self._lock = hold_file(location.path, service=location.service, alone=schema.alone, mode=schema.mode)
        self.engine = make_engine(location, schema)
        try:
            with _refusals(location):
                if location.url is not None and schema.alone:
                    self._owner = OwnerSession(make_engine(location, replace(schema, pool=1)), service=location.service)
                    event.listen(self.engine, "checkout", self._owner.on_checkout)
                with self.engine.begin() as connection:
                    _take_turn(connection, location)
                    migrate(connection, service=location.service, package=schema.migrations, marker=schema.marker)
        except BaseException:
            self.close()
            raise
        if self._lock is not None and not schema.alone:
            self._lock.release()

    @property
    def is_server(self) -> bool:
        """Whether it is a server that can be away while this machine works."""
        return self.location.url is not None

    async def watch(self, stop: asyncio.Event) -> None:
        """Ask a server now and then whether it is there, until ``stop``."""
        while not stop.is_set():
            try:
                await asyncio.to_thread(self.ask)
            except DatabaseDown as error:
                if self.problem is None:
                    get_logger().error("the database is away", reason=error.message)
                self.problem = error.reason
            else:
                if self.problem is not None:
                    get_logger().info("the database is back")
                self.problem = None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _LOOK_EVERY)

    def ask(self) -> None:
        """Raises DatabaseDown when it does not answer."""
        with self.engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close it, and let another process have it."""
        self.engine.dispose()
        if self._owner is not None:
            self._owner.close()
        if self._lock is not None:
            self._lock.release()


async def opened(open: Callable[[], T]) -> T:
    """What ``open`` returns, in a thread; while a server does not answer it is tried again, for ever."""
    said = False
    while True:
        try:
            return await asyncio.to_thread(open)
        except DatabaseDown as error:
            if error.code != ServerDown.code:
                raise
            if not said:
                get_logger().warning("waiting for the database", reason=error.message)
                said = True
            await asyncio.sleep(_WAIT_FOR_START)


class ServerDown(DatabaseDown):
    """The PostgreSQL server does not answer, or takes nothing."""

    code = "database-unavailable"


def upsert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that knows ON CONFLICT, for the database of ``connection``."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def remove_file(path: Path) -> None:
    """Take an SQLite database away, with what lies beside it."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _take_turn(connection: Connection, location: Location) -> None:
    """One process at a time brings a database up to date; the others find it done."""
    if location.url is None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        return
    connection.execute(
        text("SELECT pg_advisory_xact_lock(:number)"), {"number": lock_number(location.service, "schema")}
    )
    # Asked for first: CREATE SCHEMA IF NOT EXISTS needs a right that a user with a ready schema may lack.
    if connection.scalar(text("SELECT to_regnamespace(:name)"), {"name": location.service}) is None:
        connection.exec_driver_sql(f"CREATE SCHEMA {location.service}")


_UNREADABLE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_UNUSABLE: Final = {
    sqlite3.SQLITE_FULL: "its disk is full. Free some space; it goes on then",
    sqlite3.SQLITE_READONLY: "it may only be read. Check the permissions of STATE_DIR and the service's user",
    sqlite3.SQLITE_CANTOPEN: "its file cannot be opened. Check the permissions of STATE_DIR and the service's user",
    sqlite3.SQLITE_PERM: "it may not be opened. Check the permissions of STATE_DIR and the service's user",
    sqlite3.SQLITE_IOERR: "its disk fails (I/O error). Check the disk of STATE_DIR",
    sqlite3.SQLITE_BUSY: "another program holds it; it is tried again",
    sqlite3.SQLITE_LOCKED: "another program holds it; it is tried again",
    sqlite3.SQLITE_PROTOCOL: "another program holds it; it is tried again",
}
_UNUSABLE_SERVER: Final = (
    psycopg.OperationalError,
    psycopg.errors.ReadOnlySqlTransaction,  # a standby, before it takes over
)


def _as_ours(context: ExceptionContext) -> BaseException | None:
    """What the database says, as an error that says what to do; None leaves a bug what it is."""
    error = context.original_exception
    if isinstance(error, sqlite3.Error):
        words = _UNUSABLE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
        return DatabaseDown(f"The database cannot be written: {words}.", retry_after=5.0) if words else None
    if context.is_disconnect or isinstance(error, _UNUSABLE_SERVER):
        return ServerDown(_server_sentence(error), retry_after=2.0)
    return None


def _server_sentence(error: BaseException) -> str:
    state = getattr(error, "sqlstate", None)
    if state is not None and state.startswith("53"):
        what = {"53100": "its disk is full", "53300": "it has no connection left"}.get(state, "it lacks a resource")
        return f"PostgreSQL takes nothing: {what}. It goes on when that is mended."
    return "PostgreSQL does not answer at DATABASE_URL; it is tried again."


_REFUSED: Final = (
    (r"password authentication failed|no pg_hba.conf entry|no password supplied|role .* does not exist",
     "refuses user and password"),
    (r"database .* does not exist", "has no such database; make it with createdb"),
)  # fmt: skip
"""libpq gives no code for what ends a connection before it begins."""


@contextlib.contextmanager
def _refusals(location: Location) -> Iterator[None]:
    """What no waiting mends, as ConfigurationError."""
    try:
        yield
    except ServerDown as error:
        for pattern, sentence in _REFUSED:
            if re.search(pattern, str(error.__cause__)):
                raise ConfigurationError(
                    f"The PostgreSQL server of DATABASE_URL {sentence}. Correct DATABASE_URL.", code="database-refused"
                ) from None
        raise
    except DatabaseError as error:
        if _is_unreadable(error.orig):
            raise DatabaseUnreadable(
                f"{location.path.name} cannot be read as the {location.service}'s database. Move it away, or "
                "restore it from a backup."
            ) from None
        if isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
            raise ConfigurationError(
                f"The user of DATABASE_URL may not make the tables of the {location.service}. Let it own the database, "
                f"or make for it: CREATE SCHEMA {location.service} AUTHORIZATION that user.",
                code="database-refused",
            ) from None
        raise


def _is_unreadable(error: BaseException | None) -> bool:
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _UNREADABLE


def _set_pragmas(connection: Any, pragmas: tuple[str, ...]) -> None:
    cursor = connection.cursor()
    for pragma in pragmas:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


class _AnyText(StrDumperUnknown):
    """PostgreSQL's text has no NUL; SQLite's has, and what others list must not stop a projection."""

    def dump(self, obj: str) -> bytes | bytearray | memoryview | None:
        return super().dump(obj.replace("\x00", "\ufffd") if "\x00" in obj else obj)


def take_any_text(connection: psycopg.Connection[Any], _: object) -> None:
    """Have a new connection to PostgreSQL take every text that SQLite takes."""
    connection.adapters.register_dumper(str, _AnyText)
