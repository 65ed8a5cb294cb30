"""The main job on PostgreSQL: it completes as on SQLite, also when the server is killed in the middle."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.faults.test_faults_main_job import catalog_equals_replay, each_file_once, has_files, music  # noqa: F401
from tests.support.nats import NatsServer
from tests.support.postgres import PostgresServer
from tests.support.stack import SERVICES, Stack, free_port

pytestmark = pytest.mark.timeout(240)
LOGS = "console collector downloader second"


@pytest.fixture
def stack(tmp_path: Path, nats_server: NatsServer, postgres_of_its_own: PostgresServer) -> Iterator[Stack]:
    """A stack whose services keep their tables in PostgreSQL."""
    started = Stack(
        tmp_path,
        nats_server,
        IMPORT_MODE="copy",
        DATABASE_URL=postgres_of_its_own.url(),
        LOCAL_MEDIA_IMPORT_PATH=str(tmp_path / "music"),
    )
    yield started
    started.stop()


def test_the_main_job_on_postgresql(
    music: Path,  # noqa: F811
    stack: Stack,
    postgres_of_its_own: PostgresServer,
) -> None:
    stack.start_all(*SERVICES)
    stack.start("downloader", "second")
    sources = sorted(music.rglob("*.wav"))
    job = stack.job(sources=["local"])
    assert stack.wait_job(job) == "completed", stack.items(job)
    each_file_once(stack, sources)
    assert {item["status"] for item in stack.items(job, stage="download")} == {"succeeded"}
    (ended,) = postgres_of_its_own.execute("SELECT status FROM console.job_runs")
    assert ended == ("completed",)
    assert postgres_of_its_own.execute("SELECT count(*) FROM collector.songs") == [(len(sources),)]
    databases = sorted(path.name for path in (stack.root / "state").glob("*.db"))
    assert databases == ["catalog.db"], "what stays SQLite is the exporter's alone"
    catalog_equals_replay(stack, len(sources))
    with sqlite3.connect(stack.root / "state" / "catalog.db") as catalog:
        assert catalog.execute("SELECT count(*) FROM songs").fetchone() == (len(sources),)
    catalog.close()
    no_password_anywhere(stack, postgres_of_its_own)


def test_postgresql_killed_in_the_middle_of_a_job(
    music: Path,  # noqa: F811
    stack: Stack,
    postgres_of_its_own: PostgresServer,
) -> None:
    health = {service: free_port() for service in ("console", "collector", "downloader")}
    for service, port in health.items():
        stack.start(service, HEALTH_PORT=str(port))
    stack.start_all("exporter")
    sources = sorted(music.rglob("*.wav"))
    job = stack.job(sources=["local"])
    stack.until(lambda: len(stack.files()) >= 5, seconds=60, what="the first files")
    for _ in range(2):
        postgres_of_its_own.kill()
        for service, port in health.items():
            stack.until(partial(is_away, port), seconds=30, what=f"{service} to say that its database is away")
        answer = stack.http.get(f"/api/jobs/{job}")
        assert answer.status_code == 503, answer.text
        assert "DATABASE_URL" in answer.json()["message"] and postgres_of_its_own.password not in answer.text
        postgres_of_its_own.start()
        goal = min(len(sources), len(stack.files()) + 1)
        stack.until(partial(has_files, stack, goal), seconds=60, what="work to go on")

    assert stack.wait_job(job) == "completed", stack.items(job)
    each_file_once(stack, sources)
    assert {item["tries"] for item in stack.items(job, stage="download")} == {0}, "an item lost a try"
    catalog_equals_replay(stack, len(sources))
    for port in health.values():
        stack.until(lambda port=port: not is_away(port), seconds=30, what="readiness to come back")  # type: ignore[misc]
    no_password_anywhere(stack, postgres_of_its_own)


def is_away(port: int) -> bool:
    """Whether a service says at /readyz that its database is away."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False, timeout=5)
    except httpx.TransportError:
        return False
    return answer.status_code == 503 and "database-unavailable" in answer.text


def no_password_anywhere(stack: Stack, server: PostgresServer) -> None:
    """The password of DATABASE_URL is in no log."""
    for path in stack.logs.glob("*.log"):
        text = path.read_text(errors="replace")
        assert server.password not in text and server.url() not in text, path.name
        assert "Traceback" not in text, text[-3000:]
