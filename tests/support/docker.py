"""A real Docker engine, and Music Cloud as containers on it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import httpx

from tests.support.stack import Stack, free_port

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "docker-engine"
SERVICES = ("console", "collector", "downloader", "uploader", "exporter", "origin")
IMAGES = (*SERVICES, "cli")


class NoEngine(Exception):
    """There is no Docker engine here, and none can be started; the message says why."""


@dataclass(frozen=True)
class Engine:
    """How to talk to an engine. ``settings``: what a stack on it needs to be told, such as which images it has."""

    environment: dict[str, str]
    settings: dict[str, str]
    ours: bool = False

    def docker(self, *arguments: str, check: bool = True, timeout: float = 60, cwd: Path | None = None) -> str:
        """What ``docker`` prints; what it complains of is in the error."""
        answer = subprocess.run(
            ["docker", *arguments],
            env=self.environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and answer.returncode != 0:
            raise AssertionError(f"docker {' '.join(arguments)}: {answer.returncode}\n{answer.stdout}{answer.stderr}")
        return answer.stdout if check else answer.stdout + answer.stderr

    def inspect(self, name: str) -> dict[str, Any]:
        """All that the engine knows of a container or image."""
        return dict(json.loads(self.docker("inspect", name))[0])

    def build(self, tree: Path, version: str) -> None:
        """Make all images of a checkout, one after the other."""
        environment = {**self.environment, "MUSIC_CLOUD_VERSION": version, "COMPOSE_PARALLEL_LIMIT": "1"}
        command = ["docker", "compose", "--profile", "tools", "build", "--quiet"]
        answer = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=400, check=False
        )
        assert answer.returncode == 0, answer.stdout[-2000:] + answer.stderr[-4000:]


def find_client() -> dict[str, str]:
    """The environment in which ``docker compose`` is found, whether or not an engine runs. Raises NoEngine."""
    unpacked = dict(os.environ)
    lines = subprocess.run([SCRIPT, "env"], capture_output=True, text=True, check=True).stdout.splitlines()
    for name, _, value in (line.removeprefix("export ").partition("=") for line in lines):
        unpacked[name] = value.replace("$PATH", os.environ.get("PATH", os.defpath))
    for environment in (dict(os.environ), unpacked):
        if _works(["docker", "compose", "version"], environment):
            return environment
    raise NoEngine("docker with its plugin compose is not installed")


@contextlib.contextmanager
def engine() -> Iterator[Engine]:
    """The engine of this machine, or one of our own for as long as it is needed. Raises NoEngine."""
    with contextlib.suppress(NoEngine):
        environment = find_client()
        if _works(["docker", "info"], environment):
            yield Engine(environment, _settings(environment), ours="DOCKER_CONFIG" in environment)
            return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NoEngine("no Docker engine answers, and only root of a Debian machine can start one for the tests")
    started = subprocess.run([SCRIPT, "up"], capture_output=True, text=True, check=False)
    try:
        if started.returncode != 0:
            raise NoEngine(f"no Docker engine answers, and none could be started: {started.stderr.strip()[-600:]}")
        environment = find_client()
        yield Engine(environment, _settings(environment), ours=True)
    finally:
        subprocess.run([SCRIPT, "down"], capture_output=True, check=False)


def _works(command: list[str], environment: dict[str, str]) -> bool:
    found = shutil.which(command[0], path=environment.get("PATH"))
    if found is None:
        return False
    with contextlib.suppress(subprocess.TimeoutExpired):
        return subprocess.run(command, env=environment, capture_output=True, timeout=20, check=False).returncode == 0
    return False


def _settings(environment: dict[str, str]) -> dict[str, str]:
    """An engine that cannot pull has the bus as an image made of the program of this machine."""
    if not _works(["docker", "image", "inspect", "music-cloud/nats:local"], environment):
        return {}
    command = ["docker", "run", "--rm", "music-cloud/nats:local", "nats-server", "--version"]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout
    return {"NATS_IMAGE": "music-cloud/nats:local", "NATS_VERSION": told.rpartition("v")[2].strip()}


class Project(Stack):
    """A person's folder with compose.yaml, settings and data, and the containers of it."""

    def __init__(self, folder: Path, engine: Engine, *, version: str = "test", **settings: str) -> None:
        self.directory = folder
        self.root = folder / "data"
        self.engine = engine
        self.name = f"music-cloud-test-{secrets.token_hex(4)}"
        self._processes = {}
        self._killed: list[tuple[str, str, str]] = []
        self.web_port, self.origin_port, self.exporter_port = free_port(), free_port(), free_port()
        self.settings = {
            **engine.settings,
            "MUSIC_CLOUD_VERSION": version,
            "PUID": "1234",
            "PGID": "2345",
            "UMASK": "027",
            "WEB_PORT": str(self.web_port),
            "ORIGIN_PORT": str(self.origin_port),
            "EXPORTER_PORT": str(self.exporter_port),
            "LEASE_SECONDS": "3",
            "RETRY_DELAY_SECONDS": "0.2",
            "EXPORT_SETTLE_SECONDS": "0.5",
            **settings,
        }
        self.unpack(ROOT)

    def unpack(self, tree: Path) -> None:
        """Lay out what a release holds beside the images, and the settings."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for file in tree.glob("compose*.yaml"):
            shutil.copy(file, self.directory)
        for folder in ("config", "deploy"):
            shutil.copytree(tree / folder, self.directory / folder, dirs_exist_ok=True, symlinks=True)
        if not (self.directory / ".env").is_symlink():
            (self.directory / ".env").symlink_to((tree / ".env").readlink())
        self.write_settings()

    def write_settings(self, *more: str) -> None:
        """Write the one file of settings; ``more``: lines as they are."""
        lines = [f"{name}={value}" for name, value in self.settings.items()]
        (self.directory / "config" / "music-cloud.env").write_text("\n".join([*lines, *more]) + "\n")

    def compose(self, *arguments: str, check: bool = True, timeout: float = 120) -> str:
        """Run ``docker compose`` as a person in this folder would."""
        command = ("compose", "--project-name", self.name, *arguments)
        return self.engine.docker(*command, check=check, timeout=timeout, cwd=self.directory)

    def up(self, *arguments: str) -> None:
        """Start everything, and wait until the console answers."""
        self.compose("up", "--detach", "--no-build", *arguments)
        self.until(self._console_answers, seconds=60, what="the console to answer")

    def down(self) -> None:
        """Remove containers and networks; the data stays."""
        self.compose("--profile", "*", "down", "--timeout", "5", "--remove-orphans", check=False)
        if "http" in self.__dict__:
            self.http.close()

    @cached_property
    def http(self) -> httpx.Client:  # type: ignore[override]
        """The console, with the credential that the first start made."""
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.web_port}",
            headers={"Authorization": f"Bearer {self.secret('console', 'CONSOLE_TOKEN')}"},
            timeout=10,
            trust_env=False,
        )

    def secret(self, account: str, name: str) -> str:
        """A secret that was made at the first start."""
        lines = (self.root / "secrets" / account / "secrets.env").read_text().splitlines()
        return next(line.partition("=")[2] for line in lines if line.startswith(f"{name}="))

    def containers(self, *services: str) -> list[str]:
        """The ids of the containers of services, those that ended too."""
        return self.compose("ps", "--all", "--quiet", *services).split()

    def state(self, container: str) -> dict[str, Any]:
        """A container's state, as the engine knows it."""
        return dict(self.engine.inspect(container)["State"])

    def kill(self, name: str) -> None:
        """kill -9 of the first container of a service; the engine starts it again, as compose.yaml says."""
        container = self.containers(name)[0]
        state = self.state(container)
        self._killed.append((name, container, state["StartedAt"]))
        # `docker kill` would count as the will of a person, and nothing would be started again.
        os.kill(state["Pid"], signal.SIGKILL)

    def wait_restarted(self) -> None:
        """Wait until everything that was killed runs again."""
        for name, container, started in self._killed:
            self.until(partial(self._runs_since, container, started), seconds=30, what=f"{name} to be started again")

    def _runs_since(self, container: str, started: str) -> bool:
        state = self.state(container)
        return bool(state["Running"]) and state["StartedAt"] != started

    def log_ends(self) -> str:
        """The last lines of every container's log."""
        return self.compose("logs", "--no-color", "--tail", "12", check=False)[-6000:]


@contextlib.contextmanager
def reachable_from_containers(port: int) -> Iterator[int]:
    """A port on all addresses that leads to ``port`` on loopback, where containers cannot reach."""

    class Forward(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=60) as target:
                back = threading.Thread(target=_copy, args=(target, self.request), daemon=True)
                back.start()
                _copy(self.request, target)
                back.join(60)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("0.0.0.0", 0), Forward) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield int(server.server_address[1])
        server.shutdown()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def clean_stop(project: Project, services: Sequence[str]) -> float:
    """``docker compose stop``; returns its seconds. Fails where a container did not end by itself, with 0."""
    begun = time.monotonic()
    project.compose("stop")
    took = time.monotonic() - begun
    ended = {
        f"{service} {number}": project.state(container)["ExitCode"]
        for service in services
        for number, container in enumerate(project.containers(service), start=1)
    }
    assert set(ended.values()) == {0}, f"{ended}\n{project.log_ends()}"
    return took
