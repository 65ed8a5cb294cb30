"""A mirror of the real exporter, on a real bus: told of each snapshot, over restarts, rebuilds and a change of keys."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from common.bus import Bus, FactWriter
from common.contracts.facts import Fact
from mirror.client import Mirror, current_snapshot
from mirror.format.keys import SigningKey
from tests.support.catalog_facts import playlist, pool, song, stored
from tests.support.mirrors import PATIENCE, environment, mirror_command, run_mirror, shown
from tests.support.nats import NatsServer
from tests.support.stack import free_port


class Publishing:
    """The exporter as a process, and what it published last."""

    def __init__(self, folder: Path, server: NatsServer, bus: Bus) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/music-cloud/catalog"
        self.key = SigningKey.generate()
        self._server, self._bus = server, bus
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()

    def start(self, *arguments: str, next_key: SigningKey | None = None, **extra: str) -> None:
        self.stop()
        announced = {} if next_key is None else {"SNAPSHOT_NEXT_SIGNING_KEY": next_key.to_seed()}
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "exporter", *arguments],
                cwd=self.folder,
                env={
                    **environment(**self._server.account("exporter")),
                    "ROOT_DIR": str(self.folder / "data"),
                    "EXPORTER_PORT": str(self.port),
                    "EXPORT_SETTLE_SECONDS": "0.2",
                    "EXPORT_MAX_INTERVAL_SECONDS": "1",
                    "SNAPSHOT_SIGNING_KEY": self.key.to_seed(),
                    **announced,
                    **extra,
                },
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def write(self, songs: int) -> None:
        """The facts of a library of so many songs."""
        names = [f"s{number}" for number in range(songs)]
        facts: list[Fact] = [song(name) for name in names]
        facts += [stored(name) for name in names]
        facts += [*playlist("p", names, version=songs), pool("top", ["p"])]
        writer = FactWriter(self._bus)
        for fact in facts:
            await writer.publish(fact, cause=str(songs))

    def manifest(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.folder / "data/snapshots/current/manifest.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return found

    async def published(self, songs: int) -> None:
        """Wait until a snapshot of so many songs is there."""
        deadline = time.monotonic() + PATIENCE
        while self.manifest().get("track_count") != songs:
            assert time.monotonic() < deadline, (self.folder / "log").read_text()[-3000:]
            await asyncio.sleep(0.05)

    async def mirrored(self, mirror: Path, songs: int) -> None:
        """Wait until the mirror shows what was published of so many songs."""
        deadline = time.monotonic() + PATIENCE
        while True:
            manifest, here = self.manifest(), current_snapshot(mirror)
            if manifest.get("track_count") == songs and here and here.manifest.raw == manifest:
                assert shown(mirror) == manifest["snapshot_id"]
                return
            assert time.monotonic() < deadline, (self.folder / "log").read_text()[-3000:]
            await asyncio.sleep(0.05)


@pytest.fixture
def publishing(tmp_path: Path, nats_server: NatsServer, bus: Bus) -> Iterator[Publishing]:
    one = Publishing(tmp_path / "exporter", nats_server, bus)
    yield one
    one.stop()


@pytest.fixture
def watch(tmp_path: Path, nats_server: NatsServer) -> Iterator[Callable[[Publishing], Path]]:
    """Start a mirror that hears the bus and asks by itself only once an hour; returns its folder."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(publishing: Publishing) -> Path:
        folder = tmp_path / "mirror"
        account = nats_server.account("reader")
        with (tmp_path / "mirror.log").open("wb") as log:
            processes.append(
                subprocess.Popen(
                    mirror_command(
                        "watch", publishing.url, "--into", folder, "--every", 3600, "--nats", nats_server.url
                    ),
                    env=environment(MUSIC_CLOUD_MIRROR_NATS_PASSWORD=account["NATS_PASSWORD"]),
                    stdout=log,
                    stderr=log,
                )
            )
        return folder

    yield start
    for process in processes:
        process.terminate()
        process.wait()


async def test_a_mirror_follows_the_exporter_by_the_bus(
    publishing: Publishing, watch: Callable[[Publishing], Path], tmp_path: Path
) -> None:
    await publishing.write(20)
    publishing.start()
    await publishing.published(20)
    mirror = watch(publishing)
    await publishing.mirrored(mirror, 20)
    await publishing.write(21)
    await publishing.mirrored(mirror, 21)

    # The catalog is made anew from the bus: another lineage, and the mirror goes on.
    lineage = publishing.manifest()["lineage"]
    publishing.start("rebuild")
    await publishing.write(22)
    await publishing.mirrored(mirror, 22)
    assert publishing.manifest()["lineage"] != lineage

    assert "by a pack of changes" in (tmp_path / "mirror.log").read_text()
    key = base64.b64encode(publishing.key.public_key).decode()
    verified = run_mirror("verify", mirror, "--key", key)
    assert verified.returncode == 0, verified.stderr


async def test_a_mirror_follows_a_change_of_keys(publishing: Publishing, tmp_path: Path) -> None:
    async def pulled(songs: int) -> None:
        await publishing.write(songs)
        await publishing.published(songs)
        with Mirror(tmp_path / "mirror", publishing.url, keys=[first.public_key]) as mirror:
            await asyncio.to_thread(mirror.pull)
        assert shown(tmp_path / "mirror") == publishing.manifest()["snapshot_id"]

    first, second = publishing.key, SigningKey.generate()
    publishing.start()
    await pulled(3)
    publishing.start(next_key=second)
    await pulled(4)
    publishing.key = second
    publishing.start()
    await pulled(5)

    here = current_snapshot(tmp_path / "mirror")
    assert here is not None
    assert here.manifest.signature is not None
    assert here.manifest.signature.key_id == second.key_id
