"""The disk of everything but the library dies: restored, the stack is what it was, and nothing is fetched again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.secret_files import ensure_secrets
from tests.support.audio import make_audio
from tests.support.nats import NatsServer
from tests.support.stack import Stack

SONGS = 24
MANY = 300
"""So many that a job of them is under way while a backup is made."""
SERVICES = ("console", "collector", "downloader", "exporter", "origin")
BAD = "Song bad"


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """A mounted folder of two albums; one file of it is no music."""
    folder = tmp_path / "music"
    add_songs(folder, range(SONGS))
    (folder / "album 0" / f"{BAD}.wav").write_bytes(b"RIFF" + os.urandom(4000))
    return folder


def add_songs(folder: Path, numbers: range) -> None:
    for number in numbers:
        make_audio(
            folder / f"album {number % 2}" / f"{number:03}.wav",
            ext="wav",
            seconds=0.3,
            title=f"Song {number}",
            artist=f"Artist {number % 2}",
            frequency=200 + number,
        )


class Place:
    """A stack whose secrets lie below ROOT_DIR as they do in real life, and its bus."""

    def __init__(self, tmp_path: Path, nats: NatsServer, music: Path) -> None:
        self.nats = nats
        self.directory = tmp_path
        self.to = tmp_path / "backups"
        self.music = music
        self.stack = self._stack(tmp_path / "first")
        self.secrets = ensure_secrets(self.stack.root)
        self._use_secrets()

    def _stack(self, logs: Path) -> Stack:
        logs.mkdir()
        environment = {"LOCAL_MEDIA_IMPORT_PATH": str(self.music), "IMPORT_MODE": "copy"}
        stack = Stack(logs, self.nats, ROOT_DIR=str(self.directory / "data"), SOURCES="local", **environment)
        stack.root = self.directory / "data"
        # They must come from the files.
        del stack.environment["CONSOLE_TOKEN"], stack.environment["ORIGIN_TOKEN_SECRET"]
        return stack

    def _use_secrets(self) -> None:
        self.stack.http.headers["Authorization"] = f"Bearer {self.secrets['CONSOLE_TOKEN']}"

    def command(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run music-cloud as its owner does."""
        return subprocess.run(
            [sys.executable, "-m", "cli", "--json", *words],
            env={**self.stack.environment, **self.nats.settings, **environment},
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def back_up(self, **environment: str) -> Path:
        done = self.command("backup", "--to", str(self.to), **environment)
        assert done.returncode == 0, done.stderr
        return Path(json.loads(done.stdout)["file"])

    def destroy(self) -> None:
        """All volumes but the library."""
        self.stack.stop()
        self.nats.kill()
        dead = self.directory / "dead"
        dead.mkdir()
        for folder in (*self.stack.root.iterdir(), self.nats.directory / "store"):
            if folder.name != "library":
                folder.rename(dead / folder.name)
        assert [one.name for one in self.stack.root.iterdir()] == ["library"]
        self.nats.restart()

    def start_again(self) -> None:
        """On new ports, as after a move to another machine."""
        self.stack = self._stack(self.directory / "second")
        self._use_secrets()
        self.stack.start_all(*SERVICES)

    def snapshot(self) -> str:
        """The id of the newest snapshot, which is the digest of its content, once all songs are in it."""
        found = self.stack.root / "snapshots" / "current" / "manifest.json"
        manifest = json.loads(found.read_text()) if found.exists() else {}
        return str(manifest["snapshot_id"]) if manifest.get("file_count") == SONGS else ""

    def jobs(self) -> list[dict[str, Any]]:
        return list(self.stack.http.get("/api/jobs").json()["items"])

    def library(self) -> dict[str, tuple[int, int]]:
        """Every file with what changes when it is written again."""
        found = {}
        for name in self.stack.files():
            stat = (self.stack.library / name).stat()
            found[name] = (stat.st_ino, stat.st_mtime_ns)
        return found


@pytest.fixture
def place(tmp_path: Path, nats_server: NatsServer, music: Path) -> Iterator[Place]:
    made = Place(tmp_path, nats_server, music)
    yield made
    made.stack.stop()


def told(items: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted((one["title"], one["state"], one["tries"], str(one.get("reason"))) for one in items)


def test_destroyed_and_restored(place: Place) -> None:
    stack = place.stack
    stack.start_all(*SERVICES)
    job = stack.job()
    assert stack.wait_job(job) == "completed_with_errors"
    stack.until(lambda: bool(place.snapshot()), seconds=40, what="a snapshot of everything")
    snapshot = place.snapshot()
    jobs, items, library = place.jobs(), told(stack.items(job)), place.library()
    assert len(library) == SONGS and any(state == "failed" for _, state, _, _ in items)
    song = next(item for item in stack.items(job, stage="download") if item["state"] == "succeeded")
    token = stack.http.post("/api/v1/tokens", json={"song_id": int(song["key"])}).json()["url"]
    archive = place.back_up(BACKUP_PASSPHRASE="correct horse battery")

    place.destroy()
    done = place.command("restore", str(archive), BACKUP_PASSPHRASE="correct horse battery")
    assert done.returncode == 0, done.stderr
    place.start_again()

    stack = place.stack
    assert place.jobs() == jobs
    assert told(stack.items(job)) == items
    stack.until(lambda: place.snapshot() == snapshot, seconds=40, what="the same snapshot")
    link = token.replace(token.split("/api/")[0], f"http://127.0.0.1:{stack.origin_port}")
    assert httpx.get(link, trust_env=False).status_code == 200

    # The next job finds nothing to do, and its number follows.
    again = stack.job()
    assert again == job + 1
    assert stack.wait_job(again) == "completed", told(stack.items(again))
    assert stack.items(again, stage="download") == []
    assert place.library() == library


def test_backup_in_the_middle_of_a_job(place: Place) -> None:
    add_songs(place.music, range(SONGS, MANY))
    stack = place.stack
    stack.start_all("console", "collector", "exporter")
    stack.start("downloader", DOWNLOAD_CONCURRENCY="1", UMASK="022")
    job = stack.job()
    stack.until(lambda: len(stack.files()) >= 3, seconds=60, what="some songs")
    archive = place.back_up()
    assert stack.job_state(job) == "running", "the job was over before the backup"
    stack.wait_job(job)
    failed = [one for one in told(stack.items(job)) if one[1] == "failed"]
    everything = {item["title"] for item in stack.items(job, stage="download")}
    library = place.library()

    place.destroy()
    done = place.command("restore", str(archive))
    assert done.returncode == 0, done.stderr
    messages = json.loads(done.stdout)["messages"]
    place.start_again()

    stack = place.stack
    assert place.jobs()[0]["job_id"] == job
    assert stack.wait_job(job) == "completed_with_errors", told(stack.items(job))
    assert {item["title"] for item in stack.items(job, stage="download")} == everything
    assert [one for one in told(stack.items(job)) if one[1] == "failed"] == failed
    # What was stored when the backup was made was not touched.
    assert messages["CATALOG"] > 0
    after = place.library()
    assert {name: after.get(name) for name in library} == library
    again = stack.job()
    assert stack.wait_job(again) == "completed", told(stack.items(again))
    assert stack.items(again, stage="download") == []
