"""Streaming, side by side: our origin, nginx serving the folder, and Starlette's FileResponse.

    python bench/stream.py [--seconds 3] [--runs 3] [--connections 50]

Each server is one process on one core; wrk asks for whole files of 30 MB and for ranges of 64 KB. Needs wrk and
nginx (Debian packages). Prints the median of the runs and the ratio to ours, and the core-seconds that each spent.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from common.tokens import create_origin_token
from common.web import HttpServer

SECRET = b"a secret for a benchmark, and for nothing else at all"
LOCATOR = "qq/singer/song.flac"
SIZE = 30 * 1024 * 1024
RANGE = 64 * 1024
SERVERS = ("origin", "nginx", "FileResponse")


@dataclass(frozen=True)
class Result:
    megabytes: float
    requests: float
    core_seconds_per_gb: float
    core_microseconds_per_request: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--serve", nargs=3, metavar=("SERVER", "PORT", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        uvloop.run(serve(given.serve[0], int(given.serve[1]), Path(given.serve[2])))
        return
    for tool in ("wrk", "nginx"):
        if shutil.which(tool, path=search_path()) is None:
            raise SystemExit(f"{tool} is missing. Install it: sudo apt-get install {tool}")
    with tempfile.TemporaryDirectory(prefix="bench-stream-") as folder:
        path = Path(folder) / "library" / LOCATOR
        path.parent.mkdir(parents=True)
        path.write_bytes(os.urandom(SIZE))
        results: dict[tuple[str, str], list[Result]] = {}
        for _ in range(given.runs):
            for server in SERVERS:
                with running(server, Path(folder)) as (url, pids):
                    for case, header in (("whole", None), ("range", f"bytes=1000000-{1_000_000 + RANGE - 1}")):
                        result = load(url, header, pids, given.seconds, given.connections)
                        results.setdefault((server, case), []).append(result)
        report(results)


async def serve(server: str, port: int, folder: Path) -> None:
    """The Python servers, as their own process."""
    if server == "origin":
        from origin.adapters.files import FolderFiles
        from origin.routes import StreamApp

        app: object = StreamApp(secrets=[SECRET], files=FolderFiles(folders={"library": folder}, threads=16))
    else:
        from starlette.applications import Starlette
        from starlette.requests import Request
        from starlette.responses import FileResponse
        from starlette.routing import Route

        async def stream(request: Request) -> FileResponse:
            return FileResponse(folder / request.path_params["locator"])

        app = Starlette(routes=[Route("/{locator:path}", stream)])
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await HttpServer(app, host="127.0.0.1", port=port).run(stop)


@contextmanager
def running(server: str, folder: Path) -> Iterator[tuple[str, list[int]]]:
    """Start one server; yields the URL of the file and the processes that serve it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    library = folder / "library"
    if server == "nginx":
        config = folder / "nginx.conf"
        config.write_text(
            f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log /dev/null; "
            f"{'user root; ' if os.getuid() == 0 else ''}events {{ worker_connections 1024; }} "
            f"http {{ access_log off; sendfile on; tcp_nopush on; client_body_temp_path {folder}/t1; "
            f"proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4; "
            f"scgi_temp_path {folder}/t5; keepalive_requests 1000000; "
            f"server {{ listen 127.0.0.1:{port}; root {library}; }} }}"
        )
        nginx = shutil.which("nginx", path=search_path()) or "nginx"
        command = [nginx, "-p", str(folder), "-c", str(config)]
    else:
        command = [sys.executable, __file__, "--serve", server, str(port), str(library)]
    token = create_origin_token(SECRET, LOCATOR, time.time() + 3600)
    path = f"api/private-origin/stream/{token}" if server == "origin" else LOCATOR
    url = f"http://127.0.0.1:{port}/{path}"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_until_served(url)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield url, [process.pid, *map(int, children)]
    finally:
        process.terminate()
        process.wait()


def wait_until_served(url: str) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                assert len(answer.read()) == SIZE
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def load(url: str, byte_range: str | None, pids: list[int], seconds: int, connections: int) -> Result:
    """Let wrk ask; Range answers count only the bytes that wrk saw."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s"]
    command += ["-H", f"Range: {byte_range}"] if byte_range else []
    before, began = cpu(pids), time.monotonic()
    output = subprocess.run([*command, url], check=True, capture_output=True, text=True).stdout
    spent, took = cpu(pids) - before, time.monotonic() - began
    if "Non-2xx" in output:
        raise SystemExit(output)
    rate = re.search(r"Transfer/sec:\s+([\d.]+)(\w+)", output)
    asked = re.search(r"Requests/sec:\s+([\d.]+)", output)
    assert rate and asked
    megabytes = float(rate[1]) * {"B": 1e-6, "KB": 1024e-6, "MB": 1.048576, "GB": 1073.741824}[rate[2]]
    requests = float(asked[1])
    return Result(megabytes, requests, spent / (megabytes * took / 1000), spent / max(requests * took, 1) * 1e6)


def cpu(pids: list[int]) -> float:
    """Seconds of processor time that the processes have used."""
    ticks = 0.0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def report(results: dict[tuple[str, str], list[Result]]) -> None:
    def median(server: str, case: str, field: str) -> float:
        return statistics.median(float(getattr(result, field)) for result in results[server, case])

    ours = median("origin", "whole", "megabytes"), median("origin", "range", "requests")
    print(
        f"{'server':14}{'whole MB/s':>12}{'ratio':>7}{'core-s/GB':>11}{'64 KB/s':>10}{'ratio':>7}{'core-us each':>14}"
    )
    for server in SERVERS:
        whole, ranges = median(server, "whole", "megabytes"), median(server, "range", "requests")
        cost = median(server, "whole", "core_seconds_per_gb")
        each = median(server, "range", "core_microseconds_per_request")
        line = f"{server:14}{whole:12,.0f}{ours[0] / whole:7.2f}{cost:11.2f}"
        print(f"{line}{ranges:10,.0f}{ours[1] / ranges:7.2f}{each:14.0f}")
    print("ratio: ours divided by theirs")


def search_path() -> str:
    return os.environ.get("PATH", os.defpath) + ":/usr/sbin"


if __name__ == "__main__":
    main()
