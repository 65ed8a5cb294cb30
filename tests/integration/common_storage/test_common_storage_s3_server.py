"""The S3 server of the tests: several side by side, and none that outlives those it was started for."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.s3 import SCRIPT, S3Server


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=120)


def processes_below(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


@pytest.mark.usefixtures("s3_server")
def test_a_server_ends_with_the_process_that_it_was_started_for(tmp_path: Path, s3_server: S3Server) -> None:
    folder = tmp_path / "s3"
    owner = subprocess.Popen(["sleep", "100"])
    try:
        up = run("up", "--dir", str(folder), "--with-pid", str(owner.pid))
        assert up.returncode == 0, up.stderr
        assert s3_server.endpoint not in up.stdout
        assert run("up", "--dir", str(folder)).stdout == run("env", "--dir", str(folder)).stdout == up.stdout
        assert len(processes_below(folder)) >= 5
    finally:
        owner.kill()
        owner.wait()

    deadline = time.monotonic() + 15
    while processes_below(folder) or folder.exists():
        assert time.monotonic() < deadline, processes_below(folder)
        time.sleep(0.05)
    assert run("env", "--dir", str(folder)).returncode == 1


@pytest.mark.usefixtures("s3_server")
def test_data_stay_until_they_are_wiped(tmp_path: Path) -> None:
    folder = tmp_path / "s3"
    assert run("up", "--dir", str(folder)).returncode == 0

    assert run("down", "--dir", str(folder)).returncode == 0
    assert processes_below(folder) == []
    assert (folder / "srv").is_dir()

    assert run("wipe", "--dir", str(folder)).returncode == 0
    assert not folder.exists()
