"""Builds the console: reads its settings, opens what it owns, connects the parts."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr, ValidationError

from common.audit import Needs, Place, Port, StartRefused, examine, state_place
from common.bus.readers import ReaderDesk
from common.contracts.facts import BackendDefined
from common.contracts.names import LIBRARY_BACKEND, BackendKind
from common.database import Location, location_of, opened
from common.database_migrations import newer_database
from common.env_file import words_of
from common.errors import ConfigurationError
from common.redaction import MASK, Redaction, secrets_of
from common.runtime import Runtime
from common.secret_files import ensure_secrets
from common.settings import load
from common.storage.folders import LOCAL_BACKEND, backend_names
from console import migrations
from console.adapters.env_store import EnvStore
from console.adapters.facts import CatalogDesk
from console.adapters.hub import Hub
from console.adapters.jobs_store import BusJobsStore
from console.adapters.ledger import Database, ItemStore, JournalStore, Pruner, RunStore, ScheduleStore, SessionStore
from console.adapters.ledger.revisions import RevisionStore
from console.adapters.letters import DeadLetters
from console.adapters.numbers import Numbers
from console.adapters.resolver import ResolverDesk
from console.adapters.settings_bus import BusSettings
from console.adapters.work_queue import BusWorkQueue
from console.handlers import Forgetting, HeartbeatListener, WorkerRegister, log_projector, status_projector
from console.routes import create_app
from console.routes.desk import Desk
from console.routes.rendering import make_environment
from console.service.configuration import Configuration
from console.service.control import JobControl
from console.service.fleet import Fleet
from console.service.letters import Replays
from console.service.schedules import Scheduler
from console.service.songs import Songs
from console.settings import ConsoleSettings, limits_of


def prepare() -> None:
    """Make the credential at the first start, and show it this once.

    Raises ConfigurationError when the console would stand open to the network without one.
    """
    settings = load(ConsoleSettings)
    if settings.console_token is None:
        # Nothing is made for a start that is refused anyway; the password of the bus is made with the rest.
        found = examine(settings, needs(settings))
        if errors := [one for one in found if one.severity == "error" and one.code != "secret-missing"]:
            raise StartRefused(errors)
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


def needs(settings: ConsoleSettings) -> Needs:
    """The address that people open, and a database of its own, unless a server has it."""
    ports = (Port(setting="WEB_PORT", host=settings.web_host, number=settings.web_port),)
    usable = (lambda: backend_names(settings), lambda: _location(settings))
    if settings.database_url:
        return Needs(ports=ports, settings=usable)
    folder = state_place(settings)
    if settings.ops_db_path is not None:
        folder = Place(setting="OPS_DB_PATH", path=settings.ops_db.parent)
    return Needs(
        writes=(folder,),
        databases=((folder, settings.ops_db),),
        owned=(("console", settings.ops_db),),
        ports=ports,
        more=(lambda: newer_database(settings.ops_db, package=migrations),),
        settings=usable,
    )


async def build(runtime: Runtime) -> None:
    """Put the console together."""
    settings = runtime.settings
    assert isinstance(settings, ConsoleSettings)
    if settings.console_token is None:
        raise ConfigurationError("CONSOLE_TOKEN is not set; start the console with `console serve`, which makes one.")
    location = _location(settings)
    database = await opened(lambda: Database(location))
    runtime.on_stop(database.close)
    if database.opened.is_server:
        runtime.add_task("database", lambda: database.opened.watch(runtime.stop))
        runtime.add_check("database", lambda: database.opened.problem)
    credential = settings.console_token.get_secret_value()
    changed, poke = asyncio.Event(), asyncio.Event()

    def on_change() -> None:
        changed.set()

    def on_status() -> None:
        changed.set()
        poke.set()

    def on_beat() -> None:
        changed.set()
        if control.pausing:
            poke.set()

    bus, fleet = runtime.bus, Fleet(started=time.monotonic())
    runs, items = RunStore(database), ItemStore(database)
    queue = BusWorkQueue(
        bus,
        lease_seconds=settings.lease_seconds,
        max_in_flight=settings.source_max_in_flight,
        limits=settings.limits,
        replicas=settings.nats_replicas,
    )
    projector = status_projector(bus=bus, items=items, on_change=on_status)
    journal = JournalStore(database)
    lines = log_projector(bus=bus, journal=journal)
    revisions = RevisionStore(database)
    configuration = Configuration(
        file=EnvStore(),
        revisions=revisions,
        announcer=BusSettings(bus),
        judge=judged,
        environment=[name.upper() for name, value in os.environ.items() if value],
        secrets=secrets_of(settings),
        on_change=on_change,
    )
    control = JobControl(
        runs=runs,
        items=items,
        queue=queue,
        store=BusJobsStore(bus),
        projection=projector,
        fleet=fleet,
        sources=settings.source_names,
        upload_backend=settings.upload_backend,
        config=lambda: configuration.snapshot(masked(settings)),
        lease_seconds=settings.lease_seconds,
        pause_found=settings.recovery == "pause",
        on_change=on_change,
    )
    schedules = ScheduleStore(database)
    scheduler = Scheduler(schedules=schedules, submit=control, on_change=on_change)
    catalog = CatalogDesk(bus, backends=backend_names(settings))
    letters, hub = DeadLetters(bus), Hub(stop=runtime.stop)
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
        letters=letters,
        schedules=schedules,
        revisions=revisions,
        configuration=configuration,
        scheduler=scheduler,
        replays=Replays(letters=letters, items=items, runs=runs, control=control),
        songs=Songs(facts=catalog, runs=runs, items=items, control=control, sources=settings.source_names),
        resolver=ResolverDesk(bus),
        hub=hub,
        beat=runtime.heartbeat,
        pages=make_environment(),
    )
    server = runtime.serve_http(create_app(desk, credential=credential), host=settings.web_host, port=settings.web_port)
    await control.start()
    await configuration.look()
    await ReaderDesk(bus).start()
    await projector.start()
    await lines.start()
    await HeartbeatListener(bus=bus, fleet=fleet, on_change=on_beat).start()
    for backend in backends(settings):
        await catalog.define(backend)

    runtime.add_task("status", lambda: projector.run(runtime.stop))
    runtime.add_task("log", lambda: lines.run(runtime.stop))
    runtime.add_task("workers", lambda: WorkerRegister(fleet=fleet, journal=journal).run(runtime.stop))
    forgetting = Forgetting(pruner=Pruner(database), days=settings.history_days)
    runtime.add_task("history", lambda: forgetting.run(runtime.stop))
    runtime.add_task("configuration", lambda: configuration.run(runtime.stop))

    def limit(**limits: Any) -> None:
        queue.limit(**limits)
        control.limits_changed()
        poke.set()

    runtime.on_setting("SOURCE_MAX_IN_FLIGHT", lambda value: limit(max_in_flight=value))
    runtime.on_setting("SOURCE_LIMITS", lambda value: limit(limits=limits_of(value)))
    runtime.on_setting("HISTORY_DAYS", forgetting.keep)
    runtime.add_task("schedules", lambda: scheduler.run(runtime.stop))
    runtime.add_task("jobs", lambda: control.run(runtime.stop, poke=poke))
    runtime.add_task("events", lambda: desk.publish(runtime.stop, changed))
    runtime.add_check("ledger", lambda: projector.problem)
    runtime.add_detail("web_port", lambda: server.port)
    runtime.add_detail("status_lag", lambda: projector.lag)
    runtime.numbers.projection("ledger", lambda: projector.lag)
    runtime.numbers.projection("log", lambda: lines.lag)
    runtime.numbers.folder("state", settings.state)
    Numbers(bus=bus, jobs=runtime.jobs, runs=runs, items=items).register(runtime.metrics)


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


def judged(values: Mapping[str, str]) -> dict[str, str]:
    """What the console finds wrong with values of an env file, by name; never a value."""
    given: dict[str, Any] = {name.lower(): value for name, value in values.items()}
    try:
        ConsoleSettings(_env_file=None, **given)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False, include_context=False)
        return {"_".join(str(part) for part in one["loc"]).upper(): words_of(one) for one in wrong}
    return {}


def masked(settings: ConsoleSettings) -> dict[str, Any]:
    """The settings as a job keeps them: secrets and credentials in URLs are masked."""
    kept: dict[str, Any] = {}
    redact = Redaction(secrets_of(settings))
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            kept[name] = MASK
        elif isinstance(value, str):
            kept[name] = redact(value)
        elif value is None or isinstance(value, bool | int | float):
            kept[name] = value
        else:
            kept[name] = redact(str(value))
    return kept


def _location(settings: ConsoleSettings) -> Location:
    return location_of(settings, service=settings.SERVICE, file=settings.ops_db)
