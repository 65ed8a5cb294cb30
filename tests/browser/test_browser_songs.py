"""A song that was found only doubtfully: a person looks at the recordings, chooses one, and sees it stored."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.support.browser import browser
from tests.support.lost_song import stack_of_a_lost_song
from tests.support.nats import NatsServer
from tests.support.source_apis import JamendoApi
from tests.support.stack import Stack

HOSTILE = "Night Sung <script>document.title='owned'</script>"


@pytest.fixture
def jamendo() -> Iterator[JamendoApi]:
    api = JamendoApi()
    api.songs = [
        api.entry(1, name="Night Song", artist_name="Singr", duration=2),
        api.entry(2, name="Night Song (Remix)", artist_name="Singer", duration=2),
        api.entry(3, name=HOSTILE, artist_name="Singer", duration=2),
    ]
    yield api
    api.close()


@pytest.fixture
def stack(tmp_path: Path, nats_server: NatsServer, jamendo: JamendoApi) -> Iterator[Stack]:
    running = stack_of_a_lost_song(tmp_path, nats_server, jamendo)
    running.start_all("console", "collector", "downloader")
    yield running
    running.stop()


async def reload_until(page: Page, words: str, *, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while words not in await page.locator("main").inner_text():
            await asyncio.sleep(0.2)
            await page.reload()


async def fits(page: Page) -> None:
    widths = await page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert widths[0] <= widths[1], await page.evaluate("location.pathname")


async def test_a_person_finds_a_doubtful_song_and_chooses_its_recording_by_keyboard(stack: Stack) -> None:
    job = stack.job("full", sources=["feed"])
    assert await asyncio.to_thread(stack.wait_job, job, seconds=60) == "completed_with_errors"
    base = str(stack.http.base_url).rstrip("/")
    async with browser() as chromium:
        page = await chromium.new_page(viewport={"width": 390, "height": 844})
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.goto(f"{base}/songs?reason=match-doubtful")
        await page.get_by_label("Credential").fill(stack.token)
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/songs?reason=match-doubtful")
        await fits(page)
        await page.get_by_role("link", name="Singer - Night Song").click()
        await page.wait_for_url("**/songs/*")
        await fits(page)
        await expect(page.locator("main")).to_contain_text("1 recording elsewhere may be it")
        asked = page.get_by_role("table", name="Who was asked")
        await expect(asked).to_contain_text("none of 3 accepted")
        await expect(asked).to_contain_text("Asked in the configured order until 1000 tries are counted for feed")
        assert "owned" not in await page.title()
        use = page.get_by_role("button", name="Use this: Night Song of jamendo", exact=True)
        await use.focus()
        await page.keyboard.press("Enter")
        await reload_until(page, "Taken from")
        await expect(page.get_by_role("region", name="File")).to_contain_text("jamendo")
        await expect(page.locator("main")).to_contain_text("Choose automatically again")
        await fits(page)
        await page.goto(f"{base}/resolver")
        await fits(page)
        await page.goto(f"{base}/songs")
        await expect(page.locator("main")).to_contain_text("There are none.")
        assert complaints == []
    assert len(stack.files()) == 1
