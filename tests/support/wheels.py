"""A package of this checkout as people get it: its wheel, installed into a folder of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path


def install(package: Path, folder: Path) -> Path:
    """Build and install the wheel of ``package`` below ``folder``, without what it depends on; no network is used."""
    shutil.copytree(package, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    offline = ["--no-deps", "--no-index"]
    wheels = folder / "wheels"
    run([*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", str(wheels), str(folder / "source")])
    (wheel,) = wheels.glob("*.whl")
    run([*pip, "install", *offline, "--target", str(folder / "site"), str(wheel)])
    return folder / "site"


def run(command: list[str]) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
