"""Logs of real processes: each line is one JSON object, names its item, and holds no secret."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from common.bus import Bus
from common.contracts.names import ItemState, JobType
from common.contracts.status import ItemStatus
from common.contracts.streams import STATUS
from common.contracts.work import SongDownload
from common.work import Planner
from tests.support.jobs import make_job
from tests.support.nats import NatsServer
from tests.support.stack import free_port

SECRETS = {
    "CONSOLE_TOKEN": "console-credential-0123456789",
    "OBJECT_SECRET_KEY": 'a "quoted" secret \\ of S3',
    "OBJECT_ACCESS_KEY": "access-key-of-S3",
    "FEEDS": "https://me:pass%2Fword-of-feed@feeds.example/list.m3u8",
}
HIDDEN = (
    "console-credential-0123456789",
    "quoted",
    "access-key-of-S3",
    "word-of-feed",
    "hunter2",
    "eyJhbGciOiJIUzI1NiJ9",
)

WORKER = """
import asyncio, logging, threading
from common.contracts.names import Stage
from common.errors import PermanentError
from common.process import run_service
from common.runtime import Runtime
from common.settings import Settings
from common.telemetry import ContextThreads, get_logger
from common.work import ItemContext, WorkLoop, succeeded
from pydantic import SecretStr

class Own(Settings):
    console_token: SecretStr | None = None

async def build(runtime: Runtime) -> None:
    threads = ContextThreads(2)
    own = runtime.settings
    together = asyncio.Barrier(2)

    def in_thread(name):
        get_logger().info("in a thread", of=name)
        logging.getLogger("urllib3").warning("a library says %s", name)

    async def handle(item, context: ItemContext):
        # Both are under way at the same time: their fields must not mix.
        await together.wait()
        await asyncio.get_running_loop().run_in_executor(threads, in_thread, item.name)
        if item.name == "bad":
            try:
                raise ValueError(f"cannot use {{own.object_secret_key.get_secret_value()}} at {{own.feeds}}")
            except ValueError as error:
                get_logger().error("it failed", exc_info=error, key=own.console_token.get_secret_value())
            get_logger().warning("asked https://u:hunter2@host/x?token=hunter2 Authorization: Bearer hunter2hunter2")
            get_logger().info("link", path="/stream/eyJhbGciOiJIUzI1NiJ9.eyJsb2NhdG9yIjoiYSJ9.c2lnbmF0dXJlMTIz")
            logging.getLogger("urllib3").error("with %s", own.object_access_key.get_secret_value())
            raise RuntimeError("bug with " + own.object_secret_key.get_secret_value())
        return succeeded()

    runtime.add_work(WorkLoop(bus=runtime.bus, jobs=runtime.jobs, handlers={{Stage.DOWNLOAD: handle}},
                              settings=own, concurrency=2))

    async def app(scope, receive, send):
        get_logger().info("serving")
        raise KeyError(own.console_token.get_secret_value())

    server = runtime.serve_http(app, host="127.0.0.1", port={port})
    get_logger().info("settings", settings=repr(own), raw=own.console_token.get_secret_value())

run_service("probe", Own, build)
"""


async def answer_of(url: str) -> httpx.Response:
    """The answer, as soon as somebody listens."""
    async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(20):
        while True:
            try:
                return await client.get(url, headers={"X-Request-ID": "req-1"})
            except httpx.TransportError:
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("format", ["json", "text"])
async def test_lines_name_their_item_and_hold_no_secret(
    format: str, bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    port = free_port()
    await make_job(bus, job_id=7, job_type=JobType.DOWNLOAD_ONLY)
    songs = [
        SongDownload(job_id=7, source="local", song_id=number, remote_id=name, name=name)
        for number, name in ((11, "good"), (12, "bad"))
    ]
    await Planner(bus).put(songs, cause="test", job_id=7, trace="trace-of-job-7")
    environment = {
        **nats_server.settings,
        **SECRETS,
        "PATH": "/usr/bin:/bin",
        "ROOT_DIR": str(tmp_path / "data"),
        "LOG_FORMAT": format,
        "LOG_LEVEL": "debug",
        "MAX_TRIES": "1",
    }
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER.format(port=port)], env=environment, stderr=output, cwd=tmp_path
        )
    try:
        assert (await answer_of(f"http://127.0.0.1:{port}/a/b/c/d")).status_code == 500
        async with asyncio.timeout(20):
            while True:
                told = await bus.last_message(STATUS, songs[1].status_subject, ItemStatus)
                if told is not None and told.data.state.ended:
                    break
                await asyncio.sleep(0.05)
        assert told.data.state is ItemState.FAILED
    finally:
        process.terminate()
        process.wait(10)
    text = log.read_text()

    for secret in (*HIDDEN, nats_server.password):
        assert secret not in text, f"{secret} in:\n{text}"
    if format == "text":
        assert "in a thread" in text
        return
    lines = [json.loads(line) for line in text.splitlines()]
    assert all({"event", "level", "timestamp", "service", "instance"} <= line.keys() for line in lines)
    threads = [line for line in lines if line["event"] == "in a thread"]
    assert {(line["of"], line["item"]) for line in threads} == {("good", "11"), ("bad", "12")}
    for line in [*threads, *(one for one in lines if one["event"] in ("failed", "it failed", "item failed by a bug"))]:
        assert (line["job"], line["stage"], line["trace"]) == (7, "download", "trace-of-job-7"), line
    library = [line for line in lines if line.get("logger") == "urllib3" and line["event"].startswith("a library says")]
    assert {(line["event"].rpartition(" ")[2], line["item"]) for line in library} == {("good", "11"), ("bad", "12")}
    assert [line["request"] for line in lines if line["event"] == "serving"] == ["req-1"]
    assert [line["request"] for line in lines if line["event"] == "request"] == ["req-1"]
    assert [line for line in lines if line.get("logger") == "uvicorn.error" and "exception" in line]
