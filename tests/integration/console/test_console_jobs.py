"""Jobs through the console's API, with real workers on a real bus."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from common.bus import Bus
from common.contracts.streams import STATUS, WORK
from common.settings import Settings
from tests.support.console import ConsoleProcess, working
from tests.support.disks import fill, small_disk
from tests.support.jobs import read_jobs
from tests.support.ledger import ledger, lose_ledger
from tests.support.nats import NatsServer


@pytest.fixture
def console_database(database_url: str) -> str:
    """Every test here runs on SQLite and on PostgreSQL."""
    return database_url


@pytest.fixture
async def wire(settings: Settings, console: ConsoleProcess) -> AsyncIterator[Bus]:
    """The bus as a worker sees it: the console has made its streams."""
    bus = await Bus.connect(settings, service="test", instance="one")
    yield bus
    await bus.close()


def make(console: ConsoleProcess, job_type: str = "download_only", **wishes: Any) -> dict[str, Any]:
    return console.ok("POST", "/api/jobs", json={"job_type": job_type, **wishes})


async def until_row(database: Connection, query: str) -> None:
    """Wait until the console has written what ``query`` finds."""
    async with asyncio.timeout(20):
        while database.execute(text(query)).fetchone() is None:
            await asyncio.sleep(0.1)


async def test_a_job_runs_to_its_end_and_leaves_nothing_on_the_bus(
    console: ConsoleProcess, wire: Bus, settings: Settings
) -> None:
    answer = console.http.post("/api/jobs", json={"job_type": "download_only"})
    assert answer.status_code == 202
    job = answer.json()
    assert (job["job_id"], job["state"], job["already_running"]) == (1, "running", False)
    async with working(wire, settings, [f"song {number}" for number in range(20)]):
        ended = await console.until_state(1, "completed")
    download = next(stage for stage in ended["stages"] if stage["stage"] == "download")
    assert (download["counts"]["succeeded"], download["total"], download["state"]) == (20, 20, "completed")
    assert (await read_jobs(wire)).jobs == ()
    work = await wire.js.stream_info(WORK)
    assert (work.state.messages, work.state.consumer_count) == (0, 0)
    page = console.ok("GET", "/api/jobs/1/items", params={"stage": "download", "limit": 15})
    rest = console.ok("GET", "/api/jobs/1/items", params={"stage": "download", "cursor": page["next"]})
    assert (len(page["items"]), len(rest["items"]), rest["next"]) == (15, 5, None)
    assert console.ok("GET", "/api/dashboard")["download_stats"]["downloaded_songs"] == 20


async def test_the_same_job_asked_for_twice_while_it_runs_is_one_job(console: ConsoleProcess) -> None:
    first = make(console, sources=["local"])
    answer = console.http.post("/api/jobs", json={"job_type": "download_only", "sources": ["local"]})
    assert answer.status_code == 200
    assert (answer.json()["job_id"], answer.json()["already_running"]) == (first["job_id"], True)
    other = make(console, sources=["feed"])
    assert other["job_id"] == first["job_id"] + 1


async def test_wishes_that_cannot_be_met_are_refused_with_a_sentence(console: ConsoleProcess) -> None:
    rows: list[tuple[dict[str, Any], int, str, str]] = [
        ({"job_type": "full", "sources": ["nowhere"]}, 422, "unknown-source", "local, feed"),
        ({"job_type": "full", "download_sources": ["../x"]}, 422, "unknown-source", "local, feed"),
        ({"job_type": "upload_only"}, 409, "no-object-store", "OBJECT_BUCKET"),
        ({"job_type": "everything"}, 422, "invalid-request", "job_type"),
        ({"job_type": "full", "unknown": 1}, 422, "invalid-request", "unknown"),
        ({"job_type": "full", "priority": 99}, 422, "invalid-request", "priority"),
    ]
    for body, status, code, words in rows:
        answer = console.http.post("/api/jobs", json=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), body
        assert words in answer.json()["message"]
    assert console.http.post("/api/jobs", content=b"{").status_code == 422
    assert console.http.post("/api/jobs", content=b"x" * 300_000).status_code == 413
    assert console.ok("GET", "/api/jobs") == {"items": [], "next": None}
    full = make(console, "full")
    assert [stage["stage"] for stage in full["stages"]] == ["plan", "collect", "sync", "download"]
    assert "No object store" in full["notes"][0]


async def test_a_failure_is_shown_with_its_reason_and_can_be_retried_and_forced(
    console: ConsoleProcess, wire: Bus, settings: Settings
) -> None:
    make(console)
    async with working(wire, settings, ["good", "bad <script>alert(1)</script>"]) as workers:
        job = await console.until_state(1, "completed_with_errors")
        assert job["totals"]["failed"] == 1
        board = console.ok("GET", "/api/dashboard")
        (failure,) = board["failures"]
        assert failure["reason"] == {"code": "not-audio", "message": "This file is not audio, it is a web page."}
        letters = console.ok("GET", "/api/dead")["items"]
        assert letters[0]["reason"]["code"] == "not-audio"
        good = next(
            item
            for item in console.ok("GET", "/api/jobs/1/items", params={"state": "succeeded"})["items"]
            if item["title"] == "good"
        )
        refused = console.http.post(
            "/api/jobs/1/commands", json={"command_type": "retry_item", "target_item_id": good["id"]}
        )
        assert (refused.status_code, refused.json()["code"]) == (409, "item-not-failed")
        # A retry reopens the job; the file is still no music.
        assert console.command(1, "retry_item", failure["id"])["state"] == "running"
        await console.until_state(1, "completed_with_errors")
        assert workers.started.count("bad <script>alert(1)</script>") == 2
        # A person's override passes.
        console.command(1, "force_retry_item", failure["id"])
        ended = await console.until_state(1, "completed")
        assert ended["totals"]["succeeded"] == 2
        page = console.http.get("/jobs/1", headers={"Accept": "text/html"}).text
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)" in page
        assert console.ok("GET", "/api/dead")["items"] == [], "what has succeeded is no dead letter any more"


async def test_paused_means_that_nothing_starts_and_resume_goes_on(
    console: ConsoleProcess, wire: Bus, settings: Settings
) -> None:
    make(console)
    async with working(wire, settings, [f"slow {number}" for number in range(12)]) as workers:
        board = await console.until(
            "/api/dashboard", lambda board: any(len(worker["items"]) == 2 for worker in board["workers"])
        )
        (worker,) = [one for one in board["workers"] if one["service"] == "downloader"]
        assert (worker["worker_name"], worker["status"]) == ("download-1", "busy")
        assert worker["current_song"].startswith("slow")
        assert console.command(1, "pause")["state"] == "pause_requested"
        await asyncio.sleep(1.5)
        assert console.ok("GET", "/api/jobs/1")["state"] == "pause_requested", "two items are still running"
        workers.gate.set()
        await console.until_state(1, "paused")
        started = len(workers.started)
        await asyncio.sleep(1.5)
        assert len(workers.started) == started
        assert console.command(1, "pause")["state"] == "paused"
        assert console.command(1, "resume")["state"] == "running"
        ended = await console.until_state(1, "completed")
    assert ended["totals"]["succeeded"] == 12
    assert sorted(workers.done) == sorted(set(workers.done))
    refused = console.http.post("/api/jobs/1/commands", json={"command_type": "resume"})
    assert (refused.status_code, refused.json()["code"]) == (409, "job-ended")


async def test_cancel_ends_every_item_and_clears_the_queue(
    console: ConsoleProcess, wire: Bus, settings: Settings
) -> None:
    make(console)
    async with working(wire, settings, [f"slow {number}" for number in range(300)]) as workers:
        await console.until("/api/jobs/1", lambda job: job["totals"]["running"] == 2)
        assert console.command(1, "cancel")["state"] == "canceled"
        canceled = await console.until("/api/jobs/1", lambda job: job["totals"]["canceled"] == 300)
        assert canceled["totals"]["queued"] == 0
        started = len(workers.started)
        await asyncio.sleep(1)
        assert len(workers.started) == started
    assert (await wire.js.stream_info(WORK)).state.messages == 0
    assert console.command(1, "cancel")["state"] == "canceled"


async def test_a_console_that_is_killed_goes_on_where_it_was(
    console: ConsoleProcess, wire: Bus, settings: Settings
) -> None:
    make(console)
    async with working(wire, settings, [f"slow {number}" for number in range(6)]) as workers:
        await console.until("/api/jobs/1", lambda job: job["totals"]["running"] == 2)
        console.kill()
        workers.gate.set()
        console.start()
        ended = await console.until_state(1, "completed")
    assert ended["totals"]["succeeded"] == 6
    assert sorted(workers.done) == sorted(set(workers.done))


async def test_a_lost_ledger_takes_running_jobs_over_from_the_bus(
    console: ConsoleProcess, wire: Bus, settings: Settings
) -> None:
    make(console, sources=["local"], priority=2)
    async with working(wire, settings, [f"slow {number}" for number in range(4)]) as workers:
        await console.until("/api/jobs/1", lambda job: job["totals"]["running"] == 2)
        console.kill()
        lose_ledger(console)
        console.start()
        job = console.ok("GET", "/api/jobs/1")
        assert (job["state"], job["sources"], job["priority"]) == ("running", ["local"], 2)
        workers.gate.set()
        ended = await console.until_state(1, "completed")
        assert ended["totals"]["succeeded"] == 4
        assert make(console, "collect_only")["job_id"] == 2


async def test_a_bus_that_lost_everything_gets_its_jobs_back(
    console: ConsoleProcess, nats_server: NatsServer, settings: Settings
) -> None:
    make(console)
    console.kill()
    nats_server.stop()
    for child in (nats_server.directory / "store").iterdir():
        shutil.rmtree(child)
    nats_server.restart()
    console.start()
    bus = await Bus.connect(settings, service="test", instance="two")
    try:
        (job,) = (await read_jobs(bus)).jobs
        assert job.job_id == 1
        async with working(bus, settings, ["one", "two"]):
            ended = await console.until_state(1, "completed")
        assert ended["totals"]["succeeded"] == 2
    finally:
        await bus.close()


async def test_recovery_pause_makes_found_jobs_wait_for_a_person(
    console: ConsoleProcess, wire: Bus, settings: Settings
) -> None:
    make(console)
    console.kill()
    console.environment["RECOVERY"] = "pause"
    console.start()
    assert (await console.until_state(1, "paused"))["state"] == "paused"
    async with working(wire, settings, ["song"]) as workers:
        await asyncio.sleep(1)
        assert workers.started == []
        console.command(1, "resume")
        await console.until_state(1, "completed")


async def test_a_status_that_is_not_ours_does_not_stop_the_projection(
    console: ConsoleProcess, wire: Bus, settings: Settings
) -> None:
    await wire.js.publish("item.9.download.local.1", b"\x00 not ours", stream=STATUS)
    make(console)
    async with working(wire, settings, ["song"]):
        await console.until_state(1, "completed")


async def test_the_ledger_has_the_tables_that_were_promised(
    console: ConsoleProcess, wire: Bus, settings: Settings
) -> None:
    make(console)
    async with working(wire, settings, ["song", "bad one"]):
        await console.until_state(1, "completed_with_errors")
    with ledger(console) as database:
        job = database.execute(text("SELECT job_type, status, config_snapshot_json FROM job_runs")).one()
        assert tuple(job[:2]) == ("download_only", "completed_with_errors")
        assert console.token not in str(job[2])
        found = database.execute(text("SELECT title, last_error FROM job_items WHERE item_type = 'download'"))
        items = {row.title: row.last_error for row in found}
        assert items == {"song": None, "bad one": "This file is not audio, it is a web page."}
        assert database.scalar(text("SELECT count(*) FROM job_stages")) == 2
        await until_row(
            database, "SELECT 1 FROM job_workers WHERE worker_name = 'download-1' AND status IN ('busy', 'idle')"
        )
        await until_row(database, "SELECT 1 FROM job_logs WHERE level = 'error' AND item = 'bad one'")
        for table in ("job_commands", "job_events", "config_revisions"):
            database.execute(text(f"SELECT count(*) FROM {table}")).one()


async def test_ends_within_two_seconds_although_somebody_listens(console: ConsoleProcess) -> None:
    with console.http.stream("GET", "/api/events/stream", timeout=30) as stream:
        lines = stream.iter_lines()
        assert next(line for line in lines if line.startswith("event:")) == "event: dashboard"
        begun = time.monotonic()
        took = await asyncio.to_thread(console.stop)
        assert took < 2.0
        list(lines)
        assert time.monotonic() - begun < 3.0
    assert console.process is not None
    assert console.process.returncode == 0


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_full_disk_is_said_and_the_job_goes_on_when_there_is_space(
    tmp_path: Path, nats_server: NatsServer, settings: Settings, database_url: str
) -> None:
    assert not database_url
    with small_disk(tmp_path / "disk", size="2m") as disk:
        console = ConsoleProcess(tmp_path, nats_server, OPS_DB_PATH=str(disk / "ops.db"))
        console.start()
        bus = await Bus.connect(settings, service="test", instance="one")
        try:
            make(console)
            filler = fill(disk)
            async with working(bus, settings, [f"song {number}" for number in range(300)]):
                async with asyncio.timeout(30):
                    while "disk is full" not in str(console.ok("GET", "/api/dashboard")["workers"]):
                        await asyncio.sleep(0.1)
                refused = console.http.post("/api/jobs", json={"job_type": "sync_only"})
                assert (refused.status_code, refused.json()["code"]) == (503, "ledger-unwritable")
                filler.unlink()
                ended = await console.until_state(1, "completed")
            download = next(stage for stage in ended["stages"] if stage["stage"] == "download")
            assert download["counts"]["succeeded"] == 300
        finally:
            await bus.close()
            console.close()
