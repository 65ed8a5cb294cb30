"""A real browser: the system's Chromium, driven by Playwright; tests that need one are skipped where none is."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, async_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""Containers have no user namespaces for the sandbox; the rest keeps the browser from calling home."""


def find_browser() -> str:
    """The browser of this machine; skips the test where there is none."""
    for name in _NAMES:
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium is installed: apt-get install chromium, then run the browser tests again")


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """A running browser."""
    path = find_browser()
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=path, args=list(_ARGUMENTS))
        try:
            yield running
        finally:
            await running.close()
