"""Running ``music-cloud-mirror`` as its users do, and looking at what it shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from mirror.client import current_snapshot
from mirror.format.digest import content_of
from tests.support.publisher import Published

PATIENCE = 60.0


def mirror_command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "mirror", *map(str, arguments)]


def environment(**extra: str) -> dict[str, str]:
    """What the command gets to see: nothing of this machine's proxies and secrets."""
    kept = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG", "TMPDIR"}}
    return {**kept, **extra}


def run_mirror(*arguments: object, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; output as text."""
    return subprocess.run(
        mirror_command(*arguments),
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def shown(directory: Path) -> str | None:
    """The id of what a reader finds in a mirror's folder, computed from the rows; None where there is nothing.

    Fails if the manifest that lies beside them tells of anything else.
    """
    snapshot = current_snapshot(directory)
    if snapshot is None:
        return None
    found = content_of(snapshot.database).snapshot_id
    assert found == snapshot.manifest.snapshot_id
    return found


def assert_shows(directory: Path, published: Published) -> None:
    assert shown(directory) == published.id


def leftovers(directory: Path) -> list[str]:
    """What lies in a mirror's folder that is neither a snapshot nor its memory."""
    known = {"current", "snapshots", "mirror.json", ".lock", ".incoming"}
    found = [entry.name for entry in directory.iterdir() if entry.name not in known]
    return found + [entry.name for entry in (directory / ".incoming").glob("*")]
