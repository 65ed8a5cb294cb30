"""Collecting a folder of many small files: the first time, and when nothing changed.

    .venv/bin/python bench/collect.py --files 100000 --per-directory 20 --runs 3

A real nats-server and a real collector process; the folder is made by the script. Peers in the same
run: ``os.walk`` with mutagen over the same files in one process (first time), and ``find -printf`` with
size and time of every file (unchanged). Each prints seconds and the ratio, medians over ``--runs``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mutagen

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common.bus.connection import Bus
from common.bus.readers import ReaderDesk
from common.bus.streams import ensure_streams
from common.contracts.names import JobType, Stage
from common.contracts.streams import CATALOG, WORK
from common.contracts.work import JobPlan
from common.settings import Settings
from common.work import Planner
from tests.support.jobs import make_job, write_jobs
from tests.support.nats import NatsServer
from tests.support.tagged import wav_bytes


def make_folder(root: Path, files: int, per_directory: int) -> None:
    """Tagged WAV files, ``per_directory`` in each."""
    made = 0
    while made < files:
        directory = root / f"artist {made // per_directory // 10:04}" / f"album {made // per_directory:05}"
        directory.mkdir(parents=True, exist_ok=True)
        for number in range(min(per_directory, files - made)):
            (directory / f"{number:03} song {made}.wav").write_bytes(
                wav_bytes(title=f"Song {made}", artist=directory.parent.name, album=directory.name)
            )
            made += 1


def walk_with_mutagen(root: Path) -> float:
    """The peer of a first collection: every file opened and its tags read, kept nowhere."""
    start = time.perf_counter()
    count = 0
    for directory, _, names in os.walk(root):
        for name in names:
            file = mutagen.File(os.path.join(directory, name), easy=True)
            count += file is not None and bool(file.tags)
    assert count
    return time.perf_counter() - start


def find_printf(root: Path) -> float:
    """The peer of an unchanged collection: size and time of every file, written nowhere."""
    start = time.perf_counter()
    subprocess.run(["find", root, "-type", "f", "-printf", "%s %T@ %p\\n"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


class Bench:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._jobs = 0

    async def collect(self) -> float:
        """Seconds from the start of a job with the stages collect and sync until it has nothing left."""
        self._jobs += 1
        start = time.perf_counter()
        job = await make_job(self._bus, job_id=self._jobs, job_type=JobType.FULL, ack_wait=60)
        job = job.model_copy(update={"stages": (Stage.COLLECT, Stage.SYNC)})
        await write_jobs(self._bus, [job])
        await Planner(self._bus).put(
            [JobPlan(job_id=job.job_id, stage=Stage.COLLECT)], cause=f"job {job.job_id}", job_id=job.job_id
        )
        lanes = [lane for lane in job.lanes if lane.stage in (Stage.PLAN, Stage.COLLECT, Stage.SYNC)]
        while True:
            waiting = 0
            for lane in lanes:
                info = await self._bus.js.consumer_info(WORK, lane.consumer)
                waiting += (info.num_pending or 0) + (info.num_ack_pending or 0)
            if not waiting:
                break
            await asyncio.sleep(0.1)
        seconds = time.perf_counter() - start
        for lane in job.lanes:
            await self._bus.js.delete_consumer(WORK, lane.consumer)
        await write_jobs(self._bus, [])
        return seconds

    async def last_sequence(self) -> int:
        return (await self._bus.js.stream_info(CATALOG)).state.last_seq


async def one_run(root: Path, scratch: Path, files: int) -> tuple[float, float]:
    server = NatsServer(scratch / "nats")
    server.start()
    environment = {
        **os.environ,
        **server.settings,
        "ROOT_DIR": str(scratch / "data"),
        "LOCAL_MEDIA_IMPORT_PATH": str(root),
        "SOURCES": "local",
        "LOG_LEVEL": "warning",
    }
    settings = Settings(nats_url=server.url, nats_user=server.user, nats_password=server.password)
    bus = await Bus.connect(settings, service="bench", instance="one")
    collector = None
    try:
        await ensure_streams(bus)
        await ReaderDesk(bus).start()
        collector = subprocess.Popen([sys.executable, "-m", "collector"], env=environment)
        bench = Bench(bus)
        first = await bench.collect()
        known = await bench.last_sequence()
        assert known >= files, known
        unchanged = await bench.collect()
        assert await bench.last_sequence() == known, "an unchanged folder published facts"
        return first, unchanged
    finally:
        if collector is not None:
            collector.terminate()
            collector.wait(10)
        await bus.close()
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--per-directory", type=int, default=20)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-collect-") as temporary:
        root = Path(temporary) / "music"
        make_folder(root, arguments.files, arguments.per_directory)
        results: dict[str, list[float]] = {"first": [], "walk": [], "unchanged": [], "find": []}
        for run in range(arguments.runs):
            scratch = Path(temporary) / f"run{run}"
            results["walk"].append(walk_with_mutagen(root))
            results["find"].append(find_printf(root))
            first, unchanged = asyncio.run(one_run(root, scratch, arguments.files))
            results["first"].append(first)
            results["unchanged"].append(unchanged)
            shutil.rmtree(scratch)
        first, walk, unchanged, find = (statistics.median(values) for values in results.values())
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    print(f"{arguments.files} files, {arguments.per_directory} in a directory, medians of {arguments.runs}")
    print(f"first      {first:8.1f} s   os.walk + mutagen {walk:8.1f} s   ratio {first / walk:6.2f}")
    print(f"unchanged  {unchanged:8.1f} s   find -printf      {find:8.1f} s   ratio {unchanged / find:6.2f}")
    print(f"largest process {memory} MiB")


if __name__ == "__main__":
    main()
