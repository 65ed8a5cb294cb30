"""Empty items a second through the work loop: planned, taken, gated, leased, all states published.

Beside it, in the same run: the same number of messages through a bare ``fetch(1)`` and ack, which
has no job, no status and no gate. Medians of three.

    python bench/workloop.py [--items 5000] [--concurrency 16] [--runs 3]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import nats.errors
import uvloop
from nats.js.api import AckPolicy, ConsumerConfig

sys.path.insert(0, str(Path(__file__).parents[1]))

from common.bus import Bus, JobsFollower
from common.bus.streams import ensure_streams
from common.contracts.names import JobType, Stage
from common.contracts.streams import STATUS, WORK
from common.contracts.work import SongDownload
from common.settings import Settings
from common.work import ItemContext, Outcome, Planner, WorkLoop, succeeded
from tests.support.jobs import make_job
from tests.support.nats import NatsServer


async def measure(settings: Settings, *, job_id: int, items: int, concurrency: int) -> tuple[float, float]:
    """(planned per second, done per second)."""
    bus = await Bus.connect(settings, service="bench", instance="one")
    await ensure_streams(bus)
    await make_job(bus, job_id=job_id, job_type=JobType.DOWNLOAD_ONLY, ack_wait=60)
    start = time.perf_counter()
    songs = (
        SongDownload(job_id=job_id, source="local", song_id=n, remote_id=f"{n}", name=f"{n}") for n in range(items)
    )
    await Planner(bus).put(songs, cause=f"bench:{job_id}", job_id=job_id)
    planned = items / (time.perf_counter() - start)
    done = 0
    stop = asyncio.Event()

    async def nothing(_: SongDownload, __: ItemContext) -> Outcome:
        nonlocal done
        done += 1
        return succeeded()

    jobs = JobsFollower(bus)
    await jobs.start()
    loop = WorkLoop(bus=bus, jobs=jobs, handlers={Stage.DOWNLOAD: nothing}, settings=settings, concurrency=concurrency)
    start = time.perf_counter()
    running = asyncio.create_task(loop.run(stop))
    while loop.items_total < items:
        await asyncio.sleep(0.01)
    seconds = time.perf_counter() - start
    stop.set()
    await running
    states = await bus.js.stream_info(STATUS, subjects_filter=f"item.{job_id}.>")
    assert done == items, (done, items)
    assert states.state.messages >= items
    await bus.close()
    return planned, items / seconds


async def bare(settings: Settings, *, number: int, items: int) -> float:
    """The same messages with fetch(1) and a confirmed ack, one after the other."""
    bus = await Bus.connect(settings, service="bench", instance="bare")
    await asyncio.gather(
        *(bus.nc.request(f"song.download.requested.{number}.local.{n}", b"{}", timeout=5) for n in range(items))
    )
    await bus.js.add_consumer(
        WORK,
        ConsumerConfig(
            durable_name=f"bare{number}",
            filter_subject=f"song.download.requested.{number}.>",
            ack_policy=AckPolicy.EXPLICIT,
        ),
    )
    subscription = await bus.js.pull_subscribe_bind(f"bare{number}", WORK)
    start = time.perf_counter()
    for _ in range(items):
        (message,) = await subscription.fetch(1, timeout=5)
        try:
            await message.ack_sync(1)
        except nats.errors.TimeoutError:
            continue
    seconds = time.perf_counter() - start
    await bus.close()
    return items / seconds


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        server = NatsServer(Path(directory) / "nats")
        server.start()
        try:
            settings = Settings(
                root_dir=Path(directory), nats_url=server.url, nats_user=server.user, nats_password=server.password
            )
            results = []
            for run in range(options.runs):
                planned, done = await measure(
                    settings, job_id=run + 1, items=options.items, concurrency=options.concurrency
                )
                peer = await bare(settings, number=1000 + run, items=options.items)
                results.append((planned, done, peer))
                print(f"run {run + 1}: planned {planned:,.0f}/s, done {done:,.0f}/s, bare fetch(1)+ack {peer:,.0f}/s")
        finally:
            server.stop()
    planned, done, peer = (statistics.median(column) for column in zip(*results, strict=True))
    print(
        f"median of {options.runs}, {options.items} items: work loop {done:,.0f} items/s, "
        f"{done / peer:.2f} of bare fetch(1)+ack ({peer:,.0f}/s); planning {planned:,.0f} items/s"
    )


if __name__ == "__main__":
    uvloop.run(main())
