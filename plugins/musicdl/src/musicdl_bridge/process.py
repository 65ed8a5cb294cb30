"""The worker's process, from our side: started when it is needed, bounded in everything, ended without mercy."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from common.errors import DependencyDown, MusicCloudError, PermanentError, TransientError
from sources.api.pace import TurnWaiting

from .folder import PrivateFolder

SCRIPT = Path(__file__).with_name("worker.py")
MAX_ANSWER = 16 * 1024**2
"""Bytes of one answer: a list of the longest kind is half of it."""
START_SECONDS = 90.0
"""The library takes seconds to load, on a busy NAS many of them."""
IDLE_SECONDS = 240.0
"""A worker that was not needed for so long is replaced by the next request; a little later it ends by itself."""
SELF_END_SECONDS = 300
MAX_REQUESTS = 200
"""After which a worker is replaced, with whatever it has gathered."""
PATIENCE = 20.0
"""Seconds that a request waits for another one; after that it is set aside, and keeps no thread."""
SUPPORTED = (2, 14)
TESTED = "2.14.2"
_TICK = 1.0
_RETRY = 60.0


class Process:
    """One worker at a time, of one source; requests wait for one another. Safe in threads.

    ``megabytes``: of memory that it may have; ``allow_private``: whether it may reach into the local network.
    """

    def __init__(self, *, python: Path, base: Path, megabytes: int, allow_private: bool) -> None:
        self._python = python
        self._base = base
        self._arguments = (str(megabytes), "private" if allow_private else "public", str(SELF_END_SECONDS))
        self._lock = threading.Lock()
        self._running: _Running | None = None
        self._number = 0
        self._version: tuple[str | None, float] | None = None

    def problem(self) -> str | None:
        """Why the library cannot be used here, as far as its installation tells; asked again after a minute."""
        known = self._version
        if known is None or (not _supported(known[0]) and time.monotonic() - known[1] > _RETRY):
            known = self._version = (self._find_version(), time.monotonic())
        if known[0] is None:
            return (
                "The library musicdl is not installed where PLUGIN_MUSICDL_PYTHON says. Install it there "
                f"(pip install musicdl=={TESTED}) and read its licence, or correct the setting."
            )
        if not _supported(known[0]):
            return f"musicdl {known[0]} is installed, which is not known to work. Install version {TESTED}."
        return None

    def ask(
        self, request: dict[str, Any], *, seconds: float, tick: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        """Ask the worker, and give its answer as JSON that nobody has checked yet.

        ``tick`` is called every second, and may raise. Raises :class:`TransientError` (late, crashed),
        :class:`PermanentError` (no answer that can be read), DependencyDown (the library is not there), Waiting.
        After every error the worker is gone with all of its group.
        """
        end = time.monotonic() + PATIENCE
        while not self._lock.acquire(timeout=_TICK):
            tick()
            if time.monotonic() > end:
                raise TurnWaiting(
                    "The musicdl library is busy with other songs.", code="musicdl-busy", seconds=PATIENCE
                )
        try:
            running = self._ready(tick)
            try:
                self._number += 1
                running.send({**request, "id": self._number, "seconds": int(seconds)})
                answer = running.receive(seconds, tick)
                if answer.get("id") != self._number:
                    raise _malformed()
            except BaseException:
                self._end()
                raise
            running.requests += 1
            running.used = time.monotonic()
            if answer.get("spent") is True or running.requests >= MAX_REQUESTS:
                self._end()
            return answer
        finally:
            self._lock.release()

    def close(self) -> None:
        """End the worker, if one runs. A later request starts another one."""
        with self._lock:
            self._end()

    def _ready(self, tick: Callable[[], None]) -> _Running:
        running = self._running
        if running is not None and (time.monotonic() - running.used > IDLE_SECONDS or running.over):
            self._end()
        if self._running is None:
            if (problem := self.problem()) is not None:
                raise DependencyDown(problem, code="musicdl-missing", retry_after=_RETRY)
            self._running = self._start()
            try:
                self._running.receive(START_SECONDS, tick)
            except BaseException as error:
                self._end()
                if isinstance(error, MusicCloudError):
                    raise DependencyDown(
                        "The musicdl library does not start. Try it by hand with the Python of PLUGIN_MUSICDL_PYTHON, "
                        "or raise PLUGIN_MUSICDL_MEMORY_MIB.",
                        code="musicdl-broken",
                        retry_after=_RETRY,
                    ) from None
                raise
        return self._running

    def _start(self) -> _Running:
        try:
            folder = PrivateFolder(self._base)
        except OSError as error:
            raise DependencyDown(
                f"No private folder can be made for musicdl ({error.strerror}). Check the disk of STATE_DIR.",
                code="musicdl-no-folder",
            ) from None
        try:
            process = subprocess.Popen(
                # -I: nothing of our environment, nor of the folder that it runs in, is imported.
                [str(self._python), "-I", str(SCRIPT), *self._arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=folder.path,
                env=environment(folder.path),
                start_new_session=True,
                bufsize=0,
            )
        except OSError:
            folder.remove()
            raise DependencyDown(
                "The Python of PLUGIN_MUSICDL_PYTHON cannot be started.", code="musicdl-missing", retry_after=_RETRY
            ) from None
        return _Running(process, folder)

    def _end(self) -> None:
        if self._running is not None:
            self._running.end()
            self._running = None

    def _find_version(self) -> str | None:
        try:
            done = subprocess.run(
                [str(self._python), "-I", str(SCRIPT), "version"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=environment(Path("/nonexistent")),
                timeout=20,
                check=True,
            )
            found = json.loads(done.stdout[:1000])["version"]
        except (OSError, subprocess.SubprocessError, ValueError, LookupError, TypeError):
            return None
        return found[:40] if isinstance(found, str) else None


class _Running:
    """One process with its pipes and folder."""

    def __init__(self, process: subprocess.Popen[bytes], folder: PrivateFolder) -> None:
        self.requests = 0
        self.used = time.monotonic()
        self._process = process
        self._answers: IO[bytes] = _pipe(process.stdout)
        self._asking: IO[bytes] = _pipe(process.stdin)
        # Also at the end of the interpreter, and when the source is thrown away.
        self._finalizer = weakref.finalize(self, _kill, process, folder)

    @property
    def over(self) -> bool:
        """Whether it ended by itself, or talks without being asked."""
        return bool(select.select([self._answers], [], [], 0)[0])

    def end(self) -> None:
        self._finalizer()

    def send(self, request: dict[str, Any]) -> None:
        try:
            self._asking.write(json.dumps(request).encode() + b"\n")
        except OSError:
            raise _crashed() from None

    def receive(self, seconds: float, tick: Callable[[], None]) -> dict[str, Any]:
        """One line within ``seconds``, as a JSON object."""
        deadline = time.monotonic() + seconds
        line = bytearray()
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0:
                raise TransientError(
                    f"The musicdl library did not answer within {seconds:g} seconds, and was ended.",
                    code="musicdl-timeout",
                )
            if select.select([self._answers], [], [], min(_TICK, left))[0]:
                part = self._answers.read(256 * 1024)
                if not part:
                    raise _crashed()
                line += part
                if len(line) > MAX_ANSWER:
                    raise PermanentError(
                        f"The musicdl library answers with more than {MAX_ANSWER // 1024**2} MiB.",
                        code="musicdl-answer-too-large",
                    )
            else:
                tick()
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            raise _malformed() from None
        if not isinstance(answer, dict):
            raise _malformed()
        return answer


def environment(folder: Path) -> dict[str, str]:
    """All that the library sees of ours: nothing. Passwords and keys of the services stand in our own."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _kill(process: subprocess.Popen[bytes], folder: PrivateFolder) -> None:
    # The group first: while its leader was not waited for, its number belongs to nobody else.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            _pipe(pipe).close()
    process.wait()
    folder.remove()


def _crashed() -> TransientError:
    return TransientError("The musicdl library ended in the middle of its work.", code="musicdl-crashed")


def _malformed() -> PermanentError:
    return PermanentError("The musicdl library answers with something unreadable.", code="musicdl-answer-malformed")


def _supported(version: str | None) -> bool:
    parts = (version or "").split(".")
    return tuple(parts[:2]) == tuple(map(str, SUPPORTED)) and len(parts) == 3
