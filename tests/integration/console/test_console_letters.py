"""Dead letters: listed with reason and payload, replayed singly or all, gone when they are settled."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator

import pytest

from common.bus import Bus
from common.contracts.names import Stage
from common.contracts.status import DeadLetter, Reason
from common.contracts.streams import WORK
from common.settings import Settings
from tests.support.console import ConsoleProcess, working


@pytest.fixture
async def wire(settings: Settings, console: ConsoleProcess) -> AsyncIterator[Bus]:
    """The bus as a worker sees it: the console has made its streams."""
    bus = await Bus.connect(settings, service="test", instance="one")
    yield bus
    await bus.close()


def letters(console: ConsoleProcess) -> list[dict[str, object]]:
    found: list[dict[str, object]] = console.ok("GET", "/api/dead")["items"]
    return found


async def test_a_letter_is_replayed_in_its_job_and_is_gone(
    console: ConsoleProcess, wire: Bus, settings: Settings
) -> None:
    console.ok("POST", "/api/jobs", json={"job_type": "download_only"})
    async with working(wire, settings, [f"bad {number}" for number in range(5)]) as workers:
        await console.until_state(1, "completed_with_errors")
        found = letters(console)
        assert len(found) == 5
        assert all("bad" in str(letter["payload"]) and letter["job_id"] == 1 for letter in found)
        workers.mended = True
        said = console.ok("POST", f"/api/dead/{found[0]['id']}/replay")["message"]
        assert "is tried again" in said
        await console.until("/api/jobs/1", lambda job: bool(job["totals"]["succeeded"] == 1))
        assert [letter["id"] for letter in letters(console)] == [letter["id"] for letter in found[1:]]
        gone = console.http.post(f"/api/dead/{found[0]['id']}/replay")
        assert (gone.status_code, gone.json()["code"]) == (404, "no-such-letter")
        assert console.ok("POST", "/api/dead/replay") == {"replayed": 4, "refused": 0}
        await console.until_state(1, "completed")
        assert letters(console) == []
        page = console.http.get("/dead", headers={"Accept": "text/html"}).text
        assert "everything could be handled" in page


async def test_replaying_all_ends_although_they_fail_again(
    console: ConsoleProcess, wire: Bus, settings: Settings
) -> None:
    console.ok("POST", "/api/jobs", json={"job_type": "download_only"})
    songs = [f"bad {number}" for number in range(30)]
    async with working(wire, settings, songs) as workers:
        await console.until_state(1, "completed_with_errors")
        before = letters(console)
        # While it is asked, the workers write new letters behind those of the beginning.
        answer = await asyncio.to_thread(console.ok, "POST", "/api/dead/replay")
        assert answer == {"replayed": 30, "refused": 0}
        await console.until("/api/dead", lambda page: len(page["items"]) == 30)
        await console.until_state(1, "completed_with_errors")
    assert sorted(workers.started) == sorted(songs * 2), "each was tried once more"
    assert {letter["id"] for letter in letters(console)}.isdisjoint(letter["id"] for letter in before)


async def test_the_letter_of_an_item_that_is_being_tried_stays(
    console: ConsoleProcess, wire: Bus, settings: Settings
) -> None:
    console.ok("POST", "/api/jobs", json={"job_type": "download_only"})
    async with working(wire, settings, ["slow one"]) as workers:
        await console.until("/api/jobs/1", lambda job: bool(job["totals"]["running"] == 1))
        subject = "song.download.requested.1.local.1"
        item = await wire.js.get_last_msg(WORK, subject)
        assert item.data is not None
        letter = DeadLetter(
            from_subject=subject,
            reason=Reason(code="x", message="x"),
            payload=base64.b64encode(item.data).decode(),
            job_id=1,
            stage=Stage.DOWNLOAD,
        )
        await wire.publish(f"dead.{subject}", letter, msg_id=secrets.token_hex(8))
        (found,) = letters(console)
        said = console.http.post(f"/api/dead/{found['id']}/replay")
        assert (said.status_code, said.json()["code"]) == (409, "item-not-ended")
        assert console.ok("POST", "/api/dead/replay") == {"replayed": 0, "refused": 1}
        assert letters(console) == [found]
        workers.gate.set()
        await console.until_state(1, "completed")
    assert "has not failed" in console.ok("POST", f"/api/dead/{found['id']}/replay")["message"]
    assert letters(console) == []


async def test_a_retry_from_elsewhere_settles_the_letter_too(
    console: ConsoleProcess, wire: Bus, settings: Settings
) -> None:
    console.ok("POST", "/api/jobs", json={"job_type": "download_only"})
    async with working(wire, settings, ["bad one", "bad two"]) as workers:
        await console.until_state(1, "completed_with_errors")
        workers.mended = True
        console.ok("POST", "/api/jobs/1/commands", json={"command_type": "retry_failed"})
        await console.until_state(1, "completed")
    assert letters(console) == [], "what has succeeded is not listed as failed"


async def test_what_is_not_ours_can_be_put_back_while_its_job_runs_or_removed(
    console: ConsoleProcess, wire: Bus, settings: Settings
) -> None:
    console.ok("POST", "/api/jobs", json={"job_type": "download_only"})
    async with working(wire, settings, ["slow one"]) as workers:
        await console.until("/api/dashboard", lambda board: any(worker["items"] for worker in board["workers"]))
        subject = "song.download.requested.1.local.77"
        await wire.js.publish(subject, b"<script>alert(1)</script>", headers={"Nats-Msg-Id": secrets.token_hex(8)})
        await console.until("/api/dead", lambda page: len(page["items"]) == 1)
        (letter,) = letters(console)
        assert letter["reason"]["code"] == "undecodable"  # type: ignore[index]
        page = console.http.get("/dead", headers={"Accept": "text/html"}).text
        assert "<script>alert" not in page
        # The program may have been upgraded since: it goes back, and is refused once more.
        assert "back in the queue" in console.ok("POST", f"/api/dead/{letter['id']}/replay")["message"]
        await console.until("/api/dead", lambda page: [one["id"] for one in page["items"]] not in ([], [letter["id"]]))
        workers.gate.set()
        await console.until_state(1, "completed")
    (letter,) = letters(console)
    ended = console.http.post(f"/api/dead/{letter['id']}/replay")
    assert (ended.status_code, ended.json()["code"]) == (409, "job-ended")
    stranger = DeadLetter(from_subject="x.y", reason=Reason(code="x", message="x"), payload="AAAA")
    await wire.publish("dead.x.y", stranger, msg_id=secrets.token_hex(8))
    # One that would have the console write what only the console may write, in the name of a job that runs.
    job = console.ok("POST", "/api/jobs", json={"job_type": "download_only"})["job_id"]
    before = await wire.last("KV_JOBS", "$KV.JOBS.active")
    forged = DeadLetter(
        from_subject="$KV.JOBS.active", reason=Reason(code="x", message="x"), payload="AAAA", job_id=job
    )
    await wire.publish("dead.song.download.requested.9", forged, msg_id=secrets.token_hex(8))
    refused = [one for one in letters(console) if one["from_subject"] == "$KV.JOBS.active"]
    said = console.http.post(f"/api/dead/{refused[0]['id']}/replay")
    assert (said.status_code, said.json()["code"]) == (409, "not-ours")
    after = await wire.last("KV_JOBS", "$KV.JOBS.active")
    assert before is not None
    assert after is not None
    assert b"AAAA" not in after.data
    assert len(after.data) > 100
    console.command(job, "cancel")
    assert console.http.delete(f"/api/dead/{refused[0]['id']}").status_code == 204
    assert console.ok("POST", "/api/dead/replay") == {"replayed": 0, "refused": 2}
    for one in letters(console):
        assert console.http.delete(f"/api/dead/{one['id']}").status_code == 204
    assert letters(console) == []
