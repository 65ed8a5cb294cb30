"""The console as a person sees it, in a real browser."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from common.bus import Bus
from common.settings import Settings
from tests.support.browser import browser
from tests.support.console import ConsoleProcess, working
from tests.support.nats import NatsServer

HOSTILE = "bad <script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


@pytest.fixture
def console(tmp_path: Path, nats_server: NatsServer) -> Iterator[ConsoleProcess]:
    process = ConsoleProcess(tmp_path, nats_server)
    process.start()
    yield process
    process.close()


@pytest.fixture
async def wire(settings: Settings, console: ConsoleProcess) -> AsyncIterator[Bus]:
    bus = await Bus.connect(settings, service="test", instance="one")
    yield bus
    await bus.close()


async def log_in(page: Page, console: ConsoleProcess) -> None:
    await page.goto(f"{console.url}/dashboard")
    await page.get_by_label("Credential").fill(console.token)
    await page.get_by_role("button", name="Log in").click()
    await page.wait_for_url("**/dashboard")


async def test_a_job_is_started_followed_live_and_its_failure_retried(
    console: ConsoleProcess, wire: Bus, settings: Settings
) -> None:
    songs = [f"song {number}" for number in range(8)] + [HOSTILE, "slow one", "slow two"]
    async with browser() as chromium, working(wire, settings, songs) as workers:
        page = await chromium.new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        await log_in(page, console)
        await expect(page.get_by_text("No job has run yet.")).to_be_visible()
        await page.get_by_label("Job", exact=True).select_option("download_only")
        await page.get_by_role("button", name="Start").click()
        await page.wait_for_url("**/jobs/1")
        await page.goto(f"{console.url}/dashboard")
        await expect(page.locator("#link-state")).to_have_text("live")
        # From here on nothing is loaded again by hand: what changes, changes by itself.
        stage = page.locator("#job-1-download")
        await expect(stage).to_contain_text("9 / 11", timeout=20_000)
        await expect(stage).to_contain_text("2 running")
        await expect(page.locator("#worker-download-1")).to_contain_text("slow one")
        failures = page.get_by_role("region", name="Failures")
        await expect(failures).to_contain_text("This file is not audio, it is a web page.")
        await expect(failures).to_contain_text("<script>document.title")
        workers.gate.set()
        job = page.get_by_role("article", name="Job 1")
        await expect(job).to_contain_text("completed with errors", timeout=20_000)
        await expect(page.locator("#downloaded")).to_have_text("10")
        assert await page.title() == "Dashboard · Music Cloud"
        await failures.get_by_role("button", name="Retry").click()
        await page.wait_for_url("**/dashboard")
        await expect(page.get_by_role("article", name="Job 1")).to_contain_text("completed with errors", timeout=20_000)
        assert workers.started.count(HOSTILE) == 2
        assert complaints == []


async def test_pages_fit_a_phone_and_work_without_scripts(
    console: ConsoleProcess, wire: Bus, settings: Settings
) -> None:
    async with browser() as chromium:
        context = await chromium.new_context(
            viewport={"width": 390, "height": 844}, java_script_enabled=False, color_scheme="dark"
        )
        page = await context.new_page()
        await page.goto(f"{console.url}/login")
        await page.get_by_label("Credential").fill("a wrong credential")
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("alert")).to_contain_text("not the console's credential")
        await log_in(page, console)
        await page.get_by_label("Job", exact=True).select_option("collect_only")
        await page.get_by_role("button", name="Start").click()
        await page.wait_for_url("**/jobs/1")
        async with working(wire, settings, []):
            await console.until_state(1, "completed")
        await page.goto(f"{console.url}/jobs/1")
        await expect(page.locator("main")).to_contain_text("completed")
        for path in ("/dashboard", "/jobs", "/jobs/1"):
            await page.goto(console.url + path)
            box = await page.locator("header").bounding_box()
            assert box is not None
            assert box["width"] <= 390, path
        await page.goto(f"{console.url}/jobs/99")
        await expect(page.get_by_role("alert")).to_contain_text("There is no job 99.")
        await page.get_by_role("button", name="Log out").click()
        await page.wait_for_url("**/login")
        await page.goto(f"{console.url}/dashboard")
        await expect(page).to_have_url(f"{console.url}/login?next=%2Fdashboard")
