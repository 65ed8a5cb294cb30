"""The origin as a real process: how it starts, what it refuses to start with, and what it never logs."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from common.bus.connection import Bus
from common.tokens import create_origin_token
from tests.support.nats import NatsServer
from tests.support.stack import free_port

SECRET = "a secret of the tests that is long enough to be one"
OLD_SECRET = "the secret before it that some links still have"
NAME = "qq/周杰倫/晴天.flac"


class OriginProcess:
    def __init__(self, root: Path, nats: NatsServer) -> None:
        self.root = root
        self.port, self.health_port = free_port(), free_port()
        self.environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            **nats.account("origin"),
            "ROOT_DIR": str(root),
            "ORIGIN_PORT": str(self.port),
            "HEALTH_PORT": str(self.health_port),
            "ORIGIN_TOKEN_SECRET": SECRET,
            "ORIGIN_TOKEN_PREVIOUS_SECRETS": OLD_SECRET,
            "LOG_LEVEL": "debug",
        }
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, **environment: str) -> asyncio.subprocess.Process:
        with (self.root / "origin.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "origin",
                env={**self.environment, **environment},
                cwd=self.root,
                stdout=log,
                stderr=log,
            )
        return self.process

    async def stop(self) -> tuple[int, float]:
        assert self.process is not None
        began = time.monotonic()
        self.process.terminate()
        return await asyncio.wait_for(self.process.wait(), 10), time.monotonic() - began

    def log(self) -> str:
        return (self.root / "origin.log").read_text()

    def url(self, secret: str = SECRET, *, seconds: float = 60) -> str:
        token = create_origin_token(secret, NAME, time.time() + seconds)
        return f"http://127.0.0.1:{self.port}/api/private-origin/stream/{token}"

    async def answering(self, client: httpx.AsyncClient) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                await client.get(f"http://127.0.0.1:{self.health_port}/healthz")
                return
            except httpx.TransportError:
                await asyncio.sleep(0.05)
        raise AssertionError(self.log())


@pytest.fixture
async def origin(tmp_path: Path, bus: Bus, nats_server: NatsServer) -> AsyncIterator[OriginProcess]:
    root = tmp_path / "root"
    (root / "library/qq/周杰倫").mkdir(parents=True)
    (root / "library" / NAME).write_bytes(b"music" * 100_000)
    origin = OriginProcess(root, nats_server)
    yield origin
    if origin.process is not None and origin.process.returncode is None:
        origin.process.kill()
        await origin.process.wait()


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


async def test_it_plays_believes_old_secrets_and_logs_no_token(
    origin: OriginProcess, client: httpx.AsyncClient
) -> None:
    await origin.start()
    await origin.answering(client)
    urls = [origin.url(), origin.url(OLD_SECRET), origin.url("x" * 40), origin.url(seconds=-5)]

    assert [(await client.get(url)).status_code for url in urls] == [200, 200, 401, 401]
    ready = (await client.get(f"http://127.0.0.1:{origin.health_port}/readyz")).json()
    assert (ready["ready"], ready["detail"]["port"]) == (True, origin.port)

    (origin.root / "library").rename(origin.root / "unmounted")
    assert (await client.get(urls[0])).status_code == 503
    status, seconds = await origin.stop()
    assert (status, seconds < 5) == (0, True)
    for url in urls:
        assert url.rpartition("/")[2] not in origin.log()
    assert SECRET not in origin.log() and "周杰倫" not in origin.log()


@pytest.mark.parametrize("which", ["ORIGIN_TOKEN_SECRET", "ORIGIN_TOKEN_PREVIOUS_SECRETS"])
async def test_a_secret_that_is_too_short_ends_the_start_with_how_to_make_one(
    origin: OriginProcess, which: str
) -> None:
    process = await origin.start(**{which: "much too short"})

    assert await asyncio.wait_for(process.wait(), 30) == 2
    assert "openssl rand -base64 48" in origin.log()
    assert "much too short" not in origin.log()


async def test_without_a_secret_it_answers_503_and_is_not_ready(
    origin: OriginProcess, client: httpx.AsyncClient
) -> None:
    await origin.start(ORIGIN_TOKEN_SECRET="", ORIGIN_TOKEN_PREVIOUS_SECRETS="")
    await origin.answering(client)

    answer = await client.get(origin.url())
    ready = await client.get(f"http://127.0.0.1:{origin.health_port}/readyz")

    assert (answer.status_code, answer.json()["code"]) == (503, "origin-not-configured")
    assert ready.status_code == 503
    assert ready.json()["problems"][0]["code"] == "origin-not-configured"
