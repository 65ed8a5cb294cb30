"""The services' databases: from SQLite or PostgreSQL into a backup, and from it into either of them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cli.backup import databases
from cli.backup.errors import ArchiveDamaged, RestoreFailed
from common.contracts.envelope import now
from common.contracts.names import ItemState, JobState, JobType, Stage
from common.contracts.status import ItemStatus, Reason
from console.adapters.ledger import Database, ItemStore, RunStore
from console.adapters.ledger.items import Told
from console.ports import JobDraft
from downloader.adapters.rejects import RejectDatabase
from tests.support.postgres import PostgresServer, location

BIG = 2**53 - 1
DRAFT = JobDraft(
    job_type=JobType.FULL,
    stages=(Stage.DOWNLOAD,),
    sources=("feed", "local"),
    download_sources=(),
    playlist_scope=(BIG,),
    priority=3,
    upload_backend=None,
    notes=("音楽",),
)


def status(key: str, **fields: object) -> ItemStatus:
    values = {"job_id": 1, "stage": Stage.DOWNLOAD, "lane": "feed", "key": key, "title": f"Song {key}"}
    return ItemStatus.model_validate({**values, "state": ItemState.QUEUED, **fields})


@pytest.fixture
def other_postgres_url(postgres_server: PostgresServer) -> str:
    return postgres_server.url(postgres_server.create_database())


@pytest.mark.parametrize("target", ["sqlite", "postgresql"])
def test_from_either_into_either(
    tmp_path: Path, database_url: str, target: str, request: pytest.FixtureRequest
) -> None:
    source = location("console", tmp_path / "source" / "ops.db", database_url)
    ledger = Database(source)
    runs, items = RunStore(ledger), ItemStore(ledger)
    made = runs.create(DRAFT, after=0, trace="t", config={"a": [1, None]}, at=now())
    runs.set_state(made.job_id, JobState.RUNNING, at=now(), event="begun")
    reason = Reason(code="gone", message="It's gone; 100 %.")
    failed = status("7", state=ItemState.FAILED, tries=5, permanent=True, reason=reason, ended_at=now())
    fetched = status("8", request={"song_id": BIG}, state=ItemState.INTERRUPTED, next_try_at=now())
    items.apply([Told(sequence=n + 1, at=now(), status=one) for n, one in enumerate((failed, fetched))], sequence=2)
    rejects = RejectDatabase(location("downloader", tmp_path / "source" / "downloader.db", database_url))
    rejects.put("ab" * 32, reason)
    rejects.close()
    before = (runs.newest(states=(), before=None, limit=9), items.page(1, after=0, limit=9), runs.events(1))
    counts = items.counts(1)

    # While the console has it open, as a backup finds it.
    kept = {name: tmp_path / f"{name}.kept" for name in ("console", "downloader")}
    if database_url:
        assert all(databases.dump_schema(database_url, name, file) for name, file in kept.items())
        assert not databases.dump_schema(database_url, "uploader", tmp_path / "nothing")
    else:
        databases.copy_sqlite(source.path, kept["console"])
        databases.copy_sqlite(tmp_path / "source" / "downloader.db", kept["downloader"])
    ledger.close()
    for file in kept.values():
        databases.check_sqlite(file)
    assert databases.jobs_of(kept["console"]) == (1, {1})

    url = str(request.getfixturevalue("other_postgres_url")) if target == "postgresql" else ""
    folder = tmp_path / "target"
    folder.mkdir()
    if url:
        for name, file in kept.items():
            databases.load_schema(url, name, file, aside=f"{name}_before")
        assert databases.has_jobs(url)
    else:
        kept["console"].rename(folder / "ops.db")
        kept["downloader"].rename(folder / "downloader.db")

    ledger = Database(location("console", folder / "ops.db", url))
    runs, items = RunStore(ledger), ItemStore(ledger)
    assert (runs.newest(states=(), before=None, limit=9), items.page(1, after=0, limit=9), runs.events(1)) == before
    assert items.counts(1) == counts
    assert runs.create(DRAFT, after=0, trace="u", config={}, at=now()).job_id == 2
    # Numbers go on after those that are there.
    items.apply([Told(sequence=3, at=now(), status=status("9"))], sequence=3)
    assert [item.status.key for item in items.page(1, after=0, limit=9)] == ["7", "8", "9"]
    ledger.close()
    rejects = RejectDatabase(location("downloader", folder / "downloader.db", url))
    assert rejects.get("ab" * 32) == reason
    rejects.close()


def test_what_is_in_postgresql_is_kept_aside(
    tmp_path: Path, postgres_url: str, postgres_server: PostgresServer
) -> None:
    ledger = Database(location("console", tmp_path / "ops.db", postgres_url))
    RunStore(ledger).create(DRAFT, after=40, trace="old", config={}, at=now())
    ledger.close()
    empty = tmp_path / "new.db"
    made = Database(location("console", empty, ""))
    made.close()
    # The second time as after an interruption: what was there at first stays aside.
    for _ in range(2):
        databases.load_schema(postgres_url, "console", empty, aside="console_before_x")
    assert not databases.has_jobs(postgres_url)
    name = postgres_url.rpartition("/")[2].partition("?")[0]
    assert postgres_server.execute("SELECT id FROM console_before_x.job_runs", name) == [(41,)]


def test_a_file_that_is_no_sound_database_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ops.db"
    file.write_bytes(b"SQLite format 3\x00" + b"\x00" * 5000)
    with pytest.raises(ArchiveDamaged, match="not a sound"):
        databases.check_sqlite(file)


def test_text_that_only_sqlite_takes_does_not_stop_a_restore(tmp_path: Path, postgres_url: str) -> None:
    file = tmp_path / "downloader.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE rejects (id INTEGER PRIMARY KEY, message TEXT)")
        database.execute("INSERT INTO rejects VALUES (1, ?)", ("a\x00b",))
        database.commit()
    databases.load_schema(postgres_url, "downloader", file, aside="downloader_before")
    databases.dump_schema(postgres_url, "downloader", tmp_path / "back.db")
    with closing(sqlite3.connect(tmp_path / "back.db")) as back:
        assert back.execute("SELECT message FROM rejects").fetchall() == [("a\ufffdb",)]


def test_a_server_that_is_away_is_one_sentence_without_the_password() -> None:
    with pytest.raises(RestoreFailed, match="same command again") as refused:
        databases.has_jobs("postgresql://music:hunter2@127.0.0.1:1/music")
    assert "hunter2" not in refused.value.message


def test_a_copy_is_consistent_while_others_write(tmp_path: Path) -> None:
    file = tmp_path / "a.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("CREATE TABLE t (n INTEGER)")
        writer.execute("INSERT INTO t VALUES (1)")
        writer.execute("BEGIN")
        writer.execute("INSERT INTO t VALUES (2)")
        databases.copy_sqlite(file, tmp_path / "copy.db")
        writer.execute("COMMIT")
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT n FROM t").fetchall() == [(1,)]
        assert copy.execute("PRAGMA journal_mode").fetchone() == ("delete",)
