"""Steering and watching jobs: a real console, four worker processes, and STATUS projected into the ledger.

    .venv/bin/python bench/jobs.py [--items 20000] [--work 4000] [--rounds 5]

Prints how long after a pause the last item starts and after a resume the first, items a second with four
workers, how fast STATUS becomes rows, and what memory the console has then (``--items 1000000`` for that of a
large library). Beside them, in the same run: a bare KV put until another process is told, ``fetch(1)`` and ack by
four bare processes, and ``executemany`` of the same statuses into a plain SQLite table.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import nats.errors
import uvloop
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common.bus import Bus
from common.bus.streams import ensure_streams
from common.contracts.envelope import decode, now
from common.contracts.names import ItemState, Stage
from common.contracts.status import ItemStatus
from common.contracts.streams import STATUS, WORK
from common.contracts.work import JobPlan, SongDownload
from common.process import run_service
from common.runtime import Runtime
from common.settings import Settings
from common.work import ItemContext, Outcome, Planner, WorkLoop, succeeded
from tests.support.console import ConsoleProcess
from tests.support.nats import NatsServer

WORKERS = 4
CONCURRENCY = 8
SLOW = 0.02
"""Seconds of an item while jobs are paused and resumed: short, so that many would start if they were let."""
IN_FLIGHT = 5000


def worker(songs: int, seconds: float) -> None:
    """One worker process, until it is ended: plans ``songs`` and does each in ``seconds``."""

    async def build(runtime: Runtime) -> None:
        async def plan(item: JobPlan, context: ItemContext) -> Outcome:
            await context.plan(
                SongDownload(job_id=item.job_id, source="local", song_id=n, remote_id=f"{n}", name=f"{n}")
                for n in range(songs)
            )
            return succeeded()

        async def download(_: SongDownload, __: ItemContext) -> Outcome:
            if seconds:
                await asyncio.sleep(seconds)
            return succeeded()

        runtime.add_work(
            WorkLoop(
                bus=runtime.bus,
                jobs=runtime.jobs,
                handlers={Stage.PLAN: plan, Stage.DOWNLOAD: download},
                settings=runtime.settings,
                concurrency=CONCURRENCY,
            )
        )

    run_service("downloader", Settings, build)


async def bare_worker(url: str, user: str, password: str) -> None:
    """``fetch(1)`` and a confirmed ack, one after the other, until there is nothing."""
    settings = Settings(nats_url=url, nats_user=user, nats_password=password)
    bus = await Bus.connect(settings, service="bench", instance="bare")
    subscription = await bus.js.pull_subscribe_bind("bare", WORK)
    print("ready", flush=True)
    sys.stdin.readline()
    while True:
        try:
            (message,) = await subscription.fetch(1, timeout=1)
            await message.ack_sync(1)
        except nats.errors.TimeoutError:
            break
    await bus.close()


@contextmanager
def workers(directory: Path, server: NatsServer, *, songs: int, seconds: float, count: int) -> Iterator[None]:
    """``count`` worker processes; they end with the block."""
    started = []
    for number in range(count):
        environment = {**server.settings, "ROOT_DIR": str(directory / "workers"), "INSTANCE": f"worker-{number}"}
        with (directory / f"worker-{number}.log").open("ab") as log:
            command = [sys.executable, __file__, "--worker", str(songs), str(seconds)]
            started.append(subprocess.Popen(command, env=environment, cwd=directory, stdout=log, stderr=log))
    try:
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(10)


@asynccontextmanager
async def stage(name: str, root: Path) -> AsyncIterator[tuple[Path, NatsServer, Bus]]:
    """A bus of its own for one measurement."""
    directory = root / name
    directory.mkdir()
    server = NatsServer(directory / "nats")
    server.start()
    settings = Settings(root_dir=directory, nats_url=server.url, nats_user=server.user, nats_password=server.password)
    bus = await Bus.connect(settings, service="bench", instance=name)
    try:
        await ensure_streams(bus)
        yield directory, server, bus
    finally:
        await bus.close()
        server.stop()


async def until(condition: Callable[[], bool], *, seconds: float = 300.0) -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        if time.monotonic() > deadline:
            raise TimeoutError("waited in vain")
        await asyncio.sleep(0.02)


async def steering(root: Path, *, rounds: int) -> None:
    """Pause to last start, and resume to first start, with items that take no time to speak of."""
    async with stage("steering", root) as (directory, server, bus):
        console = ConsoleProcess(directory, server)
        console.start()
        starts: list[float] = []

        async def seen(message: Msg) -> None:
            status = decode(message.data, ItemStatus).data
            if status.state is ItemState.RUNNING and status.started_at and status.stage is Stage.DOWNLOAD:
                starts.append(status.started_at.timestamp())

        await bus.nc.subscribe("item.>", cb=seen)
        # Enough for all rounds: about a second of work each.
        songs = int(rounds * WORKERS * CONCURRENCY / SLOW)
        try:
            with workers(directory, server, songs=songs, seconds=SLOW, count=WORKERS):
                job_id = console.ok("POST", "/api/jobs", json={"job_type": "download_only", "sources": ["local"]})[
                    "job_id"
                ]
                pauses, confirms, resumes = [], [], []
                await until(lambda: len(starts) > 50)
                for _ in range(rounds):
                    await asyncio.sleep(0.3)
                    asked = time.time()
                    await asyncio.to_thread(console.command, job_id, "pause")
                    await until(lambda: bool(console.ok("GET", f"/api/jobs/{job_id}")["state"] == "paused"))
                    confirms.append(time.time() - asked)
                    await asyncio.sleep(0.3)
                    pauses.append(max(starts) - asked)
                    asked = time.time()
                    await asyncio.to_thread(console.command, job_id, "resume")
                    await until(partial(started_after, starts, asked))
                    resumes.append(min(at for at in starts if at > asked) - asked)
            peer = await kv_put(bus, server)
        finally:
            console.close()
    print(f"pause to last start      {ms(pauses)} (to `paused` {ms(confirms)}); medians of {rounds}")
    print(f"resume to first start    {ms(resumes)}")
    print(f"  beside a bare KV put until another connection is told: {peer * 1000:.1f} ms")


def started_after(starts: list[float], moment: float) -> bool:
    """Whether an item was started since."""
    return max(starts) > moment


async def kv_put(bus: Bus, server: NatsServer) -> float:
    """Median seconds from a put into a bucket until a subscriber on another connection hears of it."""
    settings = Settings(nats_url=server.url, nats_user=server.user, nats_password=server.password)
    other = await Bus.connect(settings, service="bench", instance="peer")
    heard = asyncio.Event()

    async def told(_: Msg) -> None:
        heard.set()

    await other.nc.subscribe("$KV.JOBS.bench", cb=told)
    await other.nc.flush()
    took = []
    for _ in range(50):
        heard.clear()
        begun = time.perf_counter()
        await bus.nc.request("$KV.JOBS.bench", b"x" * 1000, timeout=5)
        await heard.wait()
        took.append(time.perf_counter() - begun)
    await other.close()
    return statistics.median(took)


async def rate(root: Path, *, work: int) -> None:
    """Empty items a second with four worker processes, a console projecting their states meanwhile."""
    of_one, of_all = await with_workers(root, 1, work), await with_workers(root, WORKERS, work)
    bare = await bare_rate(root, work)
    print(f"items a second           {of_all:,.0f} with four workers, {of_one:,.0f} with one ({of_all / of_one:.2f})")
    print(f"  beside bare fetch(1) and ack by four processes: {bare:,.0f}/s, {of_all / bare:.2f} of it")


async def with_workers(root: Path, count: int, work: int) -> float:
    """Items a second with ``count`` worker processes, from the resume until the console shows the last as done."""
    async with stage(f"rate{count}", root) as (directory, server, bus):
        console = ConsoleProcess(directory, server)
        console.start()
        try:
            job_id = make_job(console)
            console.command(job_id, "pause")
            songs = [
                SongDownload(job_id=job_id, source="local", song_id=n, remote_id=f"{n}", name=f"{n}")
                for n in range(work)
            ]
            await Planner(bus).put(songs, cause="bench", job_id=job_id)
            with workers(directory, server, songs=0, seconds=0.0, count=count):
                await until(lambda: ready(console, count))
                begun = time.perf_counter()
                await asyncio.to_thread(console.command, job_id, "resume")
                await until(lambda: bool(console.ok("GET", f"/api/jobs/{job_id}")["totals"]["succeeded"] == work))
                return work / (time.perf_counter() - begun)
        finally:
            console.close()


def make_job(console: ConsoleProcess) -> int:
    """A job that downloads from one source; its number."""
    wanted = {"job_type": "download_only", "sources": ["local"]}
    return int(console.ok("POST", "/api/jobs", json=wanted)["job_id"])


def ready(console: ConsoleProcess, count: int) -> bool:
    """Whether so many workers are heard of."""
    found = console.ok("GET", "/api/dashboard")["workers"]
    return len([one for one in found if one["service"] == "downloader" and one["status"] != "lost"]) == count


async def bare_rate(root: Path, work: int) -> float:
    """The same number of messages by four processes that have no job, no status and no gate."""
    async with stage("bare", root) as (_, server, bus):
        await asyncio.gather(
            *(bus.nc.request(f"song.download.requested.1.local.{n}", b"{}", timeout=30) for n in range(work))
        )
        config = ConsumerConfig(
            durable_name="bare", filter_subject="song.download.requested.1.>", ack_policy=AckPolicy.EXPLICIT
        )
        await bus.js.add_consumer(WORK, config)
        command = [sys.executable, __file__, "--bare", server.url, server.user, server.password]
        started = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(WORKERS)
        ]
        for process in started:
            assert process.stdout is not None
            await asyncio.to_thread(process.stdout.readline)
        begun = time.perf_counter()
        for process in started:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        while (await bus.js.stream_info(WORK)).state.messages:
            await asyncio.sleep(0.02)
        seconds = time.perf_counter() - begun
        for process in started:
            await asyncio.to_thread(process.communicate)
    return work / seconds


def statuses(items: int) -> Iterator[ItemStatus]:
    """The last statuses of a large job: most succeeded, one in twenty failed."""
    moment = now()
    for number in range(items):
        state = ItemState.FAILED if number % 20 == 0 else ItemState.SUCCEEDED
        yield ItemStatus(
            job_id=1,
            stage=Stage.DOWNLOAD,
            lane="local",
            key=str(number),
            title=f"Singer {number % 5000} - Song number {number}",
            state=state,
            tries=0,
            max_tries=5,
            worker="worker-1",
            queued_at=moment,
            started_at=moment,
            ended_at=moment,
            request={"job_id": 1, "source": "local", "song_id": number, "remote_id": f"a/{number}.mp3", "name": "x"},
        )


async def projection(root: Path, *, items: int) -> None:
    """STATUS into the ledger of a console that starts with nothing, and what memory it has then."""
    async with stage("projection", root) as (directory, server, bus):
        async with asyncio.TaskGroup() as group:
            places = asyncio.Semaphore(IN_FLIGHT)
            for status in statuses(items):
                await places.acquire()
                group.create_task(put(bus, status, places))
        assert (await bus.js.stream_info(STATUS)).state.messages == items
        console = ConsoleProcess(directory, server)
        begun = time.perf_counter()
        console.start()
        assert console.process is not None
        empty, seen = 0.0, [(0.0, 0)]

        def projected() -> bool:
            answer = console.http.get("/api/jobs/1")
            count = answer.json()["total"] if answer.status_code == 200 else 0
            seen.append((time.perf_counter() - begun, count))
            return bool(count == items)

        try:
            empty = memory_mb(console.process.pid)
            await until(projected, seconds=1800)
            moving = [one for one in seen if one[1] > 0]
            # From the first rows that were seen: the start of the process is another matter.
            (first, had), (last, has) = (moving[0], moving[-1]) if len(moving) > 1 else (seen[0], moving[-1])
            full, peak = memory_mb(console.process.pid), memory_mb(console.process.pid, "VmHWM")
            looks = {
                "list": await took(console, "/api/jobs/1/items?limit=100"),
                "filter": await took(console, "/api/jobs/1/items?limit=100&state=failed&stage=download"),
                "count": await took(console, "/api/jobs/1"),
            }
        finally:
            console.close()
    plain = executemany(root, items)
    speed = (has - had) / (last - first)
    print(f"projection of STATUS     {speed:,.0f}/s, {items:,} items")
    print(f"  beside executemany of the same into a plain table: {plain:,.0f}/s, {speed / plain:.2f} of it")
    print(f"memory of the console    {full:,.0f} MB with {items:,} items (peak {peak:,.0f}; at its start {empty:,.0f})")
    print("answers of the console   " + ", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in looks.items()))


async def put(bus: Bus, status: ItemStatus, places: asyncio.Semaphore) -> None:
    """Publish one status."""
    try:
        await bus.publish(status.subject, status, msg_id=f"bench:{status.key}", job_id=1)
    finally:
        places.release()


async def took(console: ConsoleProcess, path: str) -> float:
    """Median seconds of an answer."""
    found = []
    for _ in range(9):
        begun = time.perf_counter()
        await asyncio.to_thread(console.ok, "GET", path)
        found.append(time.perf_counter() - begun)
    return statistics.median(found)


def executemany(root: Path, items: int) -> float:
    """Rows a second: the same statuses decoded and written in batches of a thousand, into one table with one index."""
    payloads = [status.model_dump_json() for status in statuses(min(items, 100_000))]
    connection = sqlite3.connect(root / "plain.db")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE items (subject TEXT PRIMARY KEY, state TEXT, title TEXT, request TEXT)")
    begun = time.perf_counter()
    for start in range(0, len(payloads), 1000):
        rows = [json.loads(payload) for payload in payloads[start : start + 1000]]
        with connection:
            connection.executemany(
                "INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?)",
                [(f"item.{row['key']}", row["state"], row["title"], json.dumps(row["request"])) for row in rows],
            )
    seconds = time.perf_counter() - begun
    connection.close()
    return len(payloads) / seconds


def memory_mb(pid: int, what: str = "VmRSS") -> float:
    """Memory of a process in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(what)


def ms(seconds: list[float]) -> str:
    """The median, and the largest, in milliseconds."""
    return f"{statistics.median(seconds) * 1000:.0f} ms (at most {max(seconds) * 1000:.0f})"


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20_000, help="statuses to project")
    parser.add_argument("--work", type=int, default=4000, help="empty items for the workers")
    parser.add_argument("--rounds", type=int, default=5, help="pauses and resumes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        await steering(root, rounds=options.rounds)
        await rate(root, work=options.work)
        await projection(root, items=options.items)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(int(sys.argv[2]), float(sys.argv[3]))
    elif sys.argv[1:2] == ["--bare"]:
        with contextlib.suppress(KeyboardInterrupt):
            uvloop.run(bare_worker(*sys.argv[2:5]))
    else:
        uvloop.run(main())
