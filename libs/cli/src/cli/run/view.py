"""What a person sees while the job runs: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from cli.reading import Picture

_LINE_EVERY = 2.0
"""Seconds between two plain lines at least."""


STAGE_TITLES = {
    "collect": "look for playlists",
    "sync": "read playlists",
    "download": "download songs",
    "upload": "upload files",
}


class View(Protocol):
    """Where the progress goes."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None
    ) -> None: ...

    def show(self, picture: Picture) -> None:
        """Show the job as it is now."""
        ...

    def note(self, sentence: str) -> None:
        """What is being done now, where there is a place that shows only that."""
        ...

    def say(self, sentence: str) -> None:
        """A line that stays."""
        ...


class Bars:
    """Progress bars, live, on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<20}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[extra]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._note = Text(style="dim")
        self._live = Live(Group(self._progress, self._note), console=console, refresh_per_second=8)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._note.plain = ""
        self._live.stop()

    def show(self, picture: Picture) -> None:
        """Move the bars."""
        for name, stage in picture.stages.items():
            if name not in STAGE_TITLES:
                continue
            task = self._tasks.get(name)
            if task is None:
                task = self._tasks[name] = self._progress.add_task(STAGE_TITLES[name], total=None, extra="")
            extra = f"[red]{stage.failed} failed[/]" if stage.failed else ""
            if name == "download" and picture.bytes_per_second:
                extra = f"{size(picture.bytes_per_second)}/s  {extra}"
            # Without an end in sight the bar only says that it moves.
            total = stage.total if stage.final or stage.done < stage.total else None
            self._progress.update(task, completed=stage.done, total=total, extra=extra)
        self._note.plain = picture.note

    def note(self, sentence: str) -> None:
        """Under the bars."""
        self._note.plain = sentence

    def say(self, sentence: str) -> None:
        """A line above the bars."""
        self._live.console.print(escape(sentence))


class Lines:
    """Plain lines, for files, pipes and machines."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._last = ""
        self._said_at = float("-inf")
        self._waiting = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._flush()

    def show(self, picture: Picture) -> None:
        """Say what changed, every two seconds at most."""
        parts = [
            f"{STAGE_TITLES[name]} {stage.done}/{stage.total}" + (f" ({stage.failed} failed)" if stage.failed else "")
            for name, stage in picture.stages.items()
            if name in STAGE_TITLES
        ]
        line = "  ·  ".join([*parts, *([picture.note] if picture.note.startswith("waiting") else [])])
        nothing_yet = not any(stage.total for stage in picture.stages.values()) and not picture.note
        if nothing_yet or line == self._last:
            return
        self._last, self._waiting = line, line
        if self._clock() - self._said_at >= _LINE_EVERY:
            self._flush()

    def note(self, sentence: str) -> None:
        """Nothing: a line would stay."""

    def say(self, sentence: str) -> None:
        """One line, after the state that was not told yet."""
        self._flush()
        self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def _flush(self) -> None:
        if self._waiting:
            self._console.print(self._waiting, markup=False, highlight=False, soft_wrap=True)
            self._waiting = ""
            self._said_at = self._clock()


def size(number: float) -> str:
    """Bytes in words: 1.2 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
