"""Builds the console: reads its settings, opens what it owns, connects the parts."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from typing import Any

from pydantic import SecretStr

from common.contracts.facts import BackendDefined
from common.contracts.names import LIBRARY_BACKEND, BackendKind
from common.errors import ConfigurationError
from common.runtime import Runtime
from common.settings import ensure_secrets, load
from console.adapters.facts import LOCAL_BACKEND, CatalogDesk
from console.adapters.hub import Hub
from console.adapters.jobs_store import BusJobsStore
from console.adapters.ledger import Database, ItemStore, JournalStore, RunStore, SessionStore
from console.adapters.work_queue import BusWorkQueue
from console.handlers import HeartbeatListener, WorkerRegister, log_projector, status_projector
from console.routes import create_app
from console.routes.desk import Desk
from console.routes.rendering import make_environment
from console.service.control import JobControl
from console.service.fleet import Fleet
from console.settings import ConsoleSettings

_USERINFO = re.compile(r"(?<=://)[^/@\s,]+(?=@)")
MASK = "********"


def prepare() -> None:
    """Make the credential at the first start, and show it this once.

    Raises ConfigurationError when the console would stand open to the network without one.
    """
    settings = load(ConsoleSettings)
    if settings.console_token is None:
        try:
            made = ensure_secrets(settings.root_dir)
        except OSError as error:
            if not settings.loopback_only:
                raise ConfigurationError(
                    f"The console is to listen on {settings.web_host} and has no credential, and none could be kept "
                    f"({error.strerror}). Set CONSOLE_TOKEN, or WEB_HOST=127.0.0.1."
                ) from None
            raise ConfigurationError(
                f"No credential is set and none could be kept ({error.strerror}). Set CONSOLE_TOKEN, or make ROOT_DIR "
                "writable."
            ) from None
        if "CONSOLE_TOKEN" in made:
            print(f"The console's credential, shown this once: {made['CONSOLE_TOKEN']}", file=sys.stderr, flush=True)


async def build(runtime: Runtime) -> None:
    """Put the console together."""
    settings = runtime.settings
    assert isinstance(settings, ConsoleSettings)
    if settings.console_token is None:
        raise ConfigurationError("CONSOLE_TOKEN is not set; start the console with `console serve`, which makes one.")
    database = Database(settings.ops_db)
    runtime.on_stop(database.close)
    credential = settings.console_token.get_secret_value()
    changed, poke = asyncio.Event(), asyncio.Event()

    def on_change() -> None:
        changed.set()

    def on_status() -> None:
        changed.set()
        poke.set()

    bus, fleet = runtime.bus, Fleet(started=time.monotonic())
    runs, items = RunStore(database), ItemStore(database)
    queue = BusWorkQueue(bus, lease_seconds=settings.lease_seconds, max_in_flight=settings.source_max_in_flight)
    projector = status_projector(bus=bus, items=items, on_change=on_status)
    journal = JournalStore(database)
    lines = log_projector(bus=bus, journal=journal)
    control = JobControl(
        runs=runs,
        items=items,
        queue=queue,
        store=BusJobsStore(bus),
        projection=projector,
        fleet=fleet,
        sources=settings.source_names,
        upload_backend=settings.upload_backend,
        config=lambda: masked(settings),
        lease_seconds=settings.lease_seconds,
        pause_found=settings.recovery == "pause",
        on_change=on_change,
    )
    catalog, hub = CatalogDesk(bus), Hub(stop=runtime.stop)
    desk = Desk(
        settings=settings,
        control=control,
        runs=runs,
        items=items,
        journal=journal,
        sessions=SessionStore(database, credential=credential),
        fleet=fleet,
        projector=projector,
        catalog=catalog,
        hub=hub,
        pages=make_environment(),
    )
    server = runtime.serve_http(create_app(desk, credential=credential), host=settings.web_host, port=settings.web_port)
    await control.start()
    await projector.start()
    await lines.start()
    await HeartbeatListener(bus=bus, fleet=fleet, on_change=on_change).start()
    for backend in backends(settings):
        await catalog.define(backend)

    runtime.add_task("status", lambda: projector.run(runtime.stop))
    runtime.add_task("log", lambda: lines.run(runtime.stop))
    runtime.add_task("workers", lambda: WorkerRegister(fleet=fleet, journal=journal).run(runtime.stop))
    runtime.add_task("jobs", lambda: control.run(runtime.stop, poke=poke))
    runtime.add_task("events", lambda: desk.publish(runtime.stop, changed))
    runtime.add_check("ledger", lambda: projector.problem)
    runtime.add_detail("web_port", lambda: server.port)
    runtime.add_detail("status_lag", lambda: projector.lag)


def backends(settings: ConsoleSettings) -> list[BackendDefined]:
    """Where files are kept, as the catalog is told. Never a path."""
    found = [BackendDefined(backend=LIBRARY_BACKEND, kind=BackendKind.FILESYSTEM)]
    if settings.local_media_import_path is not None:
        found.append(BackendDefined(backend=LOCAL_BACKEND, kind=BackendKind.FILESYSTEM, read_only=True))
    if settings.object_store_configured:
        found.append(
            BackendDefined(
                backend=settings.object_backend_name,
                kind=BackendKind.OBJECT_STORAGE,
                public_base_url=settings.object_public_base_url,
            )
        )
    return found


def masked(settings: ConsoleSettings) -> dict[str, Any]:
    """The settings as a job keeps them: secrets and credentials in URLs are masked."""
    kept: dict[str, Any] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            kept[name] = MASK
        elif isinstance(value, str):
            kept[name] = _USERINFO.sub(MASK, value)
        elif value is None or isinstance(value, bool | int | float):
            kept[name] = value
        else:
            kept[name] = str(value)
    return kept
