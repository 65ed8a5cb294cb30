"""Fetching from the exporter as a process, on a real bus and a real object store, and what kill -9 leaves."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from common.bus import Bus, FactWriter
from common.contracts.facts import Fact
from common.secret_files import ensure_secrets, read_secrets
from mirror.format.digest import content_of
from tests.support.catalog_facts import playlist, pool, song, stored
from tests.support.nats import NatsServer
from tests.support.s3 import S3Bucket
from tests.support.shelf import apply
from tests.support.stack import free_port

CATALOG = "/music-cloud/catalog"
PATIENCE = 30.0
T = TypeVar("T")


class Exporter:
    """One exporter process, asked over HTTP alone."""

    def __init__(self, folder: Path, server: NatsServer, bus: Bus) -> None:
        self.folder = folder
        self.port, self.health = free_port(), free_port()
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", trust_env=False)
        self.process: asyncio.subprocess.Process | None = None
        self._server = server
        self._bus = bus
        folder.mkdir()

    async def start(self, **environment: str) -> asyncio.subprocess.Process:
        kept = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG", "TMPDIR"}}
        with (self.folder / "exporter.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "exporter",
                cwd=self.folder,
                env={
                    **kept,
                    **self._server.account("exporter"),
                    "ROOT_DIR": str(self.folder / "data"),
                    "EXPORTER_PORT": str(self.port),
                    "HEALTH_PORT": str(self.health),
                    "EXPORT_SETTLE_SECONDS": "0.2",
                    "SNAPSHOT_UPLOAD_SECONDS": "0",
                    **environment,
                },
                stdout=log,
                stderr=log,
            )
        return self.process

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    def log(self) -> str:
        return (self.folder / "exporter.log").read_text()

    async def write(self, facts: Iterable[Fact], cause: str) -> None:
        writer = FactWriter(self._bus)
        for fact in facts:
            await writer.publish(fact, cause=cause)

    async def until(self, ask: Callable[[], Awaitable[T | None]], what: str) -> T:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                if (found := await ask()) is not None:
                    return found
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)
        raise AssertionError(f"waited in vain for {what}\n{self.log()[-3000:]}")

    async def newest(self, tracks: int, **options: Any) -> dict[str, Any]:
        """The manifest of the newest snapshot, once it has so many tracks."""

        async def ask() -> dict[str, Any] | None:
            found = await self.http.get(f"{CATALOG}/refs", **options)
            manifest: dict[str, Any] = found.json().get("manifest", {})
            return manifest if manifest.get("track_count") == tracks else None

        return await self.until(ask, f"a snapshot of {tracks} tracks")

    async def pull(self, database: Path, want: str, *have: str, **options: Any) -> dict[str, Any]:
        async def ask() -> dict[str, Any] | None:
            content = {"want": [want], "have": list(have)}
            found = await self.http.post(f"{CATALOG}/fetch", json=content, **options)
            return found.json() if found.status_code == 200 else None

        answer = await self.until(ask, "a pack")
        apply(io.BytesIO((await self.http.get(answer["mpack_url"])).content), database)
        return answer


@pytest.fixture
async def exporter(tmp_path: Path, nats_server: NatsServer, bus: Bus) -> AsyncIterator[Exporter]:
    one = Exporter(tmp_path / "exporter", nats_server, bus)
    yield one
    await one.http.aclose()
    await one.kill()


def library(count: int) -> list[Fact]:
    names = [f"s{number}" for number in range(count)]
    return [
        *(song(name) for name in names),
        *(stored(name) for name in names),
        *playlist("p", names, version=count),
        pool("top", ["p"]),
    ]


async def test_a_mirror_follows_over_restarts_and_rebuilds(exporter: Exporter, tmp_path: Path) -> None:
    await exporter.write(library(20), "first")
    await exporter.start()
    first = await exporter.newest(20)
    copy = tmp_path / "mirror.db"
    assert (await exporter.pull(copy, first["snapshot_id"]))["have"] is None
    assert content_of(copy).snapshot_id == first["snapshot_id"]

    await exporter.write(library(21), "second")
    second = await exporter.newest(21)
    answer = await exporter.pull(copy, second["snapshot_id"], first["snapshot_id"])
    assert answer["have"] == first["snapshot_id"]
    assert content_of(copy).snapshot_id == second["snapshot_id"]

    # Its history is not lost with the process.
    await exporter.kill()
    await exporter.start()
    await exporter.write(library(22), "third")
    third = await exporter.newest(22)
    assert third["lineage"] == first["lineage"]
    assert (await exporter.pull(copy, third["snapshot_id"], second["snapshot_id"]))["have"] == second["snapshot_id"]
    assert content_of(copy).snapshot_id == third["snapshot_id"]

    async with httpx.AsyncClient(trust_env=False) as http:
        numbers = (await http.get(f"http://127.0.0.1:{exporter.health}/metrics")).text
    assert re.search(r'music_cloud_fetches_total\{answer="delta",service="exporter"\} 1\.0', numbers)
    assert re.search(r"music_cloud_pack_sent_bytes_total\{.*\} [1-9]", numbers)
    assert "signature=" not in exporter.log()


async def test_a_private_catalog_opens_with_the_token_made_at_first_start(exporter: Exporter, tmp_path: Path) -> None:
    data = exporter.folder / "data"
    data.mkdir()
    ensure_secrets(data)
    token = read_secrets(data, "operator")["CATALOG_TOKEN"]
    await exporter.write(library(3), "first")
    await exporter.start(CATALOG_VISIBILITY="private", LOG_LEVEL="debug")
    credential = {"Authorization": f"Bearer {token}"}
    newest = await exporter.newest(3, headers=credential)
    await exporter.pull(tmp_path / "mirror.db", newest["snapshot_id"], headers=credential)
    for path in (f"{CATALOG}/refs", "/snapshots/current", f"/snapshots/{newest['snapshot_id'][7:]}/catalog_read.db"):
        assert (await exporter.http.get(path)).status_code == 404
        assert (await exporter.http.get(path, headers=credential)).status_code == 200
    assert token not in exporter.log()


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"CATALOG_VISIBILITY": "private", "CATALOG_TOKEN": "short"}, "CATALOG_TOKEN"),
        ({"SNAPSHOT_BUCKET": "b"}, "OBJECT_ACCESS_KEY"),
        (
            {
                "SNAPSHOT_BUCKET": "b",
                "SNAPSHOT_PUBLIC_BASE_URL": "https://cdn.example",
                "CATALOG_VISIBILITY": "private",
                "CATALOG_TOKEN": "x" * 40,
            },
            "SNAPSHOT_PUBLIC_BASE_URL",
        ),
        ({"CATALOG_OWNER": "snapshots"}, "CATALOG_OWNER"),
    ],
)
async def test_settings_that_cannot_work_end_the_start(
    exporter: Exporter, environment: dict[str, str], says: str
) -> None:
    process = await exporter.start(**environment)
    assert await asyncio.wait_for(process.wait(), PATIENCE) == 2
    assert says in exporter.log()
    assert "Traceback" not in exporter.log()


class Gateway:
    """In front of the object store: lets everything through until told what to hold, and then holds it for ever."""

    def __init__(self, endpoint: str) -> None:
        self._host, _, port = endpoint.rpartition("/")[2].partition(":")
        self._port = int(port)
        self.hold = b""
        self.held = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._open: list[asyncio.StreamWriter] = []

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._host, self._port)
        self._open += [writer, back]
        await asyncio.gather(self._copy(reader, back, watch=True), self._copy(there, writer, watch=False))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, watch: bool) -> None:
        try:
            while data := await reader.read(64 * 1024):
                if watch and self.hold and self.hold in data:
                    self.held.set()
                    return
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


async def test_killed_between_pack_and_manifest_the_bucket_still_names_the_last_one(
    exporter: Exporter, s3_bucket: S3Bucket, tmp_path: Path
) -> None:
    gateway = Gateway(s3_bucket.server.endpoint)
    store = {**s3_bucket.settings_env, "OBJECT_ENDPOINT": await gateway.start(), "SNAPSHOT_BUCKET": s3_bucket.name}

    def named() -> dict[str, Any]:
        body = s3_bucket.client.get_object(Bucket=s3_bucket.name, Key="music-cloud/catalog/refs.json")["Body"].read()
        found: dict[str, Any] = json.loads(body)
        return found

    async def is_named(id: str) -> bool | None:
        try:
            return named()["snapshot_id"] == id or None
        except s3_bucket.client.exceptions.NoSuchKey:
            return None

    await exporter.write(library(5), "first")
    await exporter.start(**store)
    first = (await exporter.newest(5))["snapshot_id"]
    await exporter.until(lambda: is_named(first), "the first snapshot in the bucket")
    gateway.hold = b"manifest.json HTTP/1.1"
    await exporter.write(library(6), "second")
    second = (await exporter.newest(6))["snapshot_id"]
    await asyncio.wait_for(gateway.held.wait(), PATIENCE)
    await exporter.kill()

    # What is named is complete; the rest is only bytes.
    keys = " ".join(s3_bucket.keys())
    assert f"{second[7:]}/catalog_read.db" in keys
    assert f"{second[7:]}/manifest.json" not in keys
    assert named()["snapshot_id"] == first
    gateway.hold = b""
    await exporter.start(**store)
    await exporter.until(lambda: is_named(second), "the second snapshot in the bucket")
    gateway.stop()
    hexes = {key.split("/")[3] for key in sorted(s3_bucket.keys()) if "/snapshots/" in key}
    assert hexes == {first[7:], second[7:]}
    for id in (first, second):
        body = s3_bucket.client.get_object(
            Bucket=s3_bucket.name, Key=f"music-cloud/catalog/snapshots/{id[7:]}/catalog_read.db"
        )["Body"].read()
        (tmp_path / "copy.db").write_bytes(body)
        assert content_of(tmp_path / "copy.db").snapshot_id == id
