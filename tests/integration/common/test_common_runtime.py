"""A service process starts, shows itself, and ends within seconds, whatever happens around it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from nats.aio.msg import Msg

from common.bus import Bus
from common.contracts.envelope import decode
from common.contracts.status import Heartbeat
from tests.support.nats import NatsServer

PROBE = """
import asyncio
from common.process import run_service
from common.runtime import Runtime
from common.settings import Settings

async def build(runtime: Runtime) -> None:
    async def work() -> None:
        {work}
    runtime.add_task("work", work)
    runtime.add_detail("color", lambda: "blue")

run_service("probe", Settings, build)
"""
FOREVER = "await asyncio.Event().wait()"


class Probe:
    """Starts the service above, with any body for its one task."""

    def __init__(self, nats_server: NatsServer, directory: Path) -> None:
        self.directory = directory
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.environment = {
            **os.environ,
            **nats_server.settings,
            "HEALTH_PORT": str(self.port),
            "INSTANCE": "One.Two",
            "ROOT_DIR": str(directory / "data"),
        }
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, work: str = FOREVER, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PROBE.format(work=work)],
            env={**self.environment, **environment},
            cwd=self.directory,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    async def page(self, name: str) -> httpx.Response:
        async with httpx.AsyncClient() as client, asyncio.timeout(20):
            while True:
                try:
                    return await client.get(f"http://127.0.0.1:{self.port}/{name}")
                except httpx.TransportError:
                    await asyncio.sleep(0.05)


@pytest.fixture
def probe(nats_server: NatsServer, tmp_path: Path) -> Iterator[Probe]:
    one = Probe(nats_server, tmp_path)
    yield one
    for process in one.processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


async def test_it_is_healthy_shows_its_detail_and_beats(bus: Bus, probe: Probe) -> None:
    beats: asyncio.Queue[bytes] = asyncio.Queue()

    async def beat(message: object) -> None:
        beats.put_nowait(message.data)  # type: ignore[attr-defined]

    await bus.nc.subscribe("hb.probe.*", cb=beat)
    probe.start()

    assert (await probe.page("healthz")).text == "ok\n"
    ready = (await probe.page("readyz")).json()
    assert (ready["ready"], ready["detail"]["color"]) == (True, "blue")
    assert "music_cloud_ready" in (await probe.page("metrics")).text
    heartbeat = decode(await asyncio.wait_for(beats.get(), 10), Heartbeat).data
    assert (heartbeat.service, heartbeat.instance, heartbeat.detail["color"]) == ("probe", "one-two", "blue")
    state = await bus.nc.request("svc.probe.one-two.state", b"", timeout=2)
    assert json.loads(state.data)["instance"] == "one-two"


async def test_it_ends_in_order_within_seconds(bus: Bus, probe: Probe) -> None:
    process = probe.start()
    await probe.page("healthz")
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 10) == 0
    assert time.monotonic() - began < 5


async def test_its_last_heartbeat_says_that_it_is_the_last(bus: Bus, probe: Probe) -> None:
    beats: list[Heartbeat] = []

    async def beat(message: Msg) -> None:
        beats.append(decode(message.data, Heartbeat).data)

    await bus.nc.subscribe("hb.probe.*", cb=beat)
    process = probe.start()
    await probe.page("healthz")
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 10) == 0
    await bus.nc.flush()
    assert [one.leaving for one in beats] == [*([False] * (len(beats) - 1)), True]


async def test_it_ends_within_seconds_when_the_bus_is_gone(bus: Bus, nats_server: NatsServer, probe: Probe) -> None:
    process = probe.start()
    await probe.page("healthz")
    nats_server.kill()
    async with asyncio.timeout(10):
        while (await probe.page("readyz")).status_code != 503:
            await asyncio.sleep(0.05)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 10) == 0
    assert time.monotonic() - began < 5


async def test_a_thread_that_hangs_does_not_keep_the_process(bus: Bus, probe: Probe) -> None:
    process = probe.start("import time; await asyncio.to_thread(time.sleep, 600)")
    await probe.page("healthz")
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 8) == 0


async def test_a_task_that_fails_ends_the_process_with_its_sentence(bus: Bus, probe: Probe) -> None:
    failing = "from common.errors import MusicCloudError; raise MusicCloudError('The shelf is full. Empty it.')"
    process = probe.start(failing)
    _, said = await asyncio.to_thread(process.communicate, None, 20)
    assert process.returncode == 1
    assert "probe: The shelf is full. Empty it." in said
    assert "Traceback" not in said


async def test_a_busy_port_is_one_sentence(bus: Bus, probe: Probe) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", probe.port))
        taken.listen()
        process = probe.start()
        _, said = await asyncio.to_thread(process.communicate, None, 20)
    assert process.returncode == 2
    assert f"Port {probe.port}" in said
    assert "Traceback" not in said


async def test_a_wrong_password_is_one_sentence_without_the_password(bus: Bus, probe: Probe) -> None:
    process = probe.start(NATS_PASSWORD="wrong-horse-battery")
    _, said = await asyncio.to_thread(process.communicate, None, 20)
    assert process.returncode == 2
    assert "NATS_PASSWORD" in said
    assert "wrong-horse" not in said
    assert "Traceback" not in said


async def test_it_waits_for_a_bus_that_starts_later(nats_server: NatsServer, bus: Bus, probe: Probe) -> None:
    nats_server.kill()
    process = probe.start()
    await asyncio.to_thread(nats_server.restart)
    assert (await probe.page("healthz")).text == "ok\n"
    assert process.poll() is None
