"""Files that are used where they lie: what a person pins or bans decides which one file of a song is current."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.audio import make_audio
from tests.support.lost_song import stack_with
from tests.support.nats import NatsServer
from tests.support.source_apis import JamendoApi
from tests.support.stack import Stack, dump

MOMENTS = 60
OWN = "a.flac"


@pytest.fixture
def jamendo() -> Iterator[JamendoApi]:
    api = JamendoApi()
    api.songs = [api.entry(1, name="Night Song", artist_name="Singer", duration=2)]
    yield api
    api.close()


@pytest.fixture
def stack(tmp_path: Path, nats_server: NatsServer, jamendo: JamendoApi) -> Iterator[Stack]:
    make_audio(tmp_path / "music" / OWN, ext="flac", title="Night Song", artist="Singer", seconds=2)
    running = stack_with(
        tmp_path,
        nats_server,
        jamendo,
        SOURCES="local,jamendo",
        LOCAL_MEDIA_IMPORT_PATH=str(tmp_path / "music"),
        IMPORT_MODE="reference",
    )
    running.start_all("console", "collector", "downloader", "exporter")
    yield running
    running.stop()


def test_a_banned_file_in_place_is_no_longer_current_and_a_pinned_one_is_alone(stack: Stack, tmp_path: Path) -> None:
    job = stack.job("full", sources=["local"])
    assert stack.wait_job(job, seconds=MOMENTS) == "completed"
    song_id = stack.items(job, stage="download")[0]["key"]

    def current() -> list[tuple[str, str]]:
        """Backend and locator of each file that the catalog lists."""
        (catalog,) = tmp_path.rglob("catalog.db")
        tables = dump(catalog)
        backends = {row[0]: row[1] for row in tables["storage_backends"]}
        return sorted((backends[row[2]], row[3]) for row in tables["file_locations"] if row[4] == "active")

    def comes_to(files: list[tuple[str, str]]) -> None:
        stack.until(lambda: current() == files, seconds=MOMENTS, what=f"the catalog to list {files}")

    def choose(action: str, source: str, remote_id: str) -> dict[str, Any]:
        before = stack.items(job, stage="download")[0]["ended_at"]
        told = stack.http.post(
            f"/api/songs/{song_id}/choice", json={"action": action, "source": source, "remote_id": remote_id}
        )
        assert told.status_code == 202, told.text
        if told.json()["retried_in_job"] is not None:
            stack.until(
                lambda: stack.items(job, stage="download")[0]["ended_at"] not in (None, before),
                seconds=MOMENTS,
                what="the song to be asked for again",
            )
        stored: dict[str, Any] = stack.http.get(f"/api/songs/{song_id}").json()["stored"]
        return stored

    comes_to([("local", OWN)])
    wrong = stack.http.post(
        f"/api/songs/{song_id}/choice", json={"action": "pin", "source": "nosuch", "remote_id": "1"}
    )
    assert (wrong.status_code, wrong.json()["code"]) == (422, "unknown-source")
    stored = choose("ban", "local", OWN)
    assert (stored["source"], stored["backend"], stored["as_chosen"]) == ("jamendo", "library", True)
    comes_to([("library", stored["locator"])])
    (file,) = stack.files()

    stored = choose("pin", "local", OWN)
    assert (stored["source"], stored["backend"], stored["as_chosen"]) == ("local", "local", True)
    comes_to([("local", OWN)])
    assert stack.files() == [], "a file of ours that is not current goes to the trash"
    assert any(Path(file).stem in path.name for path in tmp_path.rglob(".trash/**/*"))
    assert (tmp_path / "music" / OWN).exists(), "a mounted folder is never touched"

    choose("ban", "jamendo", "1")
    again = stack.job("full", sources=["local"])
    assert stack.wait_job(again, seconds=MOMENTS) == "completed"
    assert stack.items(again, stage="download") == []
    assert current() == [("local", OWN)]
    page = stack.http.get(f"/songs/{song_id}", headers={"Accept": "text/html"}).text
    assert "is not the recording that was chosen" not in page
