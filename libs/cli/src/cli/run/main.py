"""The run from the start to the end: start, job, summary, serving, stop."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.markup import escape

import cli
from cli.access import write_run_file
from cli.client import ConsoleClient
from cli.errors import Exit
from cli.run.catalog import catalog_end
from cli.run.follow import follow_job, wait_for_catalog
from cli.run.place import SERVICES, Place, forget, prepare
from cli.run.ready import Probe, wait_for_port, wait_until_ready
from cli.run.stack import BUS, Stack
from cli.run.summary import collect_summary, print_summary
from cli.run.view import Bars, Lines, View
from common.errors import ConfigurationError, MusicCloudError

PROCFILE = "Procfile"
_TICK = 0.25


class Interrupted(Exception):
    """A person or the system asked us to end."""


class Ending:
    """Ends everything when a signal comes, whatever the main thread is waiting for just then.

    The first signal ends all in order, a second one at once.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.stack: Stack | None = None
        self._thread: threading.Thread | None = None

    def listen(self) -> None:
        """From now on SIGINT, SIGTERM and SIGHUP end the run."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def check(self) -> None:
        """Raise :class:`Interrupted` if a signal came."""
        if self.signal is not None:
            raise Interrupted

    def sleep(self, seconds: float) -> None:
        """Wait, but not after a signal."""
        deadline = time.monotonic() + seconds
        while self.signal is None and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
        self.check()

    def stop(self) -> None:
        """End all processes and wait for that."""
        if self.stack is not None:
            self.stack.stop()

    @property
    def status(self) -> int:
        """The exit status of a run that a signal ended: Ctrl-C is the way it is meant to end."""
        return Exit.OK if self.signal in {None, signal.SIGINT} else 128 + (self.signal or 0)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None:
            if self.stack is not None:
                self.stack.kill()
            return
        self.signal = number
        self._thread = threading.Thread(target=self.stop, name="stop")
        self._thread.start()


def run_here(*, exit_when_done: bool, procfile: Path | None) -> int:
    """Run everything on this machine; returns the exit status.

    0: it served until Ctrl-C, or, with ``exit_when_done``, the job ended (single songs may have
    failed). 1: the job failed, or a process could not run. 2: settings. 128 + signal: ended by another signal.
    """
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    ending = Ending()
    ending.listen()
    place = prepare()
    try:
        ending.check()
        return _run(place, ending, console, exit_when_done=exit_when_done, procfile=procfile or find_procfile())
    except Interrupted:
        return ending.status
    except MusicCloudError:
        # What broke because everything ends is no error.
        if ending.signal is None:
            raise
        return ending.status
    finally:
        ending.stop()
        forget(place)
        if ending.signal is not None:
            # The terminal wrote ^C where its cursor was.
            console.print(("\n" if console.is_terminal else "") + "Everything has ended.")


def _run(place: Place, ending: Ending, console: Console, *, exit_when_done: bool, procfile: Path) -> int:
    stack = Stack(procfile=procfile, logs=place.logs, folder=Path.cwd())
    missing = {BUS, *place.processes} - set(stack.names)
    if missing:
        raise ConfigurationError(f"{procfile} has no line for {', '.join(sorted(missing))}; use ours, or add them.")
    ending.stack = stack
    for notice in place.notices:
        console.print(f"[yellow]note:[/] {escape(notice)}")
    with console.status("starting nats-server and the services ..."):
        _start(place, stack, ending, console)
    write_run_file(
        place.root,
        {"pid": os.getpid(), "console": place.console_url, "origin": place.origin_url, "nats": place.nats_url},
    )

    def tick() -> None:
        ending.check()
        for sentence in stack.check():
            console.print(f"[yellow]note:[/] {escape(sentence)}")

    with ConsoleClient(url=place.console_url, credential=place.credential) as client:
        with _view(console) as view:
            job = follow_job(client, view, tick=tick, sleep=ending.sleep)
            end = catalog_end(place.settings, url=place.nats_url)
            catalog = wait_for_catalog(client, view, sequence=end, tick=tick, sleep=ending.sleep)
        summary = collect_summary(client, place, job, catalog)
        print_summary(console, place, summary)
    if exit_when_done:
        return Exit.FAILED if summary.failed else Exit.OK
    console.print("\nServing. Ctrl-C ends everything.")
    while True:
        ending.sleep(_TICK)
        tick()


def _start(place: Place, stack: Stack, ending: Ending, console: Console) -> None:
    def check() -> None:
        ending.check()
        stack.require_alive()

    stack.start(BUS, place.environment(BUS))
    wait_for_port(place.ports.nats, check=check)
    for name in place.processes:
        stack.start(name, place.environment(name))
    store = place.settings.object_store_configured
    health = place.settings.health_host
    probes = [
        Probe(
            name=name,
            url=f"http://{health}:{place.ports.health[name]}",
            must_work=store or name != "uploader",
        )
        for name in SERVICES
    ]
    wait_until_ready(probes, check=check, say=lambda sentence: console.print(escape(sentence)))


def _view(console: Console) -> View:
    return Bars(console) if console.is_terminal else Lines(console)


def find_procfile() -> Path:
    """The Procfile here, or that of the checkout that this program comes from."""
    here = Path.cwd() / PROCFILE
    return here if here.is_file() else Path(cli.__file__).resolve().parents[4] / PROCFILE
