"""The example catalog as a visitor sees it, in a real browser, playing through the real origin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from common.web import HttpServer
from origin.adapters.files import FolderFiles
from origin.routes import StreamApp
from tests.support.audio import make_audio
from tests.support.browser import browser
from tests.support.public_catalog import (
    SECRET,
    CatalogProcess,
    Given,
    GivenList,
    MirrorFolder,
    make_snapshot,
    running,
)

HOSTILE = "bad <script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
SONGS = [
    Given(song_id=1, name="青花瓷", singers="周杰伦", files=[("library", "qq/one.wav")]),
    Given(song_id=2, name="Café del Mar", singers="José", files=[("library", "qq/gone.ape")]),
    Given(
        song_id=3,
        name="青花",
        singers="A very long name of a band that does not fit " * 3,
        files=[("library", "qq/two.wav")],
    ),
    Given(song_id=4, name=HOSTILE, singers=HOSTILE, files=[("library", "qq/three.wav")]),
]
PLAYLISTS = [
    GivenList(playlist_id=1, name="热歌榜", songs=[1, 2, 3, 4], group="Charts", plays=10),
    GivenList(playlist_id=2, name=HOSTILE, songs=[4]),
]
WELL_FORMED = """() => {
  const problems = [];
  if (document.querySelectorAll("h1").length !== 1) problems.push("not one h1");
  for (const one of document.querySelectorAll("a, button, input, audio")) {
    const label = one.getAttribute("aria-label") || one.textContent.trim() || one.labels?.[0]?.textContent;
    if (!label) problems.push("no name: " + one.outerHTML.slice(0, 80));
  }
  for (const one of document.querySelectorAll("img:not([alt])")) problems.push("no alt: " + one.src);
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  if (new Set(ids).size !== ids.length) problems.push("an id twice");
  if (document.documentElement.scrollWidth > innerWidth) problems.push("wider than the window");
  return problems;
}"""


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[CatalogProcess]:
    library = tmp_path / "library"
    for name in ("one", "two", "three"):
        make_audio(library / "qq" / f"{name}.wav", ext="wav", seconds=0.4)
    app = StreamApp(secrets=[SECRET.encode()], files=FolderFiles(folders={"library": library}, threads=2))
    server, stop = HttpServer(app, host="127.0.0.1", port=0), asyncio.Event()
    serving = asyncio.create_task(server.run(stop))
    manifest = make_snapshot(tmp_path / "snapshot", SONGS, PLAYLISTS)
    mirror = MirrorFolder(tmp_path / "mirror")
    mirror.show(tmp_path / "snapshot")
    origin = f"http://127.0.0.1:{server.port}"
    with running(tmp_path, mirror.path, "--origin", origin, ORIGIN_TOKEN_SECRET=SECRET) as process:
        process.until_shown(manifest)
        yield process
    stop.set()
    await serving


def listen(page: Page) -> list[str]:
    """What the browser complains about, also that something is against the page's policy."""
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    return complaints


async def until(page: Page, condition: str) -> None:
    """Wait for something in the page; its policy allows no script of Playwright's own waiting."""
    deadline = asyncio.get_running_loop().time() + 20
    while not await page.evaluate(condition):
        assert asyncio.get_running_loop().time() < deadline, condition
        await asyncio.sleep(0.02)


async def test_a_visitor_searches_in_chinese_and_hears_one_song_after_the_other(catalog: CatalogProcess) -> None:
    async with browser() as chromium:
        page = await chromium.new_page()
        complaints = listen(page)
        await page.goto(catalog.url)
        await expect(page.get_by_text("4 songs in 2 playlists")).to_be_visible()
        await page.get_by_role("searchbox").fill("青花")
        await page.keyboard.press("Enter")
        songs = page.get_by_role("list", name="Songs")
        await expect(songs.locator(".name")).to_have_text(["青花", "青花瓷"])
        await songs.get_by_role("link", name="Play 青花", exact=True).click()
        deck = page.get_by_role("region", name="Player")
        await expect(deck).to_be_visible()
        await until(page, "document.querySelector('.deck audio').currentTime > 0")
        # The first song ends by itself, and the next one of the page begins.
        await expect(deck).to_contain_text("周杰伦", timeout=15_000)
        await until(page, "document.querySelector('.deck audio').ended")

        await page.goto(f"{catalog.url}/playlists/1")
        await page.get_by_role("button", name="Play", exact=True).click()
        await until(page, "document.querySelector('.deck audio').currentTime > 0")
        await page.get_by_role("link", name="Café del Mar").click()
        await expect(page.locator("#player")).to_contain_text("kept as APE, which browsers do not play")
        await page.goto(f"{catalog.url}/songs/4")
        await page.locator("#player audio").evaluate("async (audio) => { audio.muted = true; await audio.play(); }")
        assert (await page.title()).startswith("bad <script>")
        assert complaints == []


async def test_pages_fit_a_phone_and_work_by_keyboard_without_scripts(catalog: CatalogProcess) -> None:
    async with browser() as chromium:
        context = await chromium.new_context(viewport={"width": 360, "height": 740}, color_scheme="dark")
        page = await context.new_page()
        for path in (
            "/",
            "/toplists",
            "/playlists",
            "/playlists/1",
            "/songs/3",
            "/songs/4",
            "/search?q=a",
            "/about",
            "/no",
        ):
            await page.goto(catalog.url + path)
            assert await page.evaluate(WELL_FORMED) == [], path
        await context.close()
        context = await chromium.new_context(java_script_enabled=False)
        page = await context.new_page()
        complaints = listen(page)
        await page.goto(f"{catalog.url}/playlists/1")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Play 青花瓷")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(f"{catalog.url}/songs/1#player")
        await expect(page.get_by_label("青花瓷")).to_be_visible()
        assert complaints == []
