"""A real supysonic (Debian's package): another server with the Subsonic API, a process of its own on loopback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

PYTHON = "/usr/bin/python3"
"""Debian's, which has supysonic; ours does not."""
USER, PASSWORD = "ana", "sesame & Öl"
_SERVE = """
from werkzeug.serving import make_server
from supysonic.web import create_application
server = make_server("127.0.0.1", 0, create_application(), threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"""


class Supysonic:
    """A server with the music below ``music``."""

    def __init__(self, folder: Path) -> None:
        self.music = folder / "music"
        self.music.mkdir(parents=True)
        self._folder = folder
        self._environment = {"HOME": str(folder), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        (folder / "supysonic.conf").write_text(
            f"[base]\ndatabase_uri = sqlite:///{folder}/supysonic.db\n"
            f"[webapp]\ncache_dir = {folder}/cache\nmount_webui = off\nlog_level = ERROR\n"
            f"[daemon]\nsocket = {folder}/supysonic.sock\nrun_watcher = no\n"
        )
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> None:
        """Make the user, read the music, and serve."""
        self._run("user", "add", USER, "-p", PASSWORD)
        self._run("folder", "add", "music", str(self.music))
        self._run("folder", "scan", "--foreground", "music")
        self._process = subprocess.Popen(
            [PYTHON, "-c", _SERVE],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            assert self._process.stdout is not None
            self._process.stdout.close()

    def call(self, method: str, *query: tuple[str, str]) -> dict[str, Any]:
        """Ask it directly, as its owner's other programs do."""
        common = [("u", USER), ("p", PASSWORD), ("c", "test"), ("v", "1.10.0"), ("f", "json")]
        with urlopen(f"{self.url}/rest/{method}.view?{urlencode([*common, *query])}", timeout=10) as answer:
            body: dict[str, Any] = json.load(answer)["subsonic-response"]
        assert body["status"] == "ok", body
        return body

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(
            ["supysonic-cli", *arguments],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def supysonic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supysonic]:
    """One that is not started yet: fill its ``music`` first. Import it into the test module to use it."""
    if shutil.which("supysonic-cli") is None:
        pytest.skip("supysonic is not installed; scripts/test-packages installs it")
    server = Supysonic(tmp_path_factory.mktemp("supysonic"))
    yield server
    server.stop()
