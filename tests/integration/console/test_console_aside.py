"""Items that wait for a time of their own: out of the way of others, and back in time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from common.bus import Bus
from common.contracts.streams import WORK
from common.settings import Settings
from tests.support.console import ConsoleProcess, working
from tests.support.nats import NatsServer


@pytest.fixture
async def wire(settings: Settings, console: ConsoleProcess) -> AsyncIterator[Bus]:
    """The bus as a worker sees it: the console has made its streams."""
    bus = await Bus.connect(settings, service="test", instance="one")
    yield bus
    await bus.close()


@pytest.fixture
def narrow(tmp_path_factory: pytest.TempPathFactory, nats_server: NatsServer) -> ConsoleProcess:
    """A console whose lanes have four items under way at most."""
    return ConsoleProcess(tmp_path_factory.mktemp("narrow"), nats_server, SOURCE_MAX_IN_FLIGHT="4")


async def test_many_that_wait_cost_the_others_nothing_and_lose_no_try(
    narrow: ConsoleProcess, settings: Settings
) -> None:
    narrow.start()
    bus = await Bus.connect(settings, service="test", instance="one")
    try:
        narrow.ok("POST", "/api/jobs", json={"job_type": "download_only"})
        waiting = [f"later {number}" for number in range(40)]
        async with working(bus, settings, [*waiting, "sound one", "sound two"]) as workers:
            # Ten times as many wait as the lane may have under way, and all of them stand before these two.
            await narrow.until("/api/jobs/1", lambda job: bool(job["totals"]["succeeded"] >= 2), seconds=5)
            assert {"sound one", "sound two"} <= set(workers.done)
            assert (await bus.js.stream_info(WORK)).state.messages == 0
            shown = narrow.ok("GET", "/api/jobs/1/items", params={"state": "queued", "stage": "download"})["items"]
            assert len(shown) == len(waiting)
            assert {item["tries"] for item in shown} == {0}
            assert all(item["next_try_at"] and "music.example.org" in item["reason"]["message"] for item in shown)
            job = narrow.ok("GET", "/api/jobs/1")
            download = next(stage for stage in job["stages"] if stage["stage"] == "download")
            assert (job["state"], download["state"]) == ("running", "running")
            ended = await narrow.until_state(1, "completed")
            assert ended["totals"]["succeeded"] == 42
            assert sorted(workers.done) == sorted([*waiting, "sound one", "sound two"]), "each of them once"
    finally:
        await bus.close()
        narrow.close()


async def test_what_waits_is_put_back_by_a_console_that_was_killed_meanwhile(
    console: ConsoleProcess, wire: Bus, settings: Settings
) -> None:
    console.ok("POST", "/api/jobs", json={"job_type": "download_only"})
    async with working(wire, settings, ["later one", "later two"]) as workers:
        await console.until("/api/jobs/1/items?state=queued", lambda page: _waiting(page) == 2)
        console.kill()
        console.start()
        await console.until_state(1, "completed")
        assert sorted(workers.done) == ["later one", "later two"]


async def test_a_person_need_not_wait(console: ConsoleProcess, wire: Bus, settings: Settings) -> None:
    console.ok("POST", "/api/jobs", json={"job_type": "download_only"})
    async with working(wire, settings, ["much later"]) as workers:
        page = await console.until("/api/jobs/1/items?state=queued", lambda page: _waiting(page) == 1)
        console.command(1, "retry_item", page["items"][0]["id"])
        await console.until_state(1, "completed")
        assert workers.done == ["much later"]


async def test_canceling_a_job_ends_what_waits(console: ConsoleProcess, wire: Bus, settings: Settings) -> None:
    console.ok("POST", "/api/jobs", json={"job_type": "download_only"})
    async with working(wire, settings, ["later", "much later"]) as workers:
        await console.until("/api/jobs/1/items?state=queued", lambda page: _waiting(page) == 2)
        console.command(1, "cancel")
        job = await console.until("/api/jobs/1", lambda job: bool(job["totals"]["canceled"] == 2))
        assert job["state"] == "canceled"
        assert workers.done == []


def _waiting(page: dict[str, object]) -> int:
    items = page["items"]
    assert isinstance(items, list)
    return sum(1 for item in items if item["next_try_at"])
