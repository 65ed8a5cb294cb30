"""Schedules on a real console: they run, do not overlap, and catch up once after it was down."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.support.console import ConsoleProcess


def add(console: ConsoleProcess, **wishes: Any) -> dict[str, Any]:
    wanted = {"name": "often", "job_type": "collect_only", "every_seconds": 60, **wishes}
    return console.ok("POST", "/api/schedules", json=wanted)


def make_due(console: ConsoleProcess, *, minutes: int) -> None:
    """As if the console had been down: the schedule was due so long ago."""
    past = (datetime.now(UTC) - timedelta(minutes=minutes)).replace(tzinfo=None)
    database = sqlite3.connect(_database(console.root), timeout=20)
    with database:
        database.execute("UPDATE job_schedules SET next_at = ?", (past.isoformat(sep=" "),))
    database.close()


def _database(root: Path) -> Path:
    return root / "state" / "ops.db"


async def test_a_missed_run_happens_once_late_and_runs_do_not_overlap(console: ConsoleProcess) -> None:
    made = add(console, cron="0 4 * * *", every_seconds=None)
    console.kill()
    make_due(console, minutes=60 * 24 * 7)
    console.start()
    page = await console.until("/api/jobs", lambda page: len(page["items"]) == 1)
    (job,) = page["items"]
    # The job is shown as soon as it is made, and written into its schedule right after.
    page = await console.until("/api/schedules", lambda page: page["items"][0]["last_job_id"] is not None)
    (schedule,) = page["items"]
    assert (schedule["id"], schedule["last_job_id"]) == (made["id"], job["job_id"])
    assert datetime.fromisoformat(schedule["next_at"]) > datetime.now(UTC)
    # Nobody works on the first one, so that it still runs when the next is due.
    console.kill()
    make_due(console, minutes=1)
    console.start()
    await console.until("/api/schedules", lambda page: "still running" in page["items"][0]["note"])
    assert len(console.ok("GET", "/api/jobs")["items"]) == 1


async def test_a_schedule_that_rests_makes_no_job(console: ConsoleProcess) -> None:
    made = add(console)
    changed = console.ok("PATCH", f"/api/schedules/{made['id']}", json={"enabled": False})
    assert changed["next_at"] is None
    console.kill()
    make_due(console, minutes=10)
    console.start()
    other = add(console, name="other", job_type="sync_only")
    console.kill()
    database = sqlite3.connect(_database(console.root), timeout=20)
    with database:
        database.execute("UPDATE job_schedules SET next_at = '2020-01-01 00:00:00.000000'")
    database.close()
    console.start()
    page = await console.until("/api/jobs", lambda page: bool(page["items"]))
    assert [job["job_type"] for job in page["items"]] == ["sync_only"]
    # What it missed while it rested does not happen when it goes on.
    assert console.ok("PATCH", f"/api/schedules/{made['id']}", json={"enabled": True})["next_at"] is not None
    assert console.http.delete(f"/api/schedules/{other['id']}").status_code == 204
    assert [one["id"] for one in console.ok("GET", "/api/schedules")["items"]] == [made["id"]]


def test_what_cannot_run_is_refused(console: ConsoleProcess) -> None:
    rows: list[tuple[dict[str, Any], str]] = [
        ({"cron": "nonsense", "every_seconds": None}, "cron-unreadable"),
        ({"cron": "* * * * *"}, "cron-or-every"),
        ({"sources": ["nowhere"]}, "unknown-source"),
        ({"every_seconds": 1}, "invalid-request"),
        ({"name": ""}, "invalid-request"),
    ]
    for wishes, code in rows:
        wanted = {"name": "x", "job_type": "collect_only", "every_seconds": 60, **wishes}
        answer = console.http.post("/api/schedules", json=wanted)
        assert (answer.status_code, answer.json()["code"]) == (422, code), wishes
    assert console.http.patch("/api/schedules/7", json={"enabled": True}).status_code == 404
    form = {"name": "<b>night</b>", "job_type": "full", "cron": "30 3 * * *"}
    page = console.http.post("/schedules", data=form, headers={"Origin": console.url}, follow_redirects=True)
    assert page.status_code == 200
    assert "&lt;b&gt;night" in page.text
