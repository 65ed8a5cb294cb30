"""Stream links, backends, sources, dead letters: what the console says of the rest of the system."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator

import pytest

from common.bus import Bus, FactWriter
from common.catalog import ids
from common.contracts.envelope import now
from common.contracts.facts import AudioFormat, BackendDefined, FileStored
from common.contracts.names import LIBRARY_BACKEND, Stage
from common.contracts.status import DeadLetter, Heartbeat, Hold, Reason
from common.contracts.streams import CATALOG
from common.settings import Settings
from common.tokens import verify_origin_token
from tests.support.console import ConsoleProcess


@pytest.fixture
async def wire(settings: Settings, console: ConsoleProcess) -> AsyncIterator[Bus]:
    bus = await Bus.connect(settings, service="test", instance="one")
    yield bus
    await bus.close()


async def test_a_stream_link_opens_the_file_of_its_song(console: ConsoleProcess, wire: Bus) -> None:
    song = ids.song_id("local", "周杰倫/晴天.flac")
    stored = FileStored(
        backend=LIBRARY_BACKEND,
        song_id=song,
        asset_id=ids.asset_id(song, "main"),
        locator="local/周杰倫/晴天.flac",
        sha256="0" * 64,
        size=1,
        format=AudioFormat(ext="flac", mime="audio/flac"),
    )
    assert console.http.post("/api/v1/tokens", json={"song_id": song}).status_code == 404
    await FactWriter(wire).publish(stored, cause="test")
    link = console.ok("POST", "/api/v1/tokens", json={"song_id": song, "ttl_seconds": 60})
    claims = verify_origin_token(console.environment["ORIGIN_TOKEN_SECRET"], link["token"], time.time())
    assert (claims.locator, claims.backend) == ("local/周杰倫/晴天.flac", LIBRARY_BACKEND)
    assert link["url"].endswith(f"/api/private-origin/stream/{link['token']}")
    by_locator = console.ok("POST", "/api/v1/tokens", json={"locator": "local/a.mp3"})
    assert by_locator["expires_at"].endswith("Z")
    for body in (
        {},
        {"song_id": song, "locator": "x"},
        {"locator": "/etc/passwd"},
        {"locator": "../x"},
        {"ttl_seconds": 0, "song_id": song},
        {"song_id": -1},
        {"locator": "a\x00b"},
    ):
        answer = console.http.post("/api/v1/tokens", json=body)
        assert answer.status_code == 422, body
        assert set(answer.json()) == {"code", "message"}


async def test_backends_are_published_once_and_again_only_when_they_change(console: ConsoleProcess, wire: Bus) -> None:
    first = await wire.last(CATALOG, "backend.defined.library")
    assert first is not None
    console.stop()
    console.environment |= {
        "LOCAL_MEDIA_IMPORT_PATH": str(console.root),
        "OBJECT_BUCKET": "music",
        "OBJECT_ACCESS_KEY": "someone",
        "OBJECT_SECRET_KEY": "a secret",
        "OBJECT_PUBLIC_BASE_URL": "https://cdn.example/music",
    }
    console.start()
    assert await wire.last(CATALOG, "backend.defined.library") == first
    local = await wire.last_message(CATALOG, "backend.defined.local", BackendDefined)
    assert local is not None
    assert local.data.read_only
    objects = await wire.last_message(CATALOG, "backend.defined.objects", BackendDefined)
    assert objects is not None
    assert objects.data.public_base_url == "https://cdn.example/music"
    assert str(console.root) not in objects.model_dump_json() + local.model_dump_json()
    full = console.ok("POST", "/api/jobs", json={"job_type": "full"})
    assert full["stages"][-1]["stage"] == "upload"
    assert full["notes"] == []


async def test_the_dashboard_tells_what_heartbeats_tell(console: ConsoleProcess, wire: Bus) -> None:
    async def beat(service: str, **values: object) -> None:
        one = Heartbeat.model_validate(
            {"service": service, "instance": "nas-1", "started_at": now(), "ready": True, **values}
        )
        await wire.send(one.subject, one, id=secrets.token_hex(8))

    assert console.ok("GET", "/api/v1/sources")["items"][0]["available"] is False
    sources = [{"name": "local", "available": True, "configured": True, "message": ""}]
    hold = Hold(
        stage=Stage.DOWNLOAD, lane="feed", reason=Reason(code="source-down", message="It answers 503."), since=now()
    )
    await beat("collector", detail={"sources": sources})
    await beat("uploader", detail={"object_store": {"configured": True, "message": "It is full."}})
    await beat("exporter", detail={"snapshot_id": "sha256:1", "snapshot_sequence": 7, "lag": 3, "problems": 1})
    await beat("downloader", concurrency=4, holds=[hold])
    await wire.nc.publish("hb.downloader.evil", b"not a heartbeat")
    board = await console.until("/api/dashboard", lambda board: len(board["workers"]) >= 5)
    assert console.ok("GET", "/api/v1/sources")["items"] == sources
    assert board["object_store"] == {"configured": True, "message": "It is full."}
    assert (board["snapshot"]["snapshot_id"], board["snapshot"]["sequence"], board["snapshot"]["lag"]) == (
        "sha256:1",
        7,
        3,
    )
    assert [(one["lane"], one["reason"]["message"]) for one in board["holds"]] == [("feed", "It answers 503.")]
    page = console.http.get("/dashboard", headers={"Accept": "text/html"}).text
    assert "Held: download of feed" in page
    assert "It is full." in page


async def test_dead_letters_are_listed_page_by_page(console: ConsoleProcess, wire: Bus) -> None:
    for number in range(3):
        letter = DeadLetter(
            from_subject=f"song.download.requested.1.local.{number}",
            reason=Reason(code="undecodable", message="This message is not one of ours."),
            payload="AGh0bWw+" if number else "no base64",
        )
        await wire.publish(f"dead.{letter.from_subject}", letter, msg_id=secrets.token_hex(8))
    await wire.js.publish("dead.strange", b"\xff\x00")
    first = console.ok("GET", "/api/dead", params={"limit": 2})
    rest = console.ok("GET", "/api/dead", params={"cursor": first["next"]})
    assert [len(first["items"]), len(rest["items"]), rest["next"]] == [2, 2, None]
    assert first["items"][1]["reason"]["code"] == "undecodable"
