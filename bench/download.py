"""The whole downloader against ``curl --parallel`` followed by sha256, fsync and rename, from one local nginx.

    python bench/download.py            the full run: 200 files of 8 MB, 5,000 of 100 KB, medians of 3
    python bench/download.py --quick    a tenth of it, once

curl has no job, no states and no verification to keep; the downloader has all of them: a real
nats-server, real processes of ``python -m downloader``, items in WORK, states published, facts at the end.
Every run starts from an empty library; runs of the two sides take turns. Prints ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from common.bus.connection import Bus
from common.bus.streams import ensure_streams
from common.catalog.ids import song_id
from common.contracts.names import JobType
from common.contracts.streams import STATUS, WORK
from common.contracts.work import SongDownload
from common.settings import Settings
from common.work.planner import Planner
from tests.support.audio import make_audio
from tests.support.jobs import make_job, write_jobs
from tests.support.nats import NatsServer

SINGERS = 100
"""Songs lie in as many folders, as a library has them."""
CURL_PARALLEL = 8


@dataclass(frozen=True, kw_only=True)
class Load:
    """Files of one kind. ``size`` in bytes."""

    name: str
    count: int
    size: int
    ext: str = "wav"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one run took; of our processes: the most memory of one, in MB, and the processor's seconds of all."""

    seconds: float
    memory: float = 0.0
    processor: float = 0.0


class Site:
    """An nginx of our own, on loopback, that serves ``folder``."""

    def __init__(self, directory: Path) -> None:
        self.folder = directory / "site"
        self.folder.mkdir()
        self.port = _free_port()
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if program is None:
            sys.exit("nginx is not installed: apt-get install nginx-light")
        config = directory / "nginx.conf"
        config.write_text(
            f"""daemon off; pid {directory}/nginx.pid; worker_processes 1; error_log {directory}/nginx.log warn;
            events {{ worker_connections 1024; }}
            http {{
                access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
                client_body_temp_path {directory}/t1; proxy_temp_path {directory}/t2;
                fastcgi_temp_path {directory}/t3; uwsgi_temp_path {directory}/t4; scgi_temp_path {directory}/t5;
                types {{ audio/wav wav; audio/flac flac; audio/mpeg mp3; }}
                server {{ listen 127.0.0.1:{self.port}; root {self.folder}; }}
            }}"""
        )
        # The master may be root; its worker must read the folder.
        os.chmod(directory, 0o755)
        self._process = subprocess.Popen([program, "-c", str(config), "-e", str(directory / "nginx.log")])
        _wait_for(lambda: _listens(self.port))

    def fill(self, load: Load) -> list[str]:
        """Make the files of a load, all different; return their URLs."""
        folder = self.folder / load.name
        folder.mkdir()
        template = bytearray(_template(load))
        urls = []
        for number in range(load.count):
            # A few samples differ, so that no two files have one checksum; compressed ones stay as they are.
            if load.ext == "wav":
                template[2000:2008] = number.to_bytes(8, "little")
            (folder / f"{number}.{load.ext}").write_bytes(template)
            urls.append(f"http://127.0.0.1:{self.port}/{load.name}/{number}.{load.ext}")
        return urls

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()


def _template(load: Load) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"template.{load.ext}"
        seconds = load.size / 88_200 if load.ext == "wav" else 240.0 * load.size / 8_000_000
        tags: dict[str, Any] = {} if load.ext == "wav" else {"title": "T", "artist": "A", "album": "L"}
        make_audio(path, ext=load.ext, seconds=max(1.0, seconds), **tags)
        return path.read_bytes()


def run_curl(urls: list[str], work: Path) -> Result:
    """curl in parallel, then sha256, fsync and rename of each, on two threads."""
    parts, done = work / "parts", work / "done"
    parts.mkdir(parents=True)
    done.mkdir()
    config = work / "curl.conf"
    config.write_text("".join(f'url = "{url}"\noutput = "{parts}/{number}"\n' for number, url in enumerate(urls)))
    started = time.perf_counter()
    subprocess.run(
        ["curl", "-s", "--no-progress-meter", "--parallel", "--parallel-max", str(CURL_PARALLEL), "-K", str(config)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def finish(number: int) -> None:
        with (parts / str(number)).open("rb+") as file:
            hashlib.file_digest(file, "sha256")
            os.fsync(file.fileno())
        (parts / str(number)).rename(done / str(number))

    with ThreadPoolExecutor(CURL_PARALLEL) as pool:
        list(pool.map(finish, range(len(urls))))
    folder = os.open(done, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
    return Result(seconds=time.perf_counter() - started)


class Rig:
    """A bus of our own."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.nats = NatsServer(directory / "nats")
        self.nats.start()
        self._site_port = port
        self._job = 0

    def run(self, urls: list[str], work: Path, *, processes: int, concurrency: int) -> Result:
        """All items of one job; timed from the moment that the job may run until its last item has ended."""
        return asyncio.run(self._run(urls, work, processes=processes, concurrency=concurrency))

    async def _run(self, urls: list[str], work: Path, *, processes: int, concurrency: int) -> Result:
        settings = Settings(nats_url=self.nats.url, nats_user=self.nats.user, nats_password=self.nats.password)
        bus = await Bus.connect(settings, service="bench", instance="bench")
        started: list[subprocess.Popen[bytes]] = []
        try:
            await ensure_streams(bus)
            self._job += 1
            items = [_item(self._job, url, number) for number, url in enumerate(urls)]
            started = [self._start(work, number, concurrency) for number in range(processes)]
            await self._heartbeats(bus, processes)
            await Planner(bus).put(items, cause=secrets.token_hex(8), job_id=self._job)
            before = sum(_processor_seconds(process.pid) for process in started)
            begin = time.perf_counter()
            await make_job(
                bus,
                job_id=self._job,
                job_type=JobType.DOWNLOAD_ONLY,
                sources=("feed",),
                ack_wait=60,
                max_ack_pending=256,
            )
            while (await bus.js.stream_info(WORK)).state.messages:
                await asyncio.sleep(0.02)
            seconds = time.perf_counter() - begin
            memory = max(_peak_memory(process.pid) for process in started)
            processor = sum(_processor_seconds(process.pid) for process in started) - before
            await self._check(bus, work, urls)
            await write_jobs(bus, [])
        finally:
            for process in started:
                process.send_signal(signal.SIGTERM)
            for process in started:
                process.wait(10)
            await bus.close()
        return Result(seconds=seconds, memory=memory, processor=processor)

    def _start(self, work: Path, number: int, concurrency: int) -> subprocess.Popen[bytes]:
        inherited = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG"}}
        environment = {
            **inherited,
            **self.nats.settings,
            "ROOT_DIR": str(work / "data"),
            "ALLOW_PRIVATE_HOSTS": f"127.0.0.1:{self._site_port}",
            "INSTANCE": f"bench-{self._job}-{number}",
            "DOWNLOAD_CONCURRENCY": str(concurrency),
            "LOG_LEVEL": "warning",
        }
        return subprocess.Popen([sys.executable, "-m", "downloader"], env=environment)

    async def _heartbeats(self, bus: Bus, count: int) -> None:
        """Wait until all processes live."""
        alive: set[str] = set()
        subscription = await bus.nc.subscribe("hb.downloader.*")
        async with asyncio.timeout(30):
            while len(alive) < count:
                message = await subscription.next_msg(timeout=30)
                if message.subject.startswith(f"hb.downloader.bench-{self._job}-"):
                    alive.add(message.subject)
        await subscription.unsubscribe()

    async def _check(self, bus: Bus, work: Path, urls: list[str]) -> None:
        """Every item succeeded, every file is there."""
        library = work / "data" / "library"
        files = sum(1 for path in library.rglob("*.*") if path.is_file() and not _is_ours(path, library))
        if files != len(urls):
            stored = await bus.js.stream_info(STATUS, subjects_filter=f"item.{self._job}.>")
            sys.exit(f"{files} of {len(urls)} files are in the library ({stored.state.messages} statuses)")

    def stop(self) -> None:
        self.nats.stop()


def _item(job: int, url: str, number: int) -> SongDownload:
    return SongDownload(
        job_id=job,
        source="feed",
        song_id=song_id("feed", url),
        remote_id=f"{url}?job={job}",
        name=f"Song {number}",
        singers=(f"Singer {number % SINGERS}",),
    )


def compare(load: Load, rig: Rig, site: Site, root: Path, *, rounds: int, two: bool, concurrency: int) -> None:
    """Take turns, print medians and ratios."""
    urls = site.fill(load)
    size = sum(path.stat().st_size for path in (site.folder / load.name).iterdir())
    curl, one, both = [], [], []
    for _ in range(rounds):
        curl.append(run_curl(urls, scratch(root)))
        one.append(rig.run(_fresh(urls), scratch(root), processes=1, concurrency=concurrency))
        if two:
            both.append(rig.run(_fresh(urls), scratch(root), processes=2, concurrency=concurrency))
    base = _median(curl)
    print(f"\n{load.name}: {load.count} files, {size / 1e6:,.0f} MB, {load.ext}; medians of {rounds}")
    for name, results in (("curl, sha256, fsync, rename", curl), ("downloader, 1 process", one), ("2 processes", both)):
        if results:
            took = _median(results)
            memory = max(result.memory for result in results)
            processor = 1000 * statistics.median(result.processor for result in results) / load.count
            print(
                f"  {name:28} {size / 1e6 / took:8,.0f} MB/s {load.count / took:8,.0f} files/s "
                f"{base / took:6.2f} x curl"
                + (f"   {memory:5.0f} MB memory, {processor:5.2f} ms of a core a file" if memory else "")
            )
    if both:
        print(f"  two processes are {_median(one) / _median(both):.2f} x one")


def _fresh(urls: list[str]) -> list[str]:
    """The same files under addresses that no run had before: songs of their own."""
    mark = secrets.token_hex(4)
    return [f"{url}?{mark}" for url in urls]


def _median(results: list[Result]) -> float:
    return statistics.median(result.seconds for result in results)


def scratch(root: Path) -> Path:
    """An empty folder; what was written before is on the disk, so that no run pays for another.

    It is kept until the end: ext4 passes over inodes that were freed a moment ago when it makes files, and
    would charge the next run for removing the files of the last.
    """
    os.sync()
    return Path(tempfile.mkdtemp(dir=root))


def _peak_memory(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        if time.monotonic() > deadline:
            sys.exit("nginx did not start")
        time.sleep(0.02)


def _is_ours(path: Path, library: Path) -> bool:
    """Whether a file of the library is none of the songs: unfinished ones, and the note of whose library it is."""
    return path.relative_to(library).parts[0].startswith(".")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the files, once")
    parser.add_argument("--rounds", type=int, default=0, help="runs of each; the median counts (default 3)")
    parser.add_argument("--only", default="", help="large, small, flac or mp3")
    parser.add_argument("--concurrency", type=int, default=8, help="songs at once in one process")
    parser.add_argument("--directory", type=Path, default=None, help="where to work: on the disk to be measured")
    options = parser.parse_args()
    part = 10 if options.quick else 1
    rounds = options.rounds or (1 if options.quick else 3)
    loads = [
        (Load(name="large", count=200 // part, size=8_000_000), False),
        (Load(name="small", count=5000 // part, size=100_000), True),
        (Load(name="flac", count=200 // part, size=8_000_000, ext="flac"), False),
        (Load(name="mp3", count=200 // part, size=8_000_000, ext="mp3"), False),
    ]
    root = Path(tempfile.mkdtemp(prefix="bench-download-", dir=options.directory))
    print(f"load of the machine at the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    site = Site(root)
    rig = Rig(root, site.port)
    try:
        for load, two in loads:
            if not options.only or options.only == load.name:
                compare(load, rig, site, root, rounds=rounds, two=two, concurrency=options.concurrency)
    finally:
        rig.stop()
        site.stop()
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
