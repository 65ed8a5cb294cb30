"""The command `adopt`."""

from __future__ import annotations

import asyncio
import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cli.files import Locked, take_lock
from cli.settings import CliSettings
from common.errors import ConfigurationError
from common.settings import load
from common.storage.folders import backend_folders


class Verify(StrEnum):
    """How closely a file is looked at."""

    SIZE = "size"
    FULL = "full"


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(adopt)


def adopt(
    context: typer.Context,
    db: Annotated[Path, typer.Option(help="the older system's catalogsync.db; only read")],
    library: Annotated[Path, typer.Option(help="its folder of music; nothing in it is moved or changed")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be done, and do nothing")] = False,
    verify: Annotated[
        Verify, typer.Option(help="size: each file is there and as long as it should be; full: also read it all")
    ] = Verify.SIZE,
    backend: Annotated[str | None, typer.Option(help="which of several folders of the older system it is")] = None,
    report: Annotated[Path | None, typer.Option(help="folder of the report; default: STATE_DIR/adopt")] = None,
) -> None:
    """Move in from the older system: keep its ids, take its files where they are, download nothing that is there."""
    # Imported here, as in the other commands: most uses of this program need none of it.
    from cli.adopt.adopt import Adopt, Wanted
    from cli.adopt.report import Report
    from common.bus import Bus

    settings = load(CliSettings)
    own = settings.state / "adopt"
    wanted = Wanted(
        database=db,
        library=library.absolute(),
        backend=backend_of(settings, library),
        called=backend,
        verify=verify.value,
        dry_run=dry_run,
        work=own / "work.db",
    )
    try:
        lock = take_lock(own / "lock", note="adopt")
    except Locked:
        raise ConfigurationError("Another adopt is under way on this STATE_DIR. Wait until it has ended.") from None
    try:
        with Report(report or own, dry_run=dry_run) as told, _Bars() as bars:

            async def work() -> None:
                bus = await Bus.connect(settings, service="operator", instance=f"adopt-{os.getpid()}")
                try:
                    await Adopt(bus=bus, wanted=wanted, report=told, tell=bars.tell).run()
                finally:
                    await bus.close()

            asyncio.run(work())
    finally:
        os.close(lock)
    if context.obj.json:
        print(json.dumps(told.content(), ensure_ascii=False, indent=2))
    else:
        for line in told.lines():
            print(line)


def backend_of(settings: CliSettings, library: Path) -> str:
    """The name under which the services know the folder.

    Raises ConfigurationError when they do not, so that nothing in it could be played.
    """
    try:
        wanted = library.resolve(strict=True)
    except OSError as error:
        raise ConfigurationError(
            f"The library {library} cannot be read ({error.strerror}). Is its disk mounted?"
        ) from None
    for name, folder in backend_folders(settings).items():
        if folder.resolve() == wanted:
            return name
    raise ConfigurationError(
        f"No service would find the files in {library}. Set LIBRARY_DIR={wanted}, so that it is the library from now "
        f"on; or keep it beside the library with ADOPTED_LIBRARIES=older={wanted}. Then start Music Cloud again, and "
        "adopt."
    )


class _Bars:
    """A bar for each thing that is being done; nothing where no terminal would show it."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def tell(self, what: str, done: int, total: int | None) -> None:
        """As Adopt wants it."""
        task = self._tasks.get(what)
        if task is None:
            task = self._tasks[what] = self._progress.add_task(what, total=total)
        self._progress.update(task, completed=done, total=total)
