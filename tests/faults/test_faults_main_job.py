"""kill -9 in the middle of the main job: it completes, every file is there once, the catalog equals a replay."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.audio import make_audio
from tests.support.http_server import ScriptedServer
from tests.support.nats import NatsServer
from tests.support.stack import Stack, dump

SONGS = 40


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """A mounted folder of a few albums."""
    folder = tmp_path / "music"
    for number in range(SONGS):
        make_audio(
            folder / f"album {number % 4}" / f"{number:03}.wav",
            ext="wav",
            seconds=0.3,
            title=f"Song {number}",
            artist=f"Artist {number % 4}",
            frequency=200 + number,
        )
    return folder


@pytest.fixture
def web() -> Iterator[ScriptedServer]:
    """A web server of this test's own."""
    server = ScriptedServer()
    yield server
    server.stop()


@pytest.fixture
def start(tmp_path: Path, nats_server: NatsServer) -> Iterator[Callable[..., Stack]]:
    """Start a stack with settings; it ends with the test."""
    stacks: list[Stack] = []

    def begin(**environment: str) -> Stack:
        stack = Stack(tmp_path, nats_server, IMPORT_MODE="copy", **environment)
        stacks.append(stack)
        stack.start_all("console", "collector", "downloader", "exporter")
        return stack

    yield begin
    for stack in stacks:
        stack.stop()


def each_file_once(stack: Stack, sources: list[Path]) -> None:
    """The library holds the bytes of each source file exactly once, and nothing is left in the spool.

    A copy of an item that lost its lease may still be taking its own file back when the job ends.
    """
    wanted = Counter(hashlib.sha256(path.read_bytes()).hexdigest() for path in sources)

    def settled() -> bool:
        parts = [path for path in stack.library.rglob("*.part") if path.is_file()]
        return not parts and stored_content(stack) == wanted

    stack.until(settled, seconds=15, what=f"each of {len(sources)} files once; there are {stack.files()}")


def stored_content(stack: Stack) -> Counter[str]:
    """How often each content lies in the library."""
    found: Counter[str] = Counter()
    for name in stack.files():
        with contextlib.suppress(FileNotFoundError):
            found[hashlib.sha256((stack.library / name).read_bytes()).hexdigest()] += 1
    return found


def catalog_equals_replay(stack: Stack, expected_files: int) -> None:
    """The exporter's catalog has every file, and a second exporter that starts from nothing gets the same rows."""
    live = stack.root / "state" / "catalog.db"
    fresh_state = stack.directory / "fresh" / "state"

    def live_complete() -> bool:
        return len(dump(live)["file_locations"]) == expected_files

    stack.until(live_complete, seconds=30, what=f"{expected_files} files in the catalog")
    stack.kill("exporter")
    stack.start(
        "exporter",
        "exporter-fresh",
        STATE_DIR=str(fresh_state),
        SNAPSHOT_DIR=str(stack.directory / "fresh" / "snapshots"),
    )
    stack.until(
        lambda: dump(fresh_state / "catalog.db") == dump(live), seconds=60, what="the replay to equal the catalog"
    )


def test_downloader_killed_in_the_middle_of_a_file(
    tmp_path: Path, web: ScriptedServer, start: Callable[..., Stack]
) -> None:
    sources = [
        make_audio(
            tmp_path / "web" / f"{number}.wav",
            ext="wav",
            seconds=16,
            title=f"Song {number}",
            artist="Singer",
            frequency=300 + number,
        )
        for number in range(4)
    ]
    lines = "#EXTM3U\n"
    for path in sources:
        url = web.serve_file(
            f"/{path.name}", path.read_bytes(), content_type="audio/wav", etag='"1"', chunk=32_768, pause=0.05
        )
        lines += f"#EXTINF:16,Singer - Song {path.stem}\n{url}\n"
    feed = web.serve_file("/list.m3u8", lines.encode(), content_type="audio/x-mpegurl")
    stack = start(FEEDS=feed, ALLOW_PRIVATE_ADDRESSES="true")
    job = stack.job(sources=["feed"])

    for _ in range(2):
        goal = under_way(stack) + 200_000
        stack.until(partial(is_under_way, stack, goal), seconds=60, what="a file under way")
        stack.kill("downloader")
        stack.start("downloader")

    assert stack.wait_job(job) == "completed", stack.items(job)
    each_file_once(stack, sources)
    resumed = [request for request in web.requests if "range" in request.headers]
    assert resumed, "what was there was fetched again instead of resumed"
    assert {item["status"] for item in stack.items(job, stage="download")} == {"succeeded"}
    catalog_equals_replay(stack, len(sources))


def is_under_way(stack: Stack, goal: int) -> bool:
    """Whether an unfinished file has grown beyond ``goal`` bytes."""
    return under_way(stack) > goal


def has_files(stack: Stack, goal: int) -> bool:
    """Whether the library holds ``goal`` files."""
    return len(stack.files()) >= goal


def under_way(stack: Stack) -> int:
    """Bytes of the largest unfinished file."""
    sizes = [0]
    for part in stack.library.rglob("*.part"):
        with contextlib.suppress(FileNotFoundError):
            sizes.append(part.stat().st_size)
    return max(sizes)


def test_exporter_killed_in_the_middle_of_batches(music: Path, start: Callable[..., Stack]) -> None:
    stack = start(LOCAL_MEDIA_IMPORT_PATH=str(music))
    job = stack.job(sources=["local"])
    deadline = time.monotonic() + 60
    while stack.job_state(job) != "completed":
        assert time.monotonic() < deadline, stack.log_ends()
        stack.kill("exporter")
        stack.start("exporter")
        time.sleep(0.4)  # the time that it gets before the next kill is the subject

    sources = sorted(music.rglob("*.wav"))
    each_file_once(stack, sources)
    catalog_equals_replay(stack, SONGS)


def test_nats_server_killed_in_the_middle_of_a_job(
    music: Path, nats_server: NatsServer, start: Callable[..., Stack]
) -> None:
    stack = start(LOCAL_MEDIA_IMPORT_PATH=str(music))
    job = stack.job(sources=["local"])
    stack.until(lambda: len(stack.files()) >= 5, seconds=30, what="the first files")
    for _ in range(2):
        nats_server.kill()
        nats_server.restart()
        goal = min(SONGS, len(stack.files()) + 1)
        stack.until(partial(has_files, stack, goal), seconds=60, what="work to go on")

    assert stack.wait_job(job) == "completed"
    each_file_once(stack, sorted(music.rglob("*.wav")))
    catalog_equals_replay(stack, SONGS)


def test_every_service_killed_once_and_the_job_completes(music: Path, start: Callable[..., Stack]) -> None:
    stack = start(LOCAL_MEDIA_IMPORT_PATH=str(music))
    job = stack.job(sources=["local"])
    for service in ("collector", "console", "downloader", "exporter"):
        stack.kill(service)
        stack.start(service)
    stack.until(lambda: stack.job_state(job) != "", seconds=30, what="the console to come back")

    assert stack.wait_job(job) == "completed"
    each_file_once(stack, sorted(music.rglob("*.wav")))
    catalog_equals_replay(stack, SONGS)
