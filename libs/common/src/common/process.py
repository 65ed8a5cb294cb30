"""The process of a service, from its settings to an end within seconds."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import TypeVar

import uvloop

from common.audit import Needs, audited, watch_clock
from common.audit.tell import tell, tell_of_settings
from common.bus.connection import Bus
from common.bus.streams import wait_for_streams
from common.errors import BusUnavailable, ConfigurationError, MusicCloudError
from common.redaction import secrets_of
from common.runtime import STOP_PATIENCE, Runtime
from common.settings import S, Settings, load
from common.telemetry import configure_logging, get_logger

_CLOSE_PATIENCE = 1.5
"""Seconds that closing the bus and databases may take after the tasks have ended."""

Build = Callable[[Runtime], Awaitable[None]]
T = TypeVar("T")


def run_service(name: str, model: type[S], build: Build, needs: Callable[[S], Needs] | None = None) -> None:
    """The main function of a service: never returns; exit status 0 after a signal, else non-zero.

    ``needs`` says what the service needs of this machine; that is looked at before anything is built.

    A configuration that cannot work ends it with status 2 and one sentence, any other expected
    error with 1.
    """
    uvloop.run(_guarded(name, model, build, needs))


async def _guarded(name: str, model: type[S], build: Build, needs: Callable[[S], Needs] | None) -> None:
    """Ends the process from inside the loop: leaving the loop would wait for threads that hang."""
    format = ""
    try:
        settings = await _loaded(name, model)
        instance, format = instance_name(settings), settings.log_format
        configure_logging(
            level=settings.log_level,
            format=format,
            service=name,
            instance=instance,
            secrets=secrets_of(settings),
        )
        if settings.umask is not None:
            os.umask(int(settings.umask, 8))
        await _main(name, settings, instance, build, needs(settings) if needs else Needs())
    except ConfigurationError as error:
        for sentence in error.sentences:
            _say(name, sentence, 2, format=format)
        _leave(2)
    except MusicCloudError as error:
        _end(name, error.message, 1, format=format)
    except Exception as error:
        if format:
            get_logger().critical("ended by a bug", exc_info=error)
        else:
            traceback.print_exc()
        _end(name, "ended by an error that should not happen; the lines above say where", 1, format=format)
    _leave(0)


async def _loaded(name: str, model: type[S]) -> S:
    try:
        return load(model)
    except ConfigurationError as error:
        await tell_of_settings(error, name=name, account=model.SERVICE)
        raise


async def _main(name: str, settings: Settings, instance: str, build: Build, needs: Needs) -> None:
    """Run the service until it ends, or for a few seconds past a signal, wherever it is by then."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    running = asyncio.create_task(_told(name, settings, instance, build, needs, stop))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait({running}, timeout=STOP_PATIENCE + _CLOSE_PATIENCE)
    if running.cancelled():
        raise RuntimeError("the service was cancelled from inside")
    if running.done():
        running.result()


async def _told(name: str, settings: Settings, instance: str, build: Build, needs: Needs, stop: asyncio.Event) -> None:
    """Run it; what a person must mend is told to the bus as well, so that the console shows it."""
    try:
        await _run(name, settings, instance, build, needs, stop)
    except ConfigurationError as error:
        await tell(error, name=name, settings=settings, instance=instance)
        raise


async def _run(name: str, settings: Settings, instance: str, build: Build, needs: Needs, stop: asyncio.Event) -> None:
    audit = await _unless(stop, audited(settings, needs))
    if audit is None:
        return
    for finding in audit.findings:
        get_logger().warning(finding.message, code=finding.code, mend=finding.mend)
    bus = await _unless(stop, _connect(settings, name, instance))
    if bus is None:
        return
    runtime = Runtime(name=name, settings=settings, bus=bus, instance=instance, stop=stop, audit=audit)
    runtime.add_task("clock", lambda: watch_clock(audit, bus.nc, stop))
    if (lease := audit.lease) is not None:
        runtime.add_task("library-lease", lambda: lease.watch(stop, every=settings.heartbeat_seconds))
        runtime.on_stop(lease.release)
    try:
        if name != "console" and not await wait_for_streams(bus, stop):
            return
        await _unless(stop, build(runtime))
        if not stop.is_set():
            await runtime.run()
    finally:
        await runtime.close()


async def _unless(stop: asyncio.Event, work: Awaitable[T]) -> T | None:
    """The result of ``work``, or None when ``stop`` came first."""
    task, stopped = asyncio.ensure_future(work), asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.wait({task}, timeout=1)
    return None


async def _connect(settings: Settings, name: str, instance: str) -> Bus:
    """The bus may start after us: wait for it, and say so."""
    said = False
    while True:
        try:
            return await Bus.connect(settings, service=name, instance=instance)
        except BusUnavailable as error:
            if not said:
                get_logger().warning("waiting for the bus", reason=error.message)
                said = True
            await asyncio.sleep(0.25)


def instance_name(settings: Settings) -> str:
    """This copy's name, fit for a subject."""
    raw = settings.instance or f"{socket.gethostname()}-{os.getpid()}"
    return re.sub(r"[^a-z0-9_-]+", "-", raw.lower()).strip("-")[:48] or "unnamed"


def _end(name: str, sentence: str, status: int, *, format: str) -> None:
    """``format`` is that of the log; empty before it is known."""
    _say(name, sentence, status, format=format)
    _leave(status)


def _say(name: str, sentence: str, status: int, *, format: str) -> None:
    if format == "json":
        get_logger().critical("ended", reason=sentence, status=status)
    else:
        print(f"{name}: {sentence}", file=sys.stderr, flush=True)


def _leave(status: int) -> None:
    """End now: a thread that still waits for a slow server must not keep the process."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
