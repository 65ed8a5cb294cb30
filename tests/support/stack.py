"""The real services as real processes on a test's own bus and folders; any of them can be killed."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.support.nats import NatsServer
from tests.support.nats_cluster import NatsCluster

SERVICES = ("console", "collector", "downloader", "uploader", "exporter", "origin")
CONTRACT_TABLES = (
    "playlists",
    "songs",
    "playlist_songs",
    "playlist_pools",
    "pool_playlists",
    "storage_backends",
    "file_assets",
    "file_locations",
)


def free_port() -> int:
    """A port that nobody holds at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Stack:
    """Music Cloud on the embedded defaults below one directory."""

    def __init__(self, directory: Path, nats_server: NatsServer | NatsCluster, **environment: str) -> None:
        self.directory = directory
        self.root = directory / "data"
        self.logs = directory / "service-logs"
        self.logs.mkdir(parents=True)
        self.token = secrets.token_urlsafe(36)
        self.web_port, self.origin_port, self.exporter_port = free_port(), free_port(), free_port()
        inherited = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG", "TMPDIR"}}
        self.nats = nats_server
        self.environment = {
            **inherited,
            "ROOT_DIR": str(self.root),
            "CONSOLE_TOKEN": self.token,
            "ORIGIN_TOKEN_SECRET": secrets.token_urlsafe(36),
            "WEB_PORT": str(self.web_port),
            "ORIGIN_PORT": str(self.origin_port),
            "EXPORTER_PORT": str(self.exporter_port),
            "ORIGIN_PUBLIC_URL": f"http://127.0.0.1:{self.origin_port}",
            "LEASE_SECONDS": "3",
            "RETRY_DELAY_SECONDS": "0.2",
            "EXPORT_SETTLE_SECONDS": "0.5",
            **environment,
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{self.web_port}",
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=10,
            trust_env=False,
        )

    @property
    def library(self) -> Path:
        return self.root / "library"

    def start(self, service: str, name: str | None = None, **environment: str) -> str:
        """Start one process of ``service``; returns the name by which it is killed."""
        name = name or service
        with (self.logs / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", service],
                # Each under its own account, so that a right that is missing is found.
                env={**self.nats.account(service), **self.environment, "INSTANCE": name, **environment},
                cwd=self.directory,
                stdout=log,
                stderr=log,
            )
        return name

    def start_all(self, *services: str) -> None:
        """Start the named services (all by default) and wait until the console answers."""
        for service in services or SERVICES:
            self.start(service)
        self.until(self._console_answers, seconds=30, what="the console to answer")

    def kill(self, name: str) -> None:
        """kill -9."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def stop(self) -> None:
        """End everything in order, and what does not end by force."""
        for process in self._processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 8
        for process in self._processes.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        self.http.close()

    def job(self, job_type: str = "full", **fields: Any) -> int:
        """Ask for a job; returns its id."""
        answer = self.http.post("/api/jobs", json={"job_type": job_type, **fields})
        assert answer.status_code in (200, 202), answer.text
        return int(answer.json()["job_id"])

    def wait_job(self, job_id: int, *, seconds: float = 90) -> str:
        """Wait until the job has ended; returns its state."""
        ended = {"completed", "completed_with_errors", "failed", "canceled"}
        self.until(lambda: self.job_state(job_id) in ended, seconds=seconds, what=f"job {job_id} to end")
        return self.job_state(job_id)

    def job_state(self, job_id: int) -> str:
        """The job's state; empty while the console does not answer."""
        try:
            answer = self.http.get(f"/api/jobs/{job_id}")
        except httpx.TransportError:
            return ""
        if answer.status_code != 200:
            return ""
        content = answer.json()
        return str(content.get("status") or content.get("state"))

    def items(self, job_id: int, **filters: str) -> list[dict[str, Any]]:
        """The items of a job, all pages."""
        found: list[dict[str, Any]] = []
        cursor: Any = None
        while True:
            query = {**filters, "limit": "500", **({"cursor": str(cursor)} if cursor else {})}
            page = self.http.get(f"/api/jobs/{job_id}/items", params=query).json()
            found += page["items"]
            cursor = page["next"]
            if not cursor:
                return found

    def until(self, condition: Callable[[], bool], *, seconds: float, what: str) -> None:
        """Poll until it holds; fails with the ends of the logs."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds:.0f} s in vain for {what}\n{self.log_ends()}")
            time.sleep(0.1)

    def log_ends(self) -> str:
        """The last lines of every service's log."""
        return "\n".join(
            f"--- {path.stem}\n{path.read_text(errors='replace')[-1500:]}" for path in sorted(self.logs.glob("*.log"))
        )

    def files(self) -> list[str]:
        """What lies in the library, without the spool and the trash."""
        return sorted(
            str(path.relative_to(self.library))
            for path in self.library.rglob("*")
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(self.library).parts)
        )

    def _console_answers(self) -> bool:
        for name, process in self._processes.items():
            assert process.poll() is None, f"{name} ended with {process.returncode}\n{self.log_ends()}"
        try:
            return self.http.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False


def dump(database: Path) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of the contract's tables, sorted; empty tables where the database is not there yet."""
    if not database.exists():
        return {table: [] for table in CONTRACT_TABLES}
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)
    try:
        return {table: sorted(connection.execute(f"SELECT * FROM {table}"), key=repr) for table in CONTRACT_TABLES}
    except sqlite3.OperationalError:
        return {table: [] for table in CONTRACT_TABLES}
    finally:
        connection.close()
