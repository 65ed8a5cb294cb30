"""The processes of the Procfile, as children that never outlive us.

honcho reads the Procfile; its manager is not used because it mixes all output into one stream,
ends everything when one process ends, and waits five seconds before it kills.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from honcho.environ import parse_procfile

from common.errors import ConfigurationError, MusicCloudError

SERVICE_PATIENCE = 2.5
"""Seconds from SIGTERM to SIGKILL for services; with the bus's own second the end comes within five."""
BUS_PATIENCE = 1.0
BUS = "nats"
"""Ends last: the others say goodbye through it."""
CONFIGURATION_STATUS = 2
"""How a service ends that cannot work with its settings: starting it again would not help."""
RESTARTS = 3
RESTART_WINDOW = 60.0
MAX_LOG_BYTES = 10_000_000
KEPT_LOGS = 4
"""Older parts of each log that are kept, the newest as .1."""


class ChildDied(MusicCloudError):
    """A process ended that should run; ``message`` holds the last lines that it wrote."""

    code = "process-ended"


@dataclass
class Child:
    """One process of the Procfile."""

    name: str
    command: str
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes]
    restarts: deque[float] = field(default_factory=deque)


class Stack:
    """Starts, watches and ends the processes. Not started from threads: children live as long as the thread."""

    def __init__(self, *, procfile: Path, logs: Path, folder: Path) -> None:
        self._commands: dict[str, str] = dict(_read_procfile(procfile))
        self._logs = logs
        self._folder = folder
        self._children: dict[str, Child] = {}
        self._stopping = threading.Lock()
        self._ended = threading.Event()
        self._guard = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """The processes that the Procfile names, in its order."""
        return tuple(self._commands)

    def start(self, name: str, environment: Mapping[str, str]) -> None:
        """Start one process; its output goes to a log file of its own."""
        self._logs.mkdir(parents=True, exist_ok=True)
        log = self._logs / f"{name}.log"
        _rotate(log)
        command = self._commands[name]
        with self._guard:
            if self._ended.is_set():
                return
            process = self._spawn(command, environment, log)
            self._children[name] = Child(name, command, environment, log, process)

    def check(self) -> list[str]:
        """Start again what ended; returns sentences about it.

        Raises :class:`ChildDied` for a process that ended by its settings, or too often.
        """
        said: list[str] = []
        for child in list(self._children.values()):
            _rotate(child.log)
        for child in self._ended_children():
            status = child.process.returncode
            now = time.monotonic()
            while child.restarts and now - child.restarts[0] > RESTART_WINDOW:
                child.restarts.popleft()
            if status == CONFIGURATION_STATUS or len(child.restarts) >= RESTARTS:
                raise self._died(child)
            with self._guard:
                if self._ended.is_set():
                    return said
                restarts = child.restarts
                child.process = self._spawn(child.command, child.environment, child.log)
                restarts.append(now)
            said.append(f"{child.name} ended ({_status(status)}) and was started again; its log is {child.log}")
        return said

    def require_alive(self) -> None:
        """Raise :class:`ChildDied` if any process has ended."""
        for child in self._ended_children():
            raise self._died(child)

    def stop(self) -> None:
        """End every process: services first, the bus last, whoever does not listen by force. Any thread, any time."""
        with self._stopping:
            with self._guard:
                self._ended.set()
            children = list(self._children.values())
            self._end([child for child in children if child.name != BUS], SERVICE_PATIENCE)
            self._end([child for child in children if child.name == BUS], BUS_PATIENCE)

    def kill(self) -> None:
        """End every process at once."""
        self._ended.set()
        for child in list(self._children.values()):
            _signal(child, signal.SIGKILL)

    def _end(self, children: list[Child], patience: float) -> None:
        for child in children:
            _signal(child, signal.SIGTERM)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and any(child.process.poll() is None for child in children):
            time.sleep(0.02)
        for child in children:
            # The whole group, also where the process itself has ended: it may have left children.
            _signal(child, signal.SIGKILL)
        for child in children:
            child.process.wait(timeout=5)

    def _ended_children(self) -> list[Child]:
        return [child for child in self._children.values() if child.process.poll() is not None]

    def _died(self, child: Child) -> ChildDied:
        lines = last_lines(child.log, 12)
        told = "\n".join(f"    {line}" for line in lines) or "    (it wrote nothing)"
        return ChildDied(
            f"{child.name} ended ({_status(child.process.returncode)}). The last that it said:\n{told}\n"
            f"Mend what it names and start again; the whole log is {child.log}."
        )

    def _spawn(self, command: str, environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
        shell = ["/bin/sh", "-c", f"exec {command}"]
        guard = shutil.which("setpriv")
        # Should we be killed without a chance to end them, the kernel tells them to end.
        line = [guard, "--pdeathsig", "TERM", "--", *shell] if guard else shell
        with log.open("ab") as output:
            # On a full disk the process itself shall say what it needs.
            with contextlib.suppress(OSError):
                os.write(output.fileno(), f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {command}\n".encode())
            return subprocess.Popen(
                line,
                env=dict(environment),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Its own session: Ctrl-C reaches us alone, and we end them in order.
                start_new_session=True,
            )


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a log."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8_192))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]


def _rotate(log: Path) -> None:
    """Begin a log anew when it has grown large: copied and emptied, because its process goes on writing into it.

    Lines written in the milliseconds between may be lost. On a full disk it stays as it is.
    """
    with contextlib.suppress(OSError):
        if log.stat().st_size <= MAX_LOG_BYTES:
            return
        parts = [log, *(log.with_suffix(f".log.{number}") for number in range(1, KEPT_LOGS + 1))]
        for older, newer in reversed(list(zip(parts[2:], parts[1:], strict=False))):
            if newer.exists():
                newer.replace(older)
        try:
            shutil.copyfile(log, parts[1])
        except OSError:
            parts[1].unlink(missing_ok=True)
            raise
        os.truncate(log, 0)


def _read_procfile(path: Path) -> dict[str, str]:
    try:
        commands: dict[str, str] = parse_procfile(path.read_text(encoding="utf-8")).processes
    except OSError as error:
        raise ConfigurationError(f"The Procfile cannot be read ({error.strerror}); name it with --procfile.") from None
    for name, command in commands.items():
        try:
            shlex.split(command)
        except ValueError:
            raise ConfigurationError(f"The line of {name} in the Procfile cannot be read; check its quotes.") from None
    return commands


def _signal(child: Child, number: int) -> None:
    try:
        os.killpg(child.process.pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _status(status: int | None) -> str:
    if status is not None and status < 0:
        return f"by signal {signal.Signals(-status).name}"
    return f"status {status}"
