"""A real cluster of three nats-servers, configured as `music-cloud init` does it; any of them can be killed."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli import nats_config
from common.secret_files import ACCOUNTS
from tests.support.nats import find_server
from tests.support.ports import free_ports

SIZE = 3
PATIENCE = 60.0


class NatsCluster:
    """Three servers with JetStream on this machine. Has what :class:`tests.support.nats.NatsServer` gives a stack."""

    def __init__(self, directory: Path) -> None:
        self.passwords = {name: secrets.token_urlsafe(16) for name in ACCOUNTS}
        ports = free_ports(3 * SIZE)
        self.ports, self._cluster_ports, self._monitors = ports[:SIZE], ports[SIZE : 2 * SIZE], ports[2 * SIZE :]
        self._directory = directory
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        return ",".join(f"nats://127.0.0.1:{port}" for port in self.ports)

    @property
    def settings(self) -> dict[str, str]:
        return self.account("operator")

    def account(self, name: str) -> dict[str, str]:
        """The environment with which a program is ``name`` on these servers."""
        return {"NATS_URL": self.url, "NATS_USER": name, "NATS_PASSWORD": self.passwords[name]}

    def start(self) -> None:
        """Start all three and wait until JetStream has a leader."""
        for number in range(SIZE):
            self.start_one(number)
        self.until_whole()

    def start_one(self, number: int) -> None:
        """Start one server on its own store and ports."""
        folder = self._directory / f"nats-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "nats.conf"
        config.write_text(
            nats_config.render(
                host="127.0.0.1",
                port=self.ports[number],
                store=folder / "store",
                passwords=self.passwords,
                version=(2, 9, 0),
                cluster=nats_config.Cluster(
                    name=f"nats-{number}",
                    listen=f"127.0.0.1:{self._cluster_ports[number]}",
                    routes=tuple(f"127.0.0.1:{port}" for port in self._cluster_ports),
                ),
            )
        )
        with (folder / "log").open("ab") as log:
            self._processes[number] = subprocess.Popen(
                [find_server(), "-c", str(config), "--http_port", str(self._monitors[number])], stdout=log, stderr=log
            )

    def until_whole(self) -> None:
        """Wait until every server that runs is healthy: it has caught up with the others."""
        deadline = time.monotonic() + PATIENCE
        while not all(self._healthy(number) for number in self._processes):
            for number, process in self._processes.items():
                assert process.poll() is None, self.log_end(number)
            assert time.monotonic() < deadline, "\n".join(self.log_end(number) for number in self._processes)
            time.sleep(0.1)

    def leader(self, stream: str) -> int:
        """Which server leads a stream; asked of the servers themselves."""
        return self._ask_until(stream, lambda copies: True)

    def until_level(self, stream: str) -> None:
        """Wait until every copy of a stream has all that its leader has."""
        self._ask_until(stream, lambda copies: len(copies) == SIZE - 1 and all(one.get("current") for one in copies))

    def _ask_until(self, stream: str, good: Callable[[list[dict[str, Any]]], bool]) -> int:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for number in self._processes:
                for detail in self._streams(number):
                    told = detail.get("cluster") or {}
                    if (
                        detail["name"] == stream
                        and told.get("leader") == f"nats-{number}"
                        and good(told.get("replicas") or [])
                    ):
                        return number
            time.sleep(0.1)
        raise AssertionError(f"{stream} is not led, or its copies are not level")

    def kill(self, number: int) -> None:
        """kill -9 of one server."""
        process = self._processes.pop(number)
        process.kill()
        process.wait()

    def stop(self) -> None:
        """End all."""
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def log_end(self, number: int) -> str:
        """The last lines of one server's log."""
        return (self._directory / f"nats-{number}" / "log").read_text(errors="replace")[-1500:]

    def _healthy(self, number: int) -> bool:
        meta = self._ask(number, "jsz").get("meta_cluster") or {}
        return bool(meta.get("leader")) and self._ask(number, "healthz").get("status") == "ok"

    def _streams(self, number: int) -> list[dict[str, Any]]:
        told = self._ask(number, "jsz?streams=true&accounts=true")
        return [stream for account in told.get("account_details", ()) for stream in account.get("stream_detail", ())]

    def _ask(self, number: int, path: str) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._monitors[number]}/{path}", timeout=2) as answer:
                told: dict[str, Any] = json.load(answer)
                return told
        except (OSError, ValueError):
            return {}
