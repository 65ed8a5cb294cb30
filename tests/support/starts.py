"""Starting a real service in bad surroundings: it is refused in one sentence, and nothing is changed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SECRET = "correct-horse-battery-staple-0123456789"


def environment(root: Path, **values: str) -> dict[str, str]:
    """What a service is started with: all of it ours, with a bus that is not there unless one is given."""
    inherited = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG", "TMPDIR"}}
    return {
        **inherited,
        "ROOT_DIR": str(root),
        "NATS_URL": "nats://127.0.0.1:1",
        "NATS_PASSWORD": SECRET,
        "CONSOLE_TOKEN": SECRET,
        "WEB_PORT": "0",
        "EXPORTER_PORT": "0",
        "ORIGIN_PORT": "0",
        **values,
    }


def listing(*folders: Path) -> dict[str, tuple[int, int, str]]:
    """Everything below: mode, owner and what is in it."""
    found: dict[str, tuple[int, int, str]] = {}
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            about = path.lstat()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            found[str(path)] = (about.st_mode, about.st_uid, content)
    return found


def start(
    service: str, values: dict[str, str], *, cwd: Path, before: Sequence[str] = (), seconds: float = 40
) -> subprocess.CompletedProcess[str]:
    """Run a service to its end. ``before``: a program that starts it, such as setpriv."""
    return subprocess.run(
        [*before, sys.executable, "-m", service],
        env=values,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def refused(service: str, values: dict[str, str], *, cwd: Path, before: Sequence[str] = ()) -> str:
    """The one sentence with which the start was refused; checks that it is one, and that nothing was changed."""
    was = listing(cwd)
    ended = start(service, values, cwd=cwd, before=before)
    lines = [line for line in ended.stderr.splitlines() if line.strip()]
    assert ended.returncode == 2, ended.stderr
    assert len(lines) == 1, ended.stderr
    assert ended.stdout == ""
    assert lines[0].startswith(f"{service}: "), lines[0]
    # A path stands in no sentence, but in the command that mends, so that it can be typed as it is.
    assert str(cwd) not in lines[0].partition("; mend it with: ")[0]
    for never in ("Traceback", SECRET):
        assert never not in ended.stderr
    assert listing(cwd) == was
    return lines[0].removeprefix(f"{service}: ")
