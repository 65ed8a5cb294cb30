"""A service's database: made, brought up to date, owned, and refused, in SQLite and in PostgreSQL."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, inspect, select, text

from collector.adapters import database as collector
from collector.adapters import tables as collector_tables
from common.database import Database, Location, Schema, location_of, parse_url
from common.database_migrations import newest
from common.errors import ConfigurationError, DatabaseDown, DatabaseUnreadable
from common.settings import Settings
from console.adapters.ledger import database as console
from console.adapters.ledger import tables as console_tables
from downloader.adapters import rejects as downloader
from downloader.adapters import tables as downloader_tables
from tests.support.postgres import PostgresServer, location

OLDER = Path(__file__).parent / "older"
SERVICES: dict[str, tuple[Schema, MetaData]] = {
    "collector": (collector.SCHEMA, collector_tables.metadata),
    "console": (console.SCHEMA, console_tables.metadata),
    "downloader": (downloader.SCHEMA, downloader_tables.metadata),
}


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def place(tmp_path: Path, service: str, database_url: str) -> Location:
    return location(service, tmp_path / "state" / "a.db", database_url)


def version(database: Database) -> str:
    with database.engine.connect() as connection:
        return str(connection.scalar(text("SELECT version_num FROM alembic_version")))


def differences(database: Database, metadata: MetaData) -> list[Any]:
    with database.engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))


def test_the_migrations_make_the_tables_that_the_service_uses(place: Location, service: str) -> None:
    schema, metadata = SERVICES[service]
    for _ in range(2):  # made, and opened again
        database = Database(place, schema)
        assert version(database) == newest(schema.migrations)
        assert [one for one in differences(database, metadata) if one[0] != "remove_table"] == []
        database.close()


def test_a_database_from_before_the_migrations_is_taken_over(tmp_path: Path, service: str) -> None:
    place = location(service, tmp_path / "old.db", "")
    with closing(sqlite3.connect(place.path)) as old:
        old.executescript((OLDER / f"{service}.sql").read_text())
        before = {name: _rows(old, name, _columns(old, name)) for name in _tables(old)}
        columns = {name: _columns(old, name) for name in before}
    schema, metadata = SERVICES[service]
    database = Database(place, schema)
    assert version(database) == newest(schema.migrations)
    wanted = {index.name for table in metadata.tables.values() for index in table.indexes}
    with database.engine.connect() as connection:
        look = inspect(connection)
        assert wanted <= {index["name"] for table in look.get_table_names() for index in look.get_indexes(table)}
        for table in metadata.sorted_tables:
            connection.execute(select(table)).all()
    database.close()
    with closing(sqlite3.connect(place.path)) as new:
        assert {name: _rows(new, name, columns[name]) for name in before} == before
    assert any(before.values())


def test_a_newer_database_is_refused_and_nothing_is_changed(place: Location, service: str) -> None:
    schema, _ = SERVICES[service]
    database = Database(place, schema)
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(ConfigurationError, match="newer version of the program") as refused:
        Database(place, schema)
    assert refused.value.code == "database-version"
    assert "\n" not in refused.value.message
    with pytest.raises(ConfigurationError, match="9999"):
        Database(place, schema)


COPY = """
import sys, time
from pathlib import Path
from downloader.adapters.rejects import RejectDatabase
from tests.support.postgres import location
while not Path(sys.argv[2]).exists():
    time.sleep(0.001)
RejectDatabase(location("downloader", Path(sys.argv[1]), sys.argv[3])).close()
"""


def test_copies_that_start_at_once_make_one_database(tmp_path: Path, database_url: str) -> None:
    place = location("downloader", tmp_path / "state" / "shared.db", database_url)
    begin = tmp_path / "begin"
    copies = [
        subprocess.Popen(
            [sys.executable, "-c", COPY, place.path, begin, database_url], cwd=Path.cwd(), stderr=subprocess.PIPE
        )
        for _ in range(3)
    ]
    begin.touch()
    assert [(copy.communicate(timeout=60)[1], copy.returncode) for copy in copies] == [(b"", 0)] * 3
    first, second = Database(place, downloader.SCHEMA), Database(place, downloader.SCHEMA)
    assert version(first) == version(second)
    first.close()
    second.close()


def test_two_installations_do_not_see_each_others_tables(postgres_url: str, tmp_path: Path) -> None:
    opened = [Database(location(name, tmp_path / name, postgres_url), SERVICES[name][0]) for name in SERVICES]
    for database in opened:
        with database.engine.connect() as connection:
            assert connection.scalar(text("SELECT current_schema()")) == database.location.service
            names = set(inspect(connection).get_table_names())
        assert names == {*SERVICES[database.location.service][1].tables, "alembic_version"}
        database.close()


def test_a_file_that_may_not_be_written_is_said_to_be(tmp_path: Path) -> None:
    place = location("collector", tmp_path / "a.db", "")
    place.path.write_bytes(b"no database at all " * 500)
    with pytest.raises(DatabaseUnreadable, match=r"a\.db cannot be read"):
        Database(place, collector.SCHEMA)
    assert place.path.read_bytes() == b"no database at all " * 500


@pytest.mark.parametrize(
    "given",
    [
        "mysql://u:geheim@h/d",
        "postgresql://",
        "postgresql://u:geheim@/d",
        "postgresql://u:geheim@host",
        "postgresql://u:ge@heim@host/db",
        "postgresql://u:geheim@host:port/db",
        "geheim",
        "sqlite:///geheim.db",
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_without_showing_it(given: str, tmp_path: Path) -> None:
    settings = Settings(root_dir=tmp_path, database_url=given)
    with pytest.raises(ConfigurationError) as refused:
        location_of(settings, service="console", file=tmp_path / "ops.db")
    assert "DATABASE_URL" in refused.value.message or "password" in refused.value.message
    assert "heim" not in str(refused.value)
    assert "heim" not in repr(settings)


def test_an_empty_url_means_sqlite(tmp_path: Path) -> None:
    assert location_of(Settings(database_url=" "), service="console", file=tmp_path).url is None
    assert parse_url("postgres://u@h/d").drivername == "postgresql+psycopg"
    assert parse_url("postgresql:///d?host=/run/postgresql").database == "d"


def test_what_the_server_refuses_is_a_sentence(postgres_server: PostgresServer, tmp_path: Path) -> None:
    wrong = {
        postgres_server.url(password="geheim geheim"): "refuses user and password",
        postgres_server.url("no_such_database"): "no such database",
    }
    for url, words in wrong.items():
        with pytest.raises(ConfigurationError, match=words) as refused:
            Database(location("collector", tmp_path / "a", url), collector.SCHEMA)
        assert "geheim" not in refused.value.message and postgres_server.password not in refused.value.message


def test_a_user_who_may_make_nothing_is_told_what_to_grant(
    postgres_server: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    name = postgres_url.rpartition("/")[2]
    postgres_server.execute(f"CREATE ROLE {name}_guest LOGIN PASSWORD 'a'")
    url = f"postgresql://{name}_guest:a@127.0.0.1:{postgres_server.port}/{name}"
    place = location("console", tmp_path / "a", url)
    with pytest.raises(ConfigurationError, match="CREATE SCHEMA console AUTHORIZATION"):
        Database(place, console.SCHEMA)
    postgres_server.execute(f"CREATE SCHEMA console AUTHORIZATION {name}_guest", name)
    Database(place, console.SCHEMA).close()
    postgres_server.execute("DROP OWNED BY " + f"{name}_guest CASCADE", name)
    postgres_server.execute(f"DROP ROLE {name}_guest")


@pytest.fixture
def server(postgres_of_its_own: PostgresServer) -> Iterator[PostgresServer]:
    yield postgres_of_its_own


def test_a_server_that_is_killed_is_away_and_then_back_with_one_owner(server: PostgresServer, tmp_path: Path) -> None:
    place = location("console", tmp_path / "a", server.url())
    database = Database(place, console.SCHEMA)
    database.ask()
    server.kill()
    for _ in range(2):
        with pytest.raises(DatabaseDown) as away:
            database.ask()
        assert away.value.code == "database-unavailable"
        assert server.password not in away.value.message
    with pytest.raises(DatabaseDown):
        Database(place, console.SCHEMA)
    server.start()
    database.ask()
    with pytest.raises(ConfigurationError, match="Another console"):
        Database(place, console.SCHEMA)
    # An administrator ends the session that holds the lock, and another console is faster than this one.
    server.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    other = Database(place, console.SCHEMA)
    with pytest.raises(DatabaseDown, match="Another console"):
        database.ask()
    other.close()
    database.ask()
    database.close()


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def _rows(connection: sqlite3.Connection, table: str, columns: list[str]) -> list[tuple[Any, ...]]:
    return connection.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall()


def _tables(connection: sqlite3.Connection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
