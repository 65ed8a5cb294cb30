"""The uploader as a real process, with a real bus, real files and a real S3 server."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from common.bus.connection import Bus
from common.bus.facts import FactWriter
from common.catalog.ids import asset_id
from common.contracts.facts import AudioFormat, FileStored
from common.contracts.jobs import ActiveJob
from common.contracts.names import UNKNOWN_SHA256, BackendKind, ItemState, JobState, JobType
from common.contracts.readers import UPLOADER
from common.contracts.status import ItemStatus
from common.contracts.streams import CATALOG, STATUS, WORK
from tests.support.jobs import make_job, set_state, write_jobs
from tests.support.nats import NatsServer
from tests.support.s3 import S3Bucket
from tests.support.stack import free_port

T = TypeVar("T")
NAME = "qq/周杰倫/晴天 (Live) & 100%.flac"


class World:
    """A bus, a library, a bucket, and uploaders that can be killed."""

    def __init__(self, *, root: Path, bus: Bus, nats: NatsServer, bucket: S3Bucket) -> None:
        self.root, self.bus, self.bucket = root, bus, bucket
        self.library, self.local = root / "library", root / "my music"
        for folder in (self.library, self.local):
            folder.mkdir()
        self.environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            **nats.account("uploader"),
            **bucket.settings_env,
            "ROOT_DIR": str(root),
            "LOCAL_MEDIA_IMPORT_PATH": str(self.local),
            "LEASE_SECONDS": "1.5",
            "RETRY_DELAY_SECONDS": "0.1",
            "MAX_TRIES": "2",
        }
        self.process: asyncio.subprocess.Process | None = None
        self.health = ""

    async def start(self, **environment: str) -> None:
        port = free_port()
        self.health = f"http://127.0.0.1:{port}"
        with (self.root / "uploader.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "uploader",
                env={**self.environment, "HEALTH_PORT": str(port), **environment},
                cwd=self.root,
                stdout=log,
                stderr=log,
            )

    async def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        await self.process.wait()
        self.process = None

    async def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        status = await asyncio.wait_for(self.process.wait(), 10)
        self.process = None
        return status

    def file(self, locator: str = NAME, content: bytes = b"music", *, song: int = 1, **changes: Any) -> FileStored:
        """Put a file into its folder; what is said of it."""
        given: dict[str, Any] = {"backend": "library", **changes}
        path = (self.library if given["backend"] == "library" else self.local) / locator
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return FileStored(
            song_id=song,
            asset_id=asset_id(song, "main"),
            locator=locator,
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
            format=AudioFormat(ext="flac", mime="audio/flac"),
            **given,
        )

    async def say(self, fact: FileStored, *, job_id: int | None = 1, cause: str = "test") -> None:
        await FactWriter(self.bus).publish(fact, cause=cause, job_id=job_id)

    async def status(self, fact: FileStored, *, job_id: int = 1) -> ItemStatus | None:
        subject = f"item.{job_id}.upload.objects.{fact.asset_id}"
        envelope = await self.bus.last_message(STATUS, subject, ItemStatus)
        return envelope.data if envelope else None

    async def ended(self, fact: FileStored, *, job_id: int = 1) -> ItemStatus:
        async def has_ended() -> ItemStatus | None:
            status = await self.status(fact, job_id=job_id)
            return status if status is not None and status.state.ended else None

        return await self.until(has_ended)

    async def copy_of(self, fact: FileStored) -> FileStored | None:
        envelope = await self.bus.last_message(CATALOG, f"file.stored.objects.{fact.song_id}.main", FileStored)
        return envelope.data if envelope else None

    async def planned(self) -> None:
        """Wait until the uploader has looked at every fact."""

        async def nothing_left() -> bool:
            info = await self.bus.js.consumer_info(CATALOG, UPLOADER.name)
            return not info.num_pending and not info.num_ack_pending

        await self.until(nothing_left)

    async def ready(self) -> dict[str, Any]:
        async def answer() -> dict[str, Any] | None:
            async with httpx.AsyncClient(trust_env=False) as client:
                try:
                    found = await client.get(f"{self.health}/readyz")
                except httpx.TransportError:
                    return None
                content: dict[str, Any] = found.json()
                known = "object_store" in content["detail"] and content["detail"]["object_store"]["usable"] is not None
                return {**content, "status": found.status_code} if known else None

        return await self.until(answer)

    async def until(self, look: Callable[[], Awaitable[T | None]], *, seconds: float = 30) -> T:
        deadline = time.monotonic() + seconds
        while not (found := await look()):
            assert time.monotonic() < deadline, (self.root / "uploader.log").read_text()[-3000:]
            await asyncio.sleep(0.05)
        return found


@pytest.fixture
async def world(tmp_path: Path, bus: Bus, nats_server: NatsServer, s3_bucket: S3Bucket) -> AsyncIterator[World]:
    root = tmp_path / "world"
    root.mkdir()
    world = World(root=root, bus=bus, nats=nats_server, bucket=s3_bucket)
    yield world
    if world.process is not None:
        await world.kill()


async def upload_job(bus: Bus, **changes: Any) -> ActiveJob:
    return await make_job(bus, **{"job_type": JobType.FULL, "upload_backend": "objects", **changes})


async def test_files_that_a_job_stores_are_copied_once_and_said_to_be(world: World) -> None:
    await upload_job(world.bus)
    first = world.file()
    own = world.file("deep/own song.mp3", b"my own music", song=2, backend="local")
    await world.say(first)
    await world.start()
    await world.say(own)

    for fact in (first, own):
        status = await world.ended(fact)
        assert (status.state, status.reason) == (ItemState.SUCCEEDED, None)
        assert status.result == {"bytes": fact.size, "already_there": False}
        copy = await world.copy_of(fact)
        assert copy is not None
        assert (copy.backend, copy.backend_kind) == ("objects", BackendKind.OBJECT_STORAGE)
        assert (copy.locator, copy.sha256, copy.asset_id) == (fact.locator, fact.sha256, fact.asset_id)
    head = world.bucket.client.head_object(Bucket=world.bucket.name, Key=NAME)
    assert head["Metadata"]["sha256"] == first.sha256
    assert head["ContentType"] == "audio/flac"
    assert world.bucket.keys() == sorted([NAME, "deep/own song.mp3"])
    envelope = await world.bus.last_message(CATALOG, f"file.stored.objects.{first.song_id}.main", FileStored)
    assert envelope is not None and envelope.job_id == 1
    ready = await world.ready()
    assert ready["status"] == 200
    assert ready["detail"]["object_store"] == {"configured": True, "usable": True, "message": ""}
    assert await world.stop() == 0


async def test_files_of_no_job_an_ended_job_or_a_job_without_upload_are_left(world: World) -> None:
    await upload_job(world.bus, job_id=1, job_type=JobType.DOWNLOAD_ONLY, upload_backend=None)
    await upload_job(world.bus, job_id=2)
    await write_jobs(world.bus, [])
    await upload_job(world.bus, job_id=3)
    await make_job(world.bus, job_id=4, job_type=JobType.DOWNLOAD_ONLY)
    for song, job_id in ((1, None), (2, 2), (4, 4)):
        await world.say(world.file(f"{song}.flac", song=song), job_id=job_id)
    removed = world.file("5.flac", song=5).model_copy(update={"removed": True})
    await world.say(removed, job_id=3)
    await world.bus.js.publish("file.stored.library.9.main", b"not ours")
    await world.start()

    await world.until(lambda: consumer_made(world))
    await world.planned()

    assert (await world.bus.js.stream_info(WORK)).state.messages == 0
    last = world.file("6.flac", song=6)
    await world.say(last, job_id=3)
    assert (await world.ended(last, job_id=3)).state is ItemState.SUCCEEDED
    assert world.bucket.keys() == ["6.flac"]


async def test_items_of_a_paused_job_wait_in_their_lane(world: World) -> None:
    await upload_job(world.bus)
    await set_state(world.bus, 1, JobState.PAUSED)
    fact = world.file()
    await world.say(fact)
    await world.start()

    await world.until(lambda: consumer_made(world))
    await world.planned()
    status = await world.status(fact)
    assert status is not None and status.state is ItemState.QUEUED
    assert world.bucket.keys() == []

    await set_state(world.bus, 1, JobState.RUNNING)
    assert (await world.ended(fact)).state is ItemState.SUCCEEDED


async def test_a_file_that_is_gone_or_changed_is_parked_with_its_reason_and_the_rest_goes_on(world: World) -> None:
    await upload_job(world.bus)
    gone, changed, outside, fine = (world.file(f"{n}.flac", song=n) for n in range(1, 5))
    (world.library / gone.locator).unlink()
    (world.library / changed.locator).write_bytes(b"MUSIC")
    (world.library / outside.locator).unlink()
    (world.library / outside.locator).symlink_to("/etc/hostname")
    for fact in (gone, changed, outside, fine):
        await world.say(fact)
    await world.start()

    codes = {}
    for fact in (gone, changed, outside, fine):
        status = await world.ended(fact)
        codes[fact.song_id] = status.reason.code if status.reason else None
        assert status.reason is None or str(world.root) not in status.reason.message

    assert codes == {1: "file-missing", 2: "file-changed", 3: "file-missing", 4: None}
    assert world.bucket.keys() == ["4.flac"]


async def test_a_file_that_was_replaced_meanwhile_is_copied_as_it_is_now(world: World) -> None:
    await upload_job(world.bus)
    await set_state(world.bus, 1, JobState.PAUSED)
    old = world.file(content=b"old")
    await world.say(old, cause="old")
    await world.start()
    await world.until(lambda: consumer_made(world))
    await world.planned()
    new = world.file(content=b"new and better")
    await world.say(new, cause="new")

    await set_state(world.bus, 1, JobState.RUNNING)

    assert (await world.ended(new)).state is ItemState.SUCCEEDED
    copy = await world.copy_of(new)
    assert copy is not None and copy.sha256 == new.sha256
    assert world.bucket.client.get_object(Bucket=world.bucket.name, Key=NAME)["Body"].read() == b"new and better"


async def test_an_adopted_file_gets_its_digest_when_it_is_copied(world: World) -> None:
    await upload_job(world.bus)
    read = world.file()
    adopted = read.model_copy(update={"sha256": UNKNOWN_SHA256, "asset_id": 7, "location_id": 8})
    await world.say(adopted)
    await world.start()

    assert (await world.ended(adopted)).state is ItemState.SUCCEEDED
    copy = await world.copy_of(adopted)
    assert copy is not None
    assert (copy.sha256, copy.asset_id, copy.location_id) == (read.sha256, 7, None)


async def test_killed_after_the_file_was_sent_it_says_so_without_sending_again(world: World) -> None:
    async with Gate(world.bucket.server.endpoint) as gate:
        await upload_job(world.bus)
        fact = world.file()
        await world.start(OBJECT_ENDPOINT=gate.endpoint)
        gate.hold_answers_to_puts()
        await world.say(fact)
        await world.until(lambda: key_there(world))
        assert await world.copy_of(fact) is None

        await world.kill()
        gate.let_all_through()
        await world.start(OBJECT_ENDPOINT=gate.endpoint)

        status = await world.ended(fact)
        assert (status.state, status.result["already_there"]) == (ItemState.SUCCEEDED, True)
        assert await world.copy_of(fact) is not None
        assert gate.puts == 1


async def test_killed_in_the_middle_of_a_file_it_is_sent_whole(world: World) -> None:
    async with Gate(world.bucket.server.endpoint) as gate:
        await upload_job(world.bus)
        fact = world.file(content=os.urandom(20_000_000))
        gate.stop_after_bytes(5_000_000)
        await world.start(OBJECT_ENDPOINT=gate.endpoint)
        await world.say(fact)
        await world.until(lambda: past(gate, 5_000_000))

        await world.kill()
        gate.let_all_through()
        await world.start(OBJECT_ENDPOINT=gate.endpoint)

        status = await world.ended(fact)
        assert (status.state, status.result["already_there"]) == (ItemState.SUCCEEDED, False)
        body = world.bucket.client.get_object(Bucket=world.bucket.name, Key=NAME)["Body"].read()
        assert hashlib.sha256(body).hexdigest() == fact.sha256


async def test_without_a_store_it_idles_ready_and_says_so(world: World) -> None:
    await upload_job(world.bus)
    fact = world.file()
    await world.say(fact)
    await world.start(OBJECT_BUCKET="")

    ready = await world.ready()

    assert ready["status"] == 200
    store = ready["detail"]["object_store"]
    assert (store["configured"], "OBJECT_BUCKET" in store["message"]) == (False, True)
    held = await world.until(lambda: held_item(world, fact))
    assert (held.tries, held.reason and held.reason.code) == (0, "object-store-not-configured")


async def test_a_missing_bucket_holds_the_lane_with_the_reason(world: World) -> None:
    await upload_job(world.bus)
    fact = world.file()
    await world.start(OBJECT_BUCKET="no-such-bucket-here")
    await world.say(fact)

    held = await world.until(lambda: held_item(world, fact))

    assert held.reason is not None
    assert (held.tries, held.reason.code) == (0, "object-store-no-bucket")
    assert "OBJECT_BUCKET" in held.reason.message
    ready = await world.ready()
    assert ready["detail"]["object_store"]["usable"] is False
    log = (world.root / "uploader.log").read_text()
    assert world.environment["OBJECT_SECRET_KEY"] not in log + str(ready)


async def held_item(world: World, fact: FileStored) -> ItemStatus | None:
    status = await world.status(fact)
    return status if status is not None and status.state is ItemState.QUEUED and status.reason is not None else None


async def consumer_made(world: World) -> bool:
    return any(info.name == UPLOADER.name for info in await world.bus.js.consumers_info(CATALOG))


async def key_there(world: World) -> bool:
    return await asyncio.to_thread(world.bucket.keys) != []


async def past(gate: Gate, size: int) -> bool:
    return gate.sent >= size


class Gate:
    """A TCP gate before the S3 server that can keep back what passes through it."""

    def __init__(self, endpoint: str) -> None:
        self._target = endpoint.removeprefix("http://").split(":")
        self._answers = asyncio.Event()
        self._answers.set()
        self._limit: int | None = None
        self.puts = 0
        self.sent = 0
        self.endpoint = ""

    def hold_answers_to_puts(self) -> None:
        self._answers.clear()

    def stop_after_bytes(self, size: int) -> None:
        self._limit = size

    def let_all_through(self) -> None:
        self._answers.set()
        self._limit = None

    async def __aenter__(self) -> Gate:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.endpoint = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.let_all_through()
        self._server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._target
        there, to_there = await asyncio.open_connection(host, int(port))
        is_put = False

        async def forth() -> None:
            nonlocal is_put
            while data := await reader.read(65536):
                if data.startswith((b"PUT ", b"GET ", b"HEAD ", b"POST ", b"DELETE ")):
                    is_put = data.startswith(b"PUT ")
                    self.puts += is_put
                self.sent += len(data)
                while self._limit is not None and self.sent > self._limit:
                    if reader.at_eof():
                        return
                    await asyncio.sleep(0.01)
                to_there.write(data)
                await to_there.drain()

        async def back() -> None:
            while data := await there.read(65536):
                if is_put:
                    await self._answers.wait()
                writer.write(data)
                await writer.drain()

        tasks = [asyncio.create_task(forth()), asyncio.create_task(back())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for stream in (writer, to_there):
            stream.close()
