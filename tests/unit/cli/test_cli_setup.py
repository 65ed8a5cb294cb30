"""What ``make setup`` installs: the libraries of the lock, and every member of ours, but no plug-in."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with all manifests, and an environment whose Python only writes down what it is told to install."""
    for manifest in ROOT.glob("*/*/pyproject.toml"):
        target = tmp_path / manifest.relative_to(ROOT)
        target.parent.mkdir(parents=True)
        shutil.copy(manifest, target)
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    log = shlex.quote(str(tmp_path / "installed"))
    program(programs / "python", f'#!/bin/sh\n[ "$1" = -c ] || echo "$@" >>{log}\n')
    program(programs / "pip", f"#!{programs}/python\n")
    program(tmp_path / "nats-server", "#!/bin/sh\n")
    return tmp_path


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def setup(checkout: Path) -> list[list[str]]:
    """What was installed by it, a command each."""
    log = checkout / "installed"
    log.unlink(missing_ok=True)
    done = subprocess.run(
        [str(checkout / "scripts" / "setup")],
        env={"PATH": f"{checkout}:{os.environ['PATH']}", "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def test_every_member_is_installed_and_no_plugin(checkout: Path) -> None:
    assert list(checkout.glob("plugins/*/pyproject.toml"))
    libraries, members = setup(checkout)
    assert libraries[-3:] == ["--require-hashes", "-r", "requirements.lock"]
    ours = [path.parent for place in ("libs", "services") for path in checkout.glob(f"{place}/*/pyproject.toml")]
    assert len(ours) == 10
    named = [word.removeprefix("--editable=./") for word in members if word.startswith("--editable=./")]
    assert sorted(named) == sorted(str(path.relative_to(checkout)) for path in ours)
    assert "--no-index" in members and members.index("--no-index") == len(members) - len(named) - 1


def test_a_second_time_nothing_is_installed(checkout: Path) -> None:
    assert setup(checkout)
    assert setup(checkout) == []
    (checkout / "plugins" / "another").mkdir()
    (checkout / "plugins" / "another" / "pyproject.toml").write_text("")
    assert setup(checkout) == []
