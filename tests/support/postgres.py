"""A real PostgreSQL for tests: one server for all tests of a process, a database of its own for each."""

from __future__ import annotations

import grp
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from common.database import Location, parse_url

PATIENCE = 30.0
USER = "music"


def find_programs() -> Path:
    """The folder of ``initdb`` and ``postgres``; Debian keeps it out of everyone's PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [
        Path(program) for program in [shutil.which("initdb")] if program
    ]
    if not found:
        pytest.skip("postgresql is not installed and could not be: run scripts/test-packages as root")
    return found[-1].parent


class PostgresServer:
    """A cluster in a folder of its own, run by another user where the tests run as root; it can be killed."""

    def __init__(self) -> None:
        self._programs = find_programs()
        self._user = _unprivileged()
        self._group = _group_of(self._user) if self._user is not None else None
        # Not below pytest's folder, which only its own user may enter.
        self._directory = Path(tempfile.mkdtemp(prefix="postgres-"))
        self.password = secrets.token_urlsafe(16) + "@/:%"
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        password_file = self._directory / "password"
        password_file.write_text(self.password)
        if self._user is not None:
            for path in (self._directory, password_file):
                shutil.chown(path, self._user)
        self._run(
            "initdb",
            *("--no-sync", "--username", USER, "--pwfile", str(password_file), "--auth", "scram-sha-256"),
            *("--encoding", "UTF8", "--locale", "C", "--no-instructions", "--pgdata", str(self._data)),
        )

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def url(self, database: str = "postgres", *, password: str | None = None) -> str:
        """DATABASE_URL of a database on this server."""
        quoted = "".join(f"%{ord(char):02X}" for char in (password or self.password))
        return f"postgresql://{USER}:{quoted}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, on the port that it had before if it had one, and wait until it answers."""
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = int(probe.getsockname()[1])
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "shared_buffers": "32MB",
            "max_connections": 120,
        }
        command = [str(self._programs / "postgres"), "-D", str(self._data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        deadline = time.monotonic() + PATIENCE
        while True:
            if self._process is None or self._process.poll() is not None:
                # Right after a kill its remains may keep a new one from starting.
                with (self._directory / "log").open("ab") as log:
                    self._process = subprocess.Popen(
                        command,
                        stdout=log,
                        stderr=log,
                        cwd="/",
                        start_new_session=True,
                        user=self._user,
                        group=self._group,
                    )
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, (self._directory / "log").read_text()[-2000:]
                time.sleep(0.05)

    def kill(self) -> None:
        """kill -9, of the server and of all its sessions."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        # Sessions have process groups of their own, and end when the server is gone.
        self._process.wait()

    def stop(self) -> None:
        """End it and remove its folder."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def create_database(self) -> str:
        """A new, empty database; returns its name."""
        name = f"test_{secrets.token_hex(6)}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def drop_database(self, name: str) -> None:
        """Remove it, whoever uses it."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement outside of a transaction."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            user=self._user,
            group=self._group,
        )
        assert done.returncode == 0, done.stderr


def _unprivileged() -> str | None:
    """PostgreSQL refuses to be run by root; None where we are not."""
    if os.geteuid() != 0:
        return None
    users = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in users else "nobody"


def _group_of(user: str) -> str:
    return grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name


def location(service: str, file: Path, database_url: str) -> Location:
    """Where a service keeps its tables in this test."""
    return Location(service=service, path=file, url=parse_url(database_url) if database_url else None)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for the tests of this process that may share it."""
    server = PostgresServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def postgres_of_its_own() -> Iterator[PostgresServer]:
    """A server that this test may kill."""
    server = PostgresServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """DATABASE_URL of an empty database."""
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """DATABASE_URL: empty for SQLite, then a database of a real PostgreSQL; a test that asks for it runs on both."""
    return str(request.getfixturevalue("postgres_url")) if request.param == "postgresql" else ""
