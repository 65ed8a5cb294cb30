"""The resolver's statistics on disk and in PostgreSQL: many writers, damage, absence, and files of the older system."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text
from structlog.testing import capture_logs

from common.database import Database, parse_url
from common.resolver_stats import SERVICE, ResolverStatsRepository, repository
from common.resolver_stats.tables import metadata
from tests.support.postgres import PostgresServer, location

WRITER = """
import sys
from pathlib import Path
from common.database import Location, parse_url
from common.resolver_stats import SERVICE, ResolverStatsRepository
file, url, tries = sys.argv[1], sys.argv[2], int(sys.argv[3])
place = Location(service=SERVICE, path=Path(file), url=parse_url(url) if url else None)
sys.stdin.read(1)  # all begin together, with a database that none has made yet
stats = ResolverStatsRepository(place, half_life_days=36500)
for number in range(tries):
    stats.record_fallback_result("netease", f"source-{number % 2}", succeeded=number % 4 == 0)
    if number % 4 == 0:
        stats.record_verification("netease", "source-0", passed=False)
assert stats.problem is None, stats.problem
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "resolver_stats.db"


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "_REST_SECONDS", 0.0)


def test_eight_processes_write_at_once_and_every_try_is_counted(file: Path, database_url: str) -> None:
    tries = 60
    command = [sys.executable, "-c", WRITER, str(file), database_url, str(tries)]
    writers = [subprocess.Popen(command, stdin=subprocess.PIPE, text=True) for _ in range(8)]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("g")
        writer.stdin.close()
    assert [writer.wait(60) for writer in writers] == [0] * 8
    stats = ResolverStatsRepository(location(SERVICE, file, database_url), half_life_days=36500)
    standings = stats.explain("netease", ["source-0", "source-1"]).standings
    assert f"so far {8 * tries}." in standings[0].why
    first, second = (standing.counts for standing in standings)
    assert (second.attempts, second.successes) == (4 * tries, 0)
    assert (first.attempts, first.successes, first.refuted) == (4 * tries, 2 * tries, 2 * tries)
    assert first.recent_attempts == pytest.approx(4 * tries, abs=0.1)
    assert first.recent_successes == pytest.approx(0, abs=0.1)
    stats.close()


def test_the_migrations_make_the_tables_that_are_used(file: Path, database_url: str) -> None:
    database = Database(location(SERVICE, file, database_url), repository.SCHEMA)
    with database.engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), metadata)
        assert [one for one in found if one[0] != "remove_table"] == []
    database.close()


@pytest.mark.parametrize("index", [True, False])
def test_a_file_of_the_older_system_is_taken_over(file: Path, index: bool) -> None:
    file.parent.mkdir()
    with closing(sqlite3.connect(file)) as old:
        old.executescript(
            "CREATE TABLE resolver_source_stats (origin_source TEXT NOT NULL, candidate_source TEXT NOT NULL, "
            "attempt_count INTEGER NOT NULL DEFAULT 0, resolve_success_count INTEGER NOT NULL DEFAULT 0, "
            "last_attempt_at TEXT, last_success_at TEXT, created_at TEXT NOT NULL, updated_at TEXT NOT NULL, "
            "PRIMARY KEY (origin_source, candidate_source));"
            "INSERT INTO resolver_source_stats VALUES ('netease', 'qq', 700, 100, '2024', '2024', '2024', '2024'),"
            " ('netease', 'kuwo', 400, 300, '2024', '2024', '2024', '2024');"
        )
        if index:
            old.execute("CREATE INDEX ix_resolver_source_stats_origin ON resolver_source_stats (origin_source)")
    for half_life_days in (0, 30):
        stats = ResolverStatsRepository(file, half_life_days=half_life_days)
        assert stats.rank_fallback_sources("netease", ["qq", "migu", "kuwo"]) == ["kuwo", "migu", "qq"]
        stats.close()
    with closing(sqlite3.connect(file)) as now:
        assert now.execute("SELECT * FROM resolver_source_stats WHERE candidate_source = 'qq'").fetchone() == (
            *("netease", "qq", 700, 100),
            *["2024"] * 4,
        )
        indexes = [row[1] for row in now.execute("PRAGMA index_list(resolver_source_stats)")]
        assert "ix_resolver_source_stats_origin" in indexes


def test_a_damaged_file_is_put_aside_and_a_new_one_begun(file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(os.urandom(20_000))
    damaged = file.read_bytes()
    with capture_logs() as logs:
        copies = [ResolverStatsRepository(file) for _ in range(2)]
    assert [one["event"] for one in logs if "damaged" in one["event"]] == [logs[0]["event"]]
    for copy in copies:
        copy.record_fallback_result("netease", "qq", succeeded=True)
        assert copy.problem is None
    assert copies[0].explain("netease", ["qq"]).standings[0].counts.attempts == 2
    (aside,) = file.parent.glob("resolver_stats.db.damaged-*")
    assert aside.read_bytes() == damaged
    for copy in copies:
        copy.close()


def test_a_file_that_is_damaged_while_it_is_used_costs_no_more_than_its_numbers(file: Path) -> None:
    stats = ResolverStatsRepository(file)
    stats.record_fallback_result("netease", "qq", succeeded=True)
    stats.close()
    stats = ResolverStatsRepository(file)
    with file.open("r+b") as pages:
        pages.write(os.urandom(file.stat().st_size))
    for _ in range(2):
        stats.record_fallback_result("netease", "kuwo", succeeded=True)
        assert stats.rank_fallback_sources("netease", ["qq", "kuwo"]) == ["qq", "kuwo"]
    assert stats.problem is None
    assert stats.rank_fallback_sources("netease", ["qq", "kuwo"], warmup_attempts=1) == ["kuwo", "qq"]
    assert list(file.parent.glob("resolver_stats.db.damaged-*"))
    stats.close()


def test_what_cannot_be_opened_costs_nothing_and_is_said_once(file: Path) -> None:
    file.mkdir(parents=True)  # no file can be made here
    with capture_logs() as logs:
        stats = ResolverStatsRepository(file)
        for _ in range(5):
            stats.record_fallback_result("netease", "qq", succeeded=True)
            assert stats.rank_fallback_sources("netease", ["qq", "kuwo"], warmup_attempts=1) == ["qq", "kuwo"]
    assert len(logs) == 1 and stats.problem
    assert stats.explain("netease", ["qq"]).standings[0].code == "statistics-unavailable"
    file.rmdir()
    stats.record_fallback_result("netease", "kuwo", succeeded=True)
    assert stats.problem is None
    assert stats.rank_fallback_sources("netease", ["qq", "kuwo"], warmup_attempts=1) == ["kuwo", "qq"]
    stats.close()


def test_a_server_that_is_away_costs_nothing_and_is_used_again(postgres_of_its_own: PostgresServer, file: Path) -> None:
    stats = ResolverStatsRepository(location(SERVICE, file, postgres_of_its_own.url()))
    stats.record_fallback_result("netease", "kuwo", succeeded=True)
    postgres_of_its_own.kill()
    with capture_logs() as logs:
        for _ in range(2):
            stats.record_fallback_result("netease", "kuwo", succeeded=True)
            assert stats.rank_fallback_sources("netease", ["qq", "kuwo"], warmup_attempts=1) == ["qq", "kuwo"]
    assert len(logs) == 1 and "PostgreSQL" in str(stats.problem)
    late = ResolverStatsRepository(location(SERVICE, file, postgres_of_its_own.url()))
    postgres_of_its_own.start()
    for copy in (stats, late):
        copy.record_fallback_result("netease", "kuwo", succeeded=True)
        assert copy.rank_fallback_sources("netease", ["qq", "kuwo"], warmup_attempts=2) == ["kuwo", "qq"]
        copy.record_fallback_result("netease", "kuwo", succeeded=True)
        copy.close()
    engine = create_engine(parse_url(postgres_of_its_own.url()))
    with engine.connect() as connection:
        count = connection.scalar(text("SELECT attempt_count FROM resolver_stats.resolver_source_stats"))
        assert count == 5
    engine.dispose()
    assert not file.exists()
