"""A service process ends within seconds wherever a signal finds it, and when the bus refuses it for good."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from nats.aio.msg import Msg

from common.bus import Bus
from tests.support.nats import NatsServer

PROBE = """
import asyncio
from common.process import run_service
from common.runtime import Runtime
from common.settings import Settings
from common.telemetry import get_logger

async def build(runtime: Runtime) -> None:
    {body}

run_service("probe", Settings, build)
"""
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
async def start(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Start]:
    processes: list[subprocess.Popen[str]] = []

    def begin(body: str = "pass", **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PROBE.format(body=body)],
            env={**os.environ, **nats_server.settings, "ROOT_DIR": str(tmp_path / "data"), **environment},
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


async def said(process: subprocess.Popen[str], words: str) -> str:
    """Wait until it says ``words``; return the lines up to there."""
    assert process.stderr is not None
    lines = ""
    async with asyncio.timeout(30):
        while words not in lines:
            line = await asyncio.to_thread(process.stderr.readline)
            assert line, lines
            lines += line
    return lines


async def ends(process: subprocess.Popen[str], *, within: float) -> int:
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    status = await asyncio.to_thread(process.wait, 20)
    assert time.monotonic() - began < within
    return status


async def test_a_signal_ends_it_while_it_waits_for_the_bus(nats_server: NatsServer, start: Start) -> None:
    nats_server.kill()
    process = start()
    await said(process, "waiting for the bus")
    assert await ends(process, within=4) == 0


async def test_a_signal_ends_it_while_it_waits_for_the_streams(bus: Bus, start: Start) -> None:
    await bus.js.delete_stream("WORK")
    asked = asyncio.Event()

    async def seen(_: Msg) -> None:
        asked.set()

    await bus.nc.subscribe("$JS.API.STREAM.INFO.WORK", cb=seen)
    process = start()
    await asyncio.wait_for(asked.wait(), 30)
    assert await ends(process, within=4) == 0


async def test_a_signal_ends_it_while_it_is_built(bus: Bus, start: Start) -> None:
    process = start("print('building', file=__import__('sys').stderr, flush=True); await asyncio.Event().wait()")
    await said(process, "building")
    assert await ends(process, within=4) == 0


async def test_a_signal_ends_it_although_closing_hangs(bus: Bus, start: Start) -> None:
    process = start("runtime.on_stop(asyncio.Event().wait)")
    await said(process, "started")
    assert await ends(process, within=7) == 0


async def test_a_check_that_fails_is_shown_and_ends_nothing(bus: Bus, start: Start) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = start("runtime.add_check('disk', lambda: 1 / 0)", HEALTH_PORT=str(port))
    await said(process, "started")
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{port}/readyz")
    assert answer.status_code == 503
    assert answer.json()["problems"][0]["code"] == "check-failed"
    assert process.poll() is None


async def test_a_traceback_in_the_log_shows_no_variables(bus: Bus, start: Start) -> None:
    body = (
        "hidden = ''.join(['hunt', 'er2'])\n"
        "    try:\n        1 / 0\n"
        "    except ZeroDivisionError as error:\n        get_logger().error('a bug', exc_info=error)"
    )
    process = start(body)
    assert "hunter2" not in await said(process, "started")


async def test_it_says_once_that_the_bus_is_away_and_refuses(bus: Bus, nats_server: NatsServer, start: Start) -> None:
    """A server that came back with another password: no flood of lines, and the end is in order."""
    process = start()
    await said(process, "started")
    await bus.close()
    nats_server.kill()
    nats_server.passwords[nats_server.user] = secrets.token_urlsafe(16)
    await asyncio.to_thread(nats_server.restart)
    await asyncio.sleep(3)
    if process.poll() is None:
        assert await ends(process, within=4) == 0
    else:
        assert process.returncode == 1
    assert process.stderr is not None
    lines = process.stderr.read()
    assert "Traceback" not in lines
    assert lines.count("\n") < 15, lines
