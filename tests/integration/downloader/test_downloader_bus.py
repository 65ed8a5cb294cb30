"""The downloader as real processes on a real bus: items in, files and facts out, a reason for each failure."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from common.bus.connection import Bus
from common.contracts.envelope import decode
from common.contracts.facts import AudioFormat, FileStored, SongPinned
from common.contracts.jobs import KeptSettings
from common.contracts.names import ImportMode, ItemState, JobType
from common.contracts.status import ItemStatus
from common.contracts.streams import CATALOG, STATUS
from common.contracts.work import SongDownload
from common.settings import Settings
from common.work.planner import Planner
from tests.integration.downloader.harness import make_song
from tests.support.audio import make_audio
from tests.support.http_server import Behavior, ScriptedServer
from tests.support.jobs import make_job, write_jobs
from tests.support.nats import NatsServer
from tests.support.source_apis import JamendoApi


class Copies:
    """Processes of the downloader on one library."""

    def __init__(self, directory: Path, nats_server: NatsServer, server: ScriptedServer) -> None:
        self.library = directory / "data" / "library"
        self.music = directory / "music"
        self.music.mkdir()
        self._directory = directory
        inherited = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG"}}
        self._environment = {
            **inherited,
            **nats_server.account("downloader"),
            "ROOT_DIR": str(directory / "data"),
            "LOCAL_MEDIA_IMPORT_PATH": str(self.music),
            "ALLOW_PRIVATE_HOSTS": f"127.0.0.1:{server.port}",
            "LEASE_SECONDS": "3",
            "RETRY_DELAY_SECONDS": "0.1",
            "MAX_TRIES": "2",
            "STALL_TIMEOUT_SECONDS": "1",
            "MIN_FREE_SPACE": "1MiB",
        }
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, **environment: str) -> subprocess.Popen[bytes]:
        number = len(self._processes)
        with (self._directory / f"downloader-{number}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "downloader"],
                env={**self._environment, "INSTANCE": f"copy-{number}", **environment},
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)
        return process

    def stop(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def files(self) -> list[Path]:
        return [path for path in self.library.rglob("*.*") if path.is_file() and not _hidden(path, self.library)]


def _hidden(path: Path, root: Path) -> bool:
    return path.relative_to(root).parts[0].startswith(".")


@pytest.fixture
def copies(tmp_path: Path, nats_server: NatsServer, server: ScriptedServer) -> Iterator[Copies]:
    made = Copies(tmp_path, nats_server, server)
    yield made
    made.stop()


@pytest.fixture
async def planner(bus: Bus, settings: Settings) -> AsyncIterator[Planner]:
    await make_job(bus, job_type=JobType.DOWNLOAD_ONLY, sources=("local", "feed"))
    yield Planner(bus)


async def put(planner: Planner, *songs: SongDownload) -> None:
    await planner.put(songs, cause=secrets.token_hex(4), job_id=1)


async def status(bus: Bus, song: SongDownload) -> ItemStatus:
    stored = await bus.last(STATUS, song.status_subject)
    assert stored is not None
    return decode(stored.data, ItemStatus).data


async def until(condition: Callable[[], bool], *, timeout: float = 30.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        await asyncio.sleep(0.05)


async def ended(bus: Bus, *songs: SongDownload, timeout: float = 60.0) -> list[ItemStatus]:
    """The statuses of the songs when all have ended."""
    deadline = time.monotonic() + timeout
    while True:
        found = [await status(bus, song) for song in songs]
        if all(one.state.ended for one in found):
            return found
        assert time.monotonic() < deadline, [(one.title, one.state, one.reason) for one in found]
        await asyncio.sleep(0.05)


async def fact(bus: Bus, song: SongDownload, backend: str = "library") -> FileStored | None:
    envelope = await bus.last_message(CATALOG, f"file.stored.{backend}.{song.song_id}.main", FileStored)
    return envelope.data if envelope else None


async def test_bad_songs_have_their_reasons_and_the_rest_goes_on(
    bus: Bus, planner: Planner, copies: Copies, server: ScriptedServer, tmp_path: Path
) -> None:
    good = make_audio(tmp_path / "good.flac", seconds=0.5, title="T", artist="A").read_bytes()
    bodies: dict[str, Behavior] = {
        "content-empty": Behavior(),
        "content-html": Behavior(body=b"<html><body>Log in</body></html>", content_type="audio/mpeg"),
        "content-truncated": Behavior(body=good[: len(good) // 2]),
        "connection-lost": Behavior(body=good, announce=len(good) + 100),
        "server-stalled": Behavior(body=good, stall_after=100),
        "source-file-missing": Behavior(status=404),
        "too-many-redirects": Behavior(status=302, headers={"Location": "/too-many-redirects"}),
        "address-refused": Behavior(status=302, headers={"Location": "http://127.0.0.2:1/x"}),
    }
    bad = [make_song(server.serve(f"/{code}", behavior), name=code) for code, behavior in bodies.items()]
    songs = [make_song(server.serve_file(f"/good-{n}", good), name=f"Good {n}") for n in range(20)]
    make_audio(copies.music / "local.wav", ext="wav", seconds=0.5)
    local = make_song("local.wav", source="local", name="From the folder")
    gone = make_song("gone.flac", source="local", name="Gone")
    await put(planner, *bad, *songs, local, gone)
    copies.start()
    copies.start()
    found = await ended(bus, *bad)
    assert {one.title.split(" - ")[1]: one.reason.code for one in found if one.reason} == {
        code: code for code in bodies
    }
    for one in found:
        assert one.state is ItemState.FAILED
        assert one.reason is not None
        assert str(tmp_path) not in one.reason.message
    assert {one.state for one in await ended(bus, *songs, local)} == {ItemState.SUCCEEDED}
    (missing,) = await ended(bus, gone)
    assert missing.reason is not None
    assert missing.reason.code == "source-file-missing"
    assert len(copies.files()) == len(songs) + 1
    stored = await fact(bus, songs[0])
    assert stored is not None
    assert (copies.library / stored.locator).read_bytes() == good
    assert stored.revision == 1


async def test_asking_again_fetches_nothing_and_force_fetches(
    bus: Bus, planner: Planner, copies: Copies, server: ScriptedServer, tmp_path: Path
) -> None:
    good = make_audio(tmp_path / "good.flac", seconds=0.5, title="T", artist="A", album="L").read_bytes()
    song = make_song(server.serve_file("/a", good))
    await put(planner, song)
    copies.start()
    (first,) = await ended(bus, song)
    assert first.state is ItemState.SUCCEEDED
    assert first.result["locator"] == "feed/Singer/Singer - Name.flac"
    await make_job(bus, job_id=2, job_type=JobType.DOWNLOAD_ONLY, sources=("feed",))
    again = song.model_copy(update={"job_id": 2})
    await planner.put([again], cause="again", job_id=2)
    (second,) = await ended(bus, again)
    assert second.state is ItemState.SKIPPED
    assert second.reason is not None
    assert second.reason.code == "already-stored"
    assert len(server.requests_to("/a")) == 1
    better = make_audio(tmp_path / "better.flac", seconds=0.6, title="T", artist="A", album="L").read_bytes()
    server.serve_file("/a", better)
    await make_job(bus, job_id=3, job_type=JobType.DOWNLOAD_ONLY, sources=("feed",))
    forced = song.model_copy(update={"job_id": 3, "force": True})
    await planner.put([forced], cause="forced", job_id=3)
    (third,) = await ended(bus, forced)
    assert third.state is ItemState.SUCCEEDED
    stored = await fact(bus, song)
    assert stored is not None
    assert stored.revision == 2
    assert (copies.library / stored.locator).read_bytes() == better
    assert len(list((copies.library / ".trash").rglob("*.flac"))) == 1


async def test_by_reference_the_fact_names_the_folder(bus: Bus, planner: Planner, copies: Copies) -> None:
    make_audio(copies.music / "sub" / "a.flac", seconds=0.5)
    song = make_song("sub/a.flac", source="local")
    await put(planner, song)
    copies.start(IMPORT_MODE="reference")
    (one,) = await ended(bus, song)
    assert one.state is ItemState.SUCCEEDED
    stored = await fact(bus, song, backend="local")
    assert stored is not None
    assert stored.locator == "sub/a.flac"
    assert await fact(bus, song) is None
    assert copies.files() == []


async def test_a_job_stores_its_songs_as_it_began_whatever_is_configured_since(
    bus: Bus, planner: Planner, copies: Copies
) -> None:
    kept = KeptSettings(import_mode=ImportMode.COPY, download_layout="kept/{name}.{ext}")
    await make_job(bus, job_type=JobType.DOWNLOAD_ONLY, sources=("local",), kept=kept)
    make_audio(copies.music / "a.flac", seconds=0.5)
    song = make_song("a.flac", source="local")
    await put(planner, song)
    copies.start(IMPORT_MODE="reference", DOWNLOAD_LAYOUT="elsewhere/{name}.{ext}")
    (one,) = await ended(bus, song)
    assert one.state is ItemState.SUCCEEDED
    stored = await fact(bus, song)
    assert stored is not None
    assert (stored.locator.split("/")[0], stored.import_mode) == ("kept", ImportMode.COPY)
    assert await fact(bus, song, backend="local") is None
    assert len(copies.files()) == 1


async def test_kill_in_the_middle_of_a_file_and_another_copy_finishes_it(
    bus: Bus, planner: Planner, copies: Copies, server: ScriptedServer, tmp_path: Path
) -> None:
    body = make_audio(tmp_path / "long.wav", ext="wav", seconds=40.0).read_bytes()
    stalling = Behavior(body=body, etag='"v1"', stall_after=2_500_000)
    song = make_song(server.serve("/a", stalling, Behavior(body=body, etag='"v1"')))
    await put(planner, song)
    first = copies.start(STALL_TIMEOUT_SECONDS="30")
    part = copies.library / ".spool" / f"{song.song_id}.part"
    await until(lambda: part.exists() and part.stat().st_size > 1_100_000)
    first.kill()
    first.wait()
    copies.start()
    (one,) = await ended(bus, song)
    assert one.state is ItemState.SUCCEEDED
    assert one.tries == 0, "a lost worker costs no try"
    asked = [request.headers.get("range", "") for request in server.requests_to("/a")]
    assert len(asked) == 2
    assert asked[1].startswith("bytes=")
    (file,) = copies.files()
    assert file.read_bytes() == body


async def test_a_stop_in_the_middle_is_quick_and_gives_the_item_back(
    bus: Bus, planner: Planner, copies: Copies, server: ScriptedServer, tmp_path: Path
) -> None:
    body = make_audio(tmp_path / "long.wav", ext="wav", seconds=40.0).read_bytes()
    stalling = Behavior(body=body, etag='"v1"', stall_after=2_500_000)
    song = make_song(server.serve("/a", stalling, Behavior(body=body, etag='"v1"')))
    await put(planner, song)
    first = copies.start(STALL_TIMEOUT_SECONDS="30")
    part = copies.library / ".spool" / f"{song.song_id}.part"
    await until(lambda: part.exists() and part.stat().st_size > 1_100_000)
    started = time.monotonic()
    first.send_signal(signal.SIGTERM)
    assert first.wait(10) == 0
    assert time.monotonic() - started < 5
    assert (await status(bus, song)).state is ItemState.INTERRUPTED
    assert part.exists(), "an interrupted download is continued"
    copies.start()
    assert (await ended(bus, song))[0].state is ItemState.SUCCEEDED


async def test_a_canceled_job_leaves_no_part(
    bus: Bus, planner: Planner, copies: Copies, server: ScriptedServer, tmp_path: Path
) -> None:
    body = make_audio(tmp_path / "long.wav", ext="wav", seconds=40.0).read_bytes()
    song = make_song(server.serve("/a", Behavior(body=body, etag='"v1"', stall_after=2_500_000)))
    await put(planner, song)
    copies.start(STALL_TIMEOUT_SECONDS="30")
    spool = copies.library / ".spool"
    part = spool / f"{song.song_id}.part"
    await until(lambda: part.exists() and part.stat().st_size > 1_100_000)
    await write_jobs(bus, [])
    await bus.js.delete_consumer("WORK", "j1-download-feed")
    await until(lambda: not part.exists())
    await until(lambda: not list(spool.glob("*.json")))


async def test_a_folder_that_is_not_mounted_holds_its_lane_only(
    bus: Bus, planner: Planner, copies: Copies, server: ScriptedServer, tmp_path: Path
) -> None:
    good = make_audio(tmp_path / "good.flac", seconds=0.5, title="T", artist="A").read_bytes()
    held = make_song("a.flac", source="local")
    free = make_song(server.serve_file("/a", good))
    copies.music.rmdir()
    await put(planner, held, free)
    copies.start()
    assert (await ended(bus, free))[0].state is ItemState.SUCCEEDED
    waiting = await status(bus, held)
    assert waiting.state in (ItemState.QUEUED, ItemState.RUNNING)
    assert waiting.tries == 0


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("DOWNLOAD_LAYOUT", "{nonsense}/{name}.{ext}", "DOWNLOAD_LAYOUT"),
        ("SPOOL_DIR", "/dev/shm/music-cloud-test", "different file systems"),
        ("SOURCES", "nobody", "SOURCES"),
    ],
)
async def test_settings_that_cannot_work_end_the_start_with_a_sentence(
    bus: Bus, copies: Copies, tmp_path: Path, name: str, value: str, words: str
) -> None:
    process = copies.start(**{name: value})
    assert process.wait(20) == 2
    assert words in (tmp_path / "downloader-0.log").read_text()


async def test_what_a_person_bans_while_it_is_fetched_is_not_stored(
    bus: Bus, planner: Planner, copies: Copies, server: ScriptedServer, tmp_path: Path
) -> None:
    body = make_audio(tmp_path / "long.wav", ext="wav", seconds=10.0).read_bytes()
    song = make_song(server.serve("/a", Behavior(body=body, pause=0.1, chunk=64 * 1024)))
    await put(planner, song)
    copies.start()
    part = copies.library / ".spool" / f"{song.song_id}.part"
    await until(lambda: part.exists() and part.stat().st_size > 100_000)
    await bus.publish(
        f"song.pinned.{song.song_id}",
        SongPinned(song_id=song.song_id, banned=(f"feed:{song.remote_id}",), revision=1),
        msg_id="ban",
    )
    (one,) = await ended(bus, song)
    assert (one.state, one.reason.code if one.reason else None) == (ItemState.FAILED, "match-banned")
    assert one.tries == 1, "to learn of the choice costs none"
    assert await fact(bus, song) is None
    assert copies.files() == []
    assert len(list((copies.library / ".trash").rglob("*.wav"))) == 1


async def test_what_was_banned_ends_in_an_adopted_library_too_and_its_file_stays(
    bus: Bus, planner: Planner, copies: Copies, server: ScriptedServer, tmp_path: Path
) -> None:
    own = make_audio(tmp_path / "own.flac", seconds=0.5).read_bytes()
    older = make_audio(tmp_path / "older" / "a.flac", seconds=0.5)
    song = make_song(server.serve_file("/a", own))
    adopted = FileStored(
        backend="older",
        song_id=song.song_id,
        asset_id=1,
        locator="a.flac",
        sha256="a" * 64,
        size=older.stat().st_size,
        format=AudioFormat(ext="flac", mime="audio/flac"),
        candidate_source="jamendo",
        candidate_remote_id="9",
        revision=1,
    )
    banned = SongPinned(song_id=song.song_id, banned=("jamendo:9",), revision=1)
    for known in (adopted, banned):
        await bus.publish(known.subject, known, msg_id=known.TYPE)
    await put(planner, song)
    copies.start(ADOPTED_LIBRARIES=f"older={tmp_path / 'older'}")
    (one,) = await ended(bus, song)
    assert one.state is ItemState.SUCCEEDED
    stored, ended_there = await fact(bus, song), await fact(bus, song, backend="older")
    assert stored is not None and stored.candidate_source == "feed"
    assert ended_there is not None and ended_there.removed
    assert older.exists()


async def test_a_search_that_waits_for_its_turns_does_not_stall(
    bus: Bus, planner: Planner, copies: Copies, server: ScriptedServer
) -> None:
    jamendo = JamendoApi()
    jamendo.songs = []
    song = make_song(server.serve("/gone", Behavior(status=404)), name="Name (2001)", singers=("Singer",))
    await put(planner, song)
    given = {name.upper(): str(value) for name, value in jamendo.settings().items() if name != "jamendo_albums"}
    copies.start(
        **given,
        SOURCES="feed,jamendo",
        ALLOW_PRIVATE_HOSTS=f"127.0.0.1:{server.port},127.0.0.1:{jamendo.port}",
        SOURCE_RATES="jamendo=0.4",
        STALL_SECONDS="1",
    )
    (one,) = await ended(bus, song)
    jamendo.close()
    assert one.reason is not None
    assert "not found at jamendo" in one.reason.message
    assert (one.interruptions, one.tries) == (0, 1)
