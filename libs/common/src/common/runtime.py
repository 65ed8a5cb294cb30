"""What a service runs upon: the bus, its tasks and servers, health, heartbeats, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable
from importlib import metadata
from typing import Any

import nats.errors

from common.audit import Audit
from common.breaker import Breakers
from common.bus.connection import Bus
from common.bus.jobs import JobsFollower
from common.bus.settings_follower import SettingsFollower
from common.contracts.envelope import now
from common.contracts.status import Heartbeat, Reason, ServerWait
from common.errors import BusUnavailable, MusicCloudError
from common.metrics import Metrics
from common.metrics_runtime import ServiceMetrics
from common.questions import Questions
from common.settings import Settings
from common.telemetry import get_logger, set_log_level
from common.web import HttpServer, Observed, health_app
from common.work import WorkLoop

STOP_PATIENCE = 3.0
"""Seconds that tasks have from the signal to stop to their end."""
_MIN_BEAT = 0.1
"""Seconds between two heartbeats at least: changes are told at once, but not ten thousand times."""


class Runtime:
    """What a service's bootstrap builds upon."""

    def __init__(
        self,
        *,
        name: str,
        settings: Settings,
        bus: Bus,
        instance: str,
        stop: asyncio.Event | None = None,
        audit: Audit | None = None,
    ) -> None:
        self.name = name
        self.settings = settings
        self.bus = bus
        self.instance = instance
        self._changed = asyncio.Event()
        self.jobs = JobsFollower(bus)
        self.jobs.on_change = self.changed
        self.questions = Questions(bus=bus, service=name, instance=instance, version=_version(name))
        """What the service can be asked over the bus; added to before it runs."""
        self._live = SettingsFollower(bus, settings)
        self._live.on_change = self.changed
        self._live.on_setting("LOG_LEVEL", set_log_level)
        self.stop = stop or asyncio.Event()
        self._tasks: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self._servers: list[HttpServer] = []
        self._checks: dict[str, Callable[[], Reason | None]] = {}
        self._failed_checks: set[str] = set()
        self._details: dict[str, Callable[[], Any]] = {}
        self._loops: list[WorkLoop] = []
        self._breakers: Breakers | None = None
        self._closers: list[Callable[[], Awaitable[None] | None]] = []
        self._started_at = now()
        self.audit = audit or Audit()
        self.add_detail("findings", self.audit.told)
        self.add_detail("settings", self._live.state)
        self.metrics = Metrics(service=name)
        """Where the service registers numbers of its own."""
        self.numbers = ServiceMetrics(self.metrics, version=_version(name), bus=bus, problems=self.problems)

    def add_task(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run a coroutine until the service stops. If it raises, the process ends and says why."""
        self._tasks.append((name, run))

    def add_work(self, loop: WorkLoop) -> None:
        """Run a work loop; what it has in hand and on hold goes into the heartbeats."""
        loop.on_change = self.changed
        self.numbers.work(loop)
        self._loops.append(loop)

        async def work() -> None:
            await self.jobs.start()
            await loop.run(self.stop)

        self.add_task("work", work)

    def on_setting(self, name: str, apply: Callable[[Any], None]) -> None:
        """Call ``apply`` with the new value, judged as at the start, when a live setting changes while we run.

        A ValueError refuses it: the old one stays. What the process environment sets never changes.
        """
        self._live.on_setting(name, apply)

    def make_breakers(self, *, patience: float) -> Breakers:
        """The breakers of the servers that this process fetches from, shared with all other processes."""
        self._breakers = Breakers(patience=patience, shared=lambda: self.jobs.state.waits)
        return self._breakers

    def add_check(self, name: str, check: Callable[[], Reason | None]) -> None:
        """A reason why the service cannot work now, or None. Cheap; asked at every heartbeat."""
        self._checks[name] = check

    def add_detail(self, name: str, value: Callable[[], Any]) -> None:
        """A JSON value for the heartbeats and ``/readyz``. Never a secret or a path."""
        self._details[name] = value

    def serve_http(self, app: Any, *, host: str, port: int) -> HttpServer:
        """Serve an ASGI application; the address is taken now, so that a busy port ends the start."""
        server = HttpServer(Observed(app, metrics=self.metrics), host=host, port=port)
        self._servers.append(server)
        return server

    def on_stop(self, close: Callable[[], Awaitable[None] | None]) -> None:
        """Call ``close`` when everything has stopped, last added first."""
        self._closers.append(close)

    def changed(self) -> None:
        """Send a heartbeat soon: something that others wait for has changed."""
        self._changed.set()

    def problems(self) -> tuple[Reason, ...]:
        """Why the service cannot work now."""
        found = [reason for name, check in self._checks.items() if (reason := self._asked(name, check)) is not None]
        if not self.bus.nc.is_connected:
            found.append(Reason(code="bus-unavailable", message="The bus is away; waiting for it."))
        return tuple(found)

    def _asked(self, name: str, check: Callable[[], Reason | None]) -> Reason | None:
        """A check that cannot even be made is a problem of the service, not its end: the work may go on."""
        try:
            return check()
        except Exception as error:  # whatever it is, it is shown as a problem, and once with its place in the code
            if name not in self._failed_checks:
                self._failed_checks.add(name)
                get_logger().error("a check failed", check=name, exc_info=error)
            return Reason(code="check-failed", message=f"The check of {name} failed ({type(error).__name__}).")

    def waits(self) -> tuple[ServerWait, ...]:
        """The servers that are left alone now."""
        return self._breakers.waits() if self._breakers is not None else ()

    def detail(self) -> dict[str, Any]:
        """What the service says of itself."""
        return {name: value() for name, value in self._details.items()}

    def heartbeat(self, *, leaving: bool = False) -> Heartbeat:
        """The service as it is now; ``leaving``: nothing follows."""
        problems = self.problems()
        return Heartbeat(
            service=self.name,
            instance=self.instance,
            started_at=self._started_at,
            ready=not problems,
            problems=problems,
            jobs_revision=self.jobs.state.revision,
            settings_revision=self._live.revision,
            leaving=leaving,
            concurrency=sum(loop.concurrency for loop in self._loops),
            items=tuple(item for loop in self._loops for item in loop.items),
            holds=tuple(hold for loop in self._loops for hold in loop.holds),
            waits=self.waits(),
            bytes_total=sum(loop.bytes_total for loop in self._loops),
            detail=self.detail(),
        )

    async def run(self) -> None:
        """Run everything until ``stop`` or the first failure. Raises that failure."""
        health = HttpServer(
            health_app(problems=self.problems, detail=self.detail, name=self.name, metrics=self.metrics),
            host=self.settings.health_host,
            port=self.settings.health_port,
        )
        self._servers.append(health)
        self.add_detail("health_port", lambda: health.port)
        await self.questions.open(state=lambda: self.heartbeat().model_dump_json().encode())
        await self.jobs.start()
        await self._live.start()
        jobs: list[asyncio.Task[None]] = [
            asyncio.create_task(_named(name, run), name=name) for name, run in self._tasks
        ]
        jobs += [asyncio.create_task(server.run(self.stop), name="http") for server in self._servers]
        jobs.append(asyncio.create_task(self._beat(), name="heartbeat"))
        jobs.append(asyncio.create_task(self._watch_bus(), name="bus"))
        stopped = asyncio.create_task(self.stop.wait())
        get_logger().info("started", ports=[server.port for server in self._servers])
        try:
            pending: set[asyncio.Task[Any]] = {stopped, *jobs}
            while not self.stop.is_set():
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            self.stop.set()
            stopped.cancel()
            await asyncio.wait(jobs, timeout=STOP_PATIENCE)
            for task in jobs:
                task.cancel()
            await asyncio.wait(jobs, timeout=0.5)
        # Not where a handler did not let go in time, nor after a failure: those are told as lost.
        if not any(loop.items for loop in self._loops):
            await self._tell(self.heartbeat(leaving=True))

    async def close(self) -> None:
        """Close what was opened, last first, and the bus."""
        for closer in reversed(self._closers):
            result = closer()
            if result is not None:
                await result
        await self.bus.close()

    async def _beat(self) -> None:
        while not self.stop.is_set():
            self._changed.clear()
            beat = self.heartbeat()
            self.numbers.look()
            await self._tell(beat)
            await asyncio.sleep(_MIN_BEAT)
            waits = [asyncio.create_task(self._changed.wait()), asyncio.create_task(self.stop.wait())]
            await asyncio.wait(
                waits, timeout=self.settings.heartbeat_seconds - _MIN_BEAT, return_when=asyncio.FIRST_COMPLETED
            )
            for wait in waits:
                wait.cancel()

    async def _tell(self, beat: Heartbeat) -> None:
        if self.bus.nc.is_connected:
            with contextlib.suppress(nats.errors.Error):
                await self.bus.send(beat.subject, beat, id=secrets.token_hex(8))

    async def _watch_bus(self) -> None:
        """A connection that the server ended for good is not made again; a new process may do better."""
        closed, stopped = asyncio.create_task(self.bus.closed.wait()), asyncio.create_task(self.stop.wait())
        await asyncio.wait({closed, stopped}, return_when=asyncio.FIRST_COMPLETED)
        closed.cancel()
        stopped.cancel()
        if not self.stop.is_set():
            raise BusUnavailable(
                f"The bus ended the connection for good ({self.bus.nc.last_error or 'no reason given'})."
            )


async def _named(name: str, run: Callable[[], Awaitable[None]]) -> None:
    try:
        await run()
    except MusicCloudError:
        raise
    except Exception:
        get_logger().error("task failed", task=name)
        raise


def _version(name: str) -> str:
    try:
        return metadata.version(f"music-cloud-{name}")
    except metadata.PackageNotFoundError:
        return "0.0.0"
