"""A real console process, and workers in the test that do what the test says."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import httpx

from common.bus import Bus, JobsFollower
from common.contracts.envelope import now
from common.contracts.names import Stage
from common.contracts.status import Heartbeat
from common.contracts.work import JobPlan, SongDownload
from common.errors import PermanentError, Waiting
from common.settings import Settings
from common.work import ItemContext, Outcome, WorkLoop, succeeded
from tests.support.nats import NatsServer
from tests.support.stack import free_port

PATIENCE = 40.0


class ConsoleProcess:
    """One console on its own folder and port."""

    def __init__(self, directory: Path, nats_server: NatsServer, **environment: str) -> None:
        self.root = directory / "data"
        self.log = directory / "console.log"
        self.port = free_port()
        self.token = secrets.token_urlsafe(36)
        inherited = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG", "TMPDIR"}}
        self.environment = {
            **inherited,
            **nats_server.account("console"),
            "ROOT_DIR": str(self.root),
            "CONSOLE_TOKEN": self.token,
            "ORIGIN_TOKEN_SECRET": secrets.token_urlsafe(36),
            "WEB_PORT": str(self.port),
            "LEASE_SECONDS": "3",
            "SOURCES": "local,feed",
            **environment,
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(base_url=self.url, headers=self.bearer, timeout=20, trust_env=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def start(self, *, before: Sequence[str] = ()) -> None:
        """Start it and wait until it answers. ``before``: the beginning of its command line."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*before, sys.executable, "-m", "console", "serve"],
                env=self.environment,
                cwd=self.log.parent,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            with contextlib.suppress(httpx.TransportError):
                if self.http.get("/healthz").status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"the console did not start: {self.log.read_text()[-4000:]}")

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> float:
        """End it in order; how many seconds it took."""
        assert self.process is not None
        if self.process.poll() is not None:
            return 0.0
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        return time.monotonic() - begun

    def close(self) -> None:
        self.http.close()
        if self.process is not None:
            self.stop()

    def ok(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        """Ask, and give the JSON of an answer that must be good."""
        answer = self.http.request(method, path, **arguments)
        assert answer.status_code < 300, (answer.status_code, answer.text)
        content: dict[str, Any] = answer.json()
        return content

    def command(self, job_id: int, kind: str, item: int | None = None) -> dict[str, Any]:
        body = {"command_type": kind} | ({"target_item_id": item} if item else {})
        return self.ok("POST", f"/api/jobs/{job_id}/commands", json=body)

    async def until(
        self, path: str, condition: Callable[[dict[str, Any]], bool], *, seconds: float = PATIENCE
    ) -> dict[str, Any]:
        """Ask for ``path`` until the answer is as it should be."""
        deadline = time.monotonic() + seconds
        while True:
            content = await asyncio.to_thread(self.ok, "GET", path)
            if condition(content):
                return content
            assert time.monotonic() < deadline, content
            await asyncio.sleep(0.1)

    async def until_state(self, job_id: int, state: str, *, seconds: float = PATIENCE) -> dict[str, Any]:
        return await self.until(f"/api/jobs/{job_id}", lambda job: job["state"] == state, seconds=seconds)


class Workers:
    """A collector and a downloader in one: plans ``songs``, and downloads as their names say.

    ``bad …`` and ``broken …`` fail for good until :attr:`mended`, ``slow …`` waits until :attr:`gate` is set,
    ``later …`` waits for a server for six seconds the first time, ``much later …`` for ten minutes, anything
    else succeeds.
    """

    def __init__(self, bus: Bus, settings: Settings, songs: Iterable[str]) -> None:
        self.songs = list(songs)
        self.gate = asyncio.Event()
        self.mended = False
        self.started: list[str] = []
        self.done: list[str] = []
        self._bus = bus
        self._jobs = JobsFollower(bus)
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._begun = now()
        self._loop = WorkLoop(
            bus=bus,
            jobs=self._jobs,
            handlers={Stage.PLAN: self._plan, Stage.DOWNLOAD: self._download},
            settings=settings,
            concurrency=2,
        )

    async def start(self) -> None:
        await self._jobs.start()
        self._tasks = [asyncio.create_task(self._loop.run(self._stop)), asyncio.create_task(self._beat())]

    async def stop(self) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def _plan(self, item: JobPlan, context: ItemContext) -> Outcome:
        if item.stage is Stage.DOWNLOAD:
            await context.plan(
                SongDownload(job_id=item.job_id, source="local", song_id=number, remote_id=name, name=name)
                for number, name in enumerate(self.songs, start=1)
            )
        return succeeded()

    async def _download(self, item: SongDownload, context: ItemContext) -> Outcome:
        self.started.append(item.name)
        if item.name.startswith("broken") and not self.mended:
            raise PermanentError("This file is damaged.", code="content-broken")
        if item.name.startswith("bad") and not item.force and not self.mended:
            raise PermanentError("This file is not audio, it is a web page.", code="not-audio")
        first = self.started.count(item.name) == 1
        if first and item.name.startswith(("later", "much later")):
            seconds = 600.0 if item.name.startswith("much") else 6.0
            raise Waiting("Waiting for music.example.org: it cannot be reached.", seconds=seconds)
        step = 0
        while item.name.startswith("slow") and not self.gate.is_set() and not context.canceled.is_set():
            step += 1
            context.progress(step * 10_000, 1_000_000)
            await asyncio.sleep(0.1)
        self.done.append(item.name)
        return succeeded(bytes=1)

    async def _beat(self) -> None:
        while not self._stop.is_set():
            beat = Heartbeat(
                service="downloader",
                instance="test",
                started_at=self._begun,
                ready=True,
                jobs_revision=self._jobs.state.revision,
                concurrency=self._loop.concurrency,
                items=self._loop.items,
                holds=self._loop.holds,
                bytes_total=self._loop.bytes_total,
            )
            await self._bus.send(beat.subject, beat, id=secrets.token_hex(8))
            await asyncio.sleep(0.3)


@contextlib.asynccontextmanager
async def working(bus: Bus, settings: Settings, songs: Iterable[str]) -> AsyncIterator[Workers]:
    """Workers that end with the block."""
    workers = Workers(bus, settings, songs)
    await workers.start()
    try:
        yield workers
    finally:
        workers.gate.set()
        await workers.stop()
