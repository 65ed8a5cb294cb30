"""Telling a person how far it is: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


class Progress(Protocol):
    """What a pull tells of itself."""

    def step(self, name: str, total: int | None = None) -> None:
        """A step begins; ``total``: its bytes, where known."""

    def advance(self, count: int) -> None:
        """So many bytes more of the step are done."""

    def close(self) -> None:
        """The pull is over, well or not."""


class Silence:
    """For programs."""

    def step(self, name: str, total: int | None = None) -> None:
        return

    def advance(self, count: int) -> None:
        return

    def close(self) -> None:
        return


class Lines(Silence):
    """A line to standard error for each step."""

    def step(self, name: str, total: int | None = None) -> None:
        print(_named(name, total), file=sys.stderr, flush=True)


class TerminalBars:
    """A bar for each step, by the library rich."""

    def __init__(self) -> None:
        self._bars: Bars | None = None
        self._task: TaskID | None = None

    def step(self, name: str, total: int | None = None) -> None:
        bars = self._started()
        self._finish()
        self._task = bars.add_task(_named(name, total), total=total)

    def advance(self, count: int) -> None:
        if self._bars is not None and self._task is not None:
            self._bars.advance(self._task, count)

    def close(self) -> None:
        if self._bars is not None:
            self._finish()
            self._bars.stop()
        self._bars = self._task = None

    def _started(self) -> Bars:
        if self._bars is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description:<22}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
            self._bars = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bars.start()
        return self._bars

    def _finish(self) -> None:
        if self._bars is not None and self._task is not None:
            task = self._bars.tasks[self._task]
            total = task.total or max(task.completed, 1)
            self._bars.update(self._task, total=total, completed=total)


def for_terminal(*, quiet: bool = False) -> Progress:
    """Bars where standard error is a terminal and rich is installed."""
    if quiet:
        return Silence()
    if sys.stderr.isatty() and importlib.util.find_spec("rich") is not None:
        return TerminalBars()
    return Lines()


def _named(name: str, total: int | None) -> str:
    return name if total is None else f"{name} {megabytes(total)}"


def megabytes(count: int) -> str:
    """For people."""
    return f"{count / 1e6:,.1f} MB" if count >= 100_000 else f"{count / 1e3:,.1f} kB"
