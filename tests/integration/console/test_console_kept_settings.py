"""What a job keeps of the downloaders' settings, from its beginning to its end."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest

from common.bus import Bus
from common.contracts.envelope import now
from common.contracts.jobs import KEPT_DETAIL, ActiveJob
from common.contracts.names import ImportMode
from common.contracts.status import Heartbeat
from common.settings import Settings
from tests.support.console import ConsoleProcess
from tests.support.jobs import read_jobs
from tests.support.ledger import lose_ledger


@pytest.fixture
def console_database(database_url: str) -> str:
    """Every test here runs on SQLite and on PostgreSQL."""
    return database_url


@pytest.fixture
async def wire(settings: Settings, console: ConsoleProcess) -> AsyncIterator[Bus]:
    """The bus as a downloader sees it: the console has made its streams."""
    bus = await Bus.connect(settings, service="test", instance="one")
    yield bus
    await bus.close()


async def a_downloader_runs(wire: Bus, console: ConsoleProcess, mode: str, layout: str) -> None:
    """One that was started now, with these settings; the console has heard of it."""
    instance = secrets.token_hex(4)
    detail = {KEPT_DETAIL: {"import_mode": mode, "download_layout": layout}}
    beat = Heartbeat(service="downloader", instance=instance, started_at=now(), ready=True, detail=detail)
    await wire.send(beat.subject, beat, id=secrets.token_hex(8))
    await console.until(
        "/api/dashboard", lambda board: any(worker["instance"] == instance for worker in board["workers"])
    )


async def seen(wire: Bus, job_id: int) -> ActiveJob:
    job = (await read_jobs(wire)).job(job_id)
    assert job is not None
    return job


async def test_a_job_keeps_what_the_downloaders_had_when_it_was_made(console: ConsoleProcess, wire: Bus) -> None:
    await a_downloader_runs(wire, console, "copy", "{platform}/{name}.{ext}")
    console.ok("POST", "/api/jobs", json={"job_type": "download_only", "sources": ["local"]})
    await a_downloader_runs(wire, console, "reference", "{name}.{ext}")
    console.command(1, "pause")
    console.command(1, "resume")
    console.ok("POST", "/api/jobs", json={"job_type": "download_only", "sources": ["feed"]})
    first, second = await seen(wire, 1), await seen(wire, 2)
    assert (first.import_mode, first.download_layout) == (ImportMode.COPY, "{platform}/{name}.{ext}")
    assert (second.import_mode, second.download_layout) == (ImportMode.REFERENCE, "{name}.{ext}")
    assert console.ok("GET", "/api/jobs/1")["config"]["import_mode"] == "copy"
    console.kill()
    lose_ledger(console)
    console.start()
    assert await seen(wire, 1) == first
    assert console.ok("GET", "/api/jobs/1")["config"]["import_mode"] == "copy"


async def test_a_job_made_without_a_downloader_keeps_what_the_first_one_has(console: ConsoleProcess, wire: Bus) -> None:
    console.ok("POST", "/api/jobs", json={"job_type": "download_only", "sources": ["local"]})
    assert (await seen(wire, 1)).import_mode is None
    await a_downloader_runs(wire, console, "hardlink", "{name}.{ext}")
    await console.until("/api/jobs/1", lambda job: job["config"].get("import_mode") == "hardlink")
    await a_downloader_runs(wire, console, "copy", "{platform}/{name}.{ext}")
    kept = await seen(wire, 1)
    assert (kept.import_mode, kept.download_layout) == (ImportMode.HARDLINK, "{name}.{ext}")
