"""An exporter that ends by kill -9 at a chosen step of its work: a program that tests run.

A step is a statement of SQLite, a file that is opened, made, renamed or removed. With ``--within`` the end
comes some time into the step, so that it may be anywhere in a commit.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sqlite3
import sys
import threading
from pathlib import Path
from typing import Any

from exporter.adapters.read_database import ReadDatabase
from exporter.adapters.snapshots import SnapshotFolder

_EVENTS = {"open", "os.rename", "os.remove", "os.symlink", "os.mkdir", "os.rmdir", "sqlite3.connect"}


class Steps:
    """Counts steps, and ends the process at one of them."""

    def __init__(self) -> None:
        self.count = 0
        self.last: int | None = None
        self.delay = 0.0
        self.on = False

    def step(self, *_: Any) -> None:
        if not self.on:
            return
        self.count += 1
        if self.count != self.last:
            return
        if self.delay:
            threading.Timer(self.delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
        else:
            os.kill(os.getpid(), signal.SIGKILL)


def export(folder: Path, *, again: bool = False) -> None:
    """What the exporter does when changes have settled; ``again``: as a process does that has done so before."""
    read = ReadDatabase(folder=folder / "state" / "read", catalog=folder / "state" / "catalog.db")
    read._checked = again
    SnapshotFolder(folder / "snapshots", keep=2).make(read)


def main() -> None:
    """Export once for each number of steps, in a process and a folder of its own; print how each ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("prepared", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--within", type=int, default=0, help="then so many times somewhere within a step")
    given = parser.parse_args()
    steps = Steps()
    sys.addaudithook(lambda event, _: steps.step() if event in _EVENTS else None)
    connect = sqlite3.connect

    def watched(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_trace_callback(steps.step)
        return connection

    sqlite3.connect = watched  # type: ignore[assignment]
    # At each step until one comes after the end of either kind of export; then somewhere within steps.
    number, past = 1, 0
    while past < 2:
        past = 0 if end_at(steps, number, 0.0, given) else past + 1
        number += 1
    chance = random.Random(3)
    for _ in range(given.within):
        end_at(steps, chance.randrange(1, number), chance.uniform(0.0, 0.004), given)


def end_at(steps: Steps, number: int, delay: float, given: argparse.Namespace) -> bool:
    """Export in a process that ends at a step, in a copy of the prepared folder; whether it was ended."""
    work = given.work / f"{number}-{round(delay * 1e6)}"
    copy(given.prepared, work)
    child = os.fork()
    if child == 0:
        steps.count, steps.last, steps.delay, steps.on = 0, number, delay, True
        export(work, again=number % 2 == 0)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if not killed and status:
        sys.exit(f"step {number}: ended with {status}")
    print(work.name, "killed" if killed else "done", flush=True)
    return killed


def copy(source: Path, target: Path) -> None:
    """A copy of a folder whose files are small."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        if entry.is_symlink():
            (target / entry.name).symlink_to(os.readlink(entry))
        elif entry.is_dir():
            copy(entry, target / entry.name)
        else:
            (target / entry.name).write_bytes(entry.read_bytes())


if __name__ == "__main__":
    main()
