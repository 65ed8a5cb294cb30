"""What services found at their start reaches people: by the API, and on the first page."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from common.bus import Bus
from common.contracts.envelope import now
from common.contracts.status import Heartbeat
from tests.support.browser import browser
from tests.support.console import ConsoleProcess
from tests.support.nats import NatsServer

LOW = {
    "code": "low-space",
    "severity": "warning",
    "message": "The disk of LIBRARY_DIR has 3 MiB free",
    "mend": 'sudo du -xh "$LIBRARY_DIR"',
}
REFUSED = {
    "code": "not-writable",
    "severity": "error",
    "message": "STATE_DIR cannot be written by user 1000, group 1000 (Permission denied)",
    "mend": 'sudo chown -R 1000:1000 "$STATE_DIR"',
}


@pytest.fixture
def console(tmp_path: Path, nats_server: NatsServer) -> Iterator[ConsoleProcess]:
    process = ConsoleProcess(tmp_path, nats_server, PUID="54321")
    process.start()
    yield process
    process.close()


async def beat(bus: Bus, service: str, instance: str, findings: list[Any], *, ready: bool = True) -> None:
    told = Heartbeat(service=service, instance=instance, started_at=now(), ready=ready, detail={"findings": findings})
    await bus.send(told.subject, told, id=secrets.token_hex(8))
    await bus.nc.flush()


async def test_findings_of_all_services_are_shown_once_each_errors_first(console: ConsoleProcess, bus: Bus) -> None:
    hostile = {"code": "x", "severity": "warning", "message": "<img src=x onerror=\"document.title='owned'\">"}
    await beat(bus, "downloader", "one", [LOW])
    await beat(bus, "downloader", "two", [LOW, hostile, "nonsense", {"severity": "error"}])
    await beat(bus, "exporter", "three-refused", [REFUSED], ready=False)
    told = await console.until("/api/doctor", lambda found: len(found["items"]) >= 4)
    seen = [(one["severity"], one["service"], one["code"], one["workers"]) for one in told["items"]]
    assert seen == [
        ("error", "exporter", "not-writable", ["export-1"]),
        ("warning", "console", "other-user", ["console-1"]),
        ("warning", "downloader", "low-space", ["download-1", "download-2"]),
        ("warning", "downloader", "x", ["download-2"]),
    ]
    assert console.http.get("/api/doctor", headers={"Authorization": ""}).status_code == 401

    async with browser() as chromium:
        page = await chromium.new_page()
        await page.goto(f"{console.url}/dashboard")
        await page.get_by_label("Credential").fill(console.token)
        await page.get_by_role("button", name="Log in").click()
        await page.wait_for_url("**/dashboard")
        shown = page.get_by_role("region", name="To mend")
        await expect(shown.get_by_role("listitem")).to_have_count(4)
        await expect(shown.get_by_role("listitem").first).to_contain_text("exporter does not start")
        await expect(shown.get_by_role("listitem").first.locator("code")).to_have_text(REFUSED["mend"])
        assert await page.title() == "Dashboard · Music Cloud"
        # Started after all: what kept it from starting is no news any more, and the page says so by itself.
        await beat(bus, "exporter", "three-refused", [])
        await beat(bus, "exporter", "three", [])
        await expect(shown.get_by_role("listitem")).to_have_count(3)


async def test_the_page_says_nothing_where_nothing_is_to_mend(tmp_path: Path, nats_server: NatsServer) -> None:
    process = ConsoleProcess(tmp_path, nats_server)
    process.start()
    try:
        assert process.ok("GET", "/api/doctor")["items"] == []
        page = process.http.get("/dashboard", headers={"Accept": "text/html"})
        assert page.status_code == 200
        assert "To mend" not in page.text
    finally:
        process.close()
