"""Where the collector is put together."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from collector import migrations
from collector.adapters.apply import CATALOG_KEY, STATUS_KEY, Writer
from collector.adapters.database import FILE_NAME, open_record
from collector.adapters.follow import Follower
from collector.adapters.health import SourceWatch
from collector.adapters.known import Recent
from collector.adapters.record import DatabaseRecord
from collector.handlers import CollectHandler, Desk, PlanHandler, SyncHandler
from collector.settings import CollectorSettings
from common.audit import Needs, media_place, state_place
from common.bus.facts import FactWriter
from common.contracts.names import Stage
from common.database import Location, location_of, opened
from common.database_migrations import newer_database
from common.metrics_names import SOURCE_UP
from common.runtime import Runtime
from common.telemetry import ContextThreads
from common.work import WorkLoop
from sources.registry import load_sources

SWITCH_SECONDS = 0.0005
"""Threads that read tags compute all the time; at Python's 5 ms each answer of the bus would wait for
every one of them in turn (measured: a first collection took three times as long)."""


def needs(settings: CollectorSettings) -> Needs:
    """The mounted folder if there is one, and a database of its own, unless a server has it."""
    state, media = state_place(settings), media_place(settings)
    reads = () if media is None else (media,)
    usable = (lambda: load_sources(settings), lambda: _location(settings))
    if settings.database_url:
        return Needs(reads=reads, settings=usable)
    database = settings.state / FILE_NAME
    return Needs(
        writes=(state,),
        reads=reads,
        databases=((state, database),),
        owned=(("collector", database),),
        more=(lambda: newer_database(database, package=migrations),),
        settings=usable,
    )


async def build(runtime: Runtime) -> None:
    """Build the service upon ``runtime``."""
    sys.setswitchinterval(SWITCH_SECONDS)
    settings = cast(CollectorSettings, runtime.settings)
    sources = load_sources(settings)
    location = _location(settings)
    database = await opened(lambda: open_record(location))
    runtime.on_stop(database.close)
    if database.is_server:
        runtime.add_task("database", _until(runtime.stop, lambda: database.watch(runtime.stop)))
        runtime.add_check("database", lambda: database.problem)
    writer = Writer(database.engine)
    writing = ThreadPoolExecutor(1, thread_name_prefix="record")
    threads = ContextThreads(settings.collector_concurrency + 2, thread_name_prefix="work")
    runtime.on_stop(lambda: writing.shutdown(wait=True, cancel_futures=True))
    runtime.on_stop(lambda: threads.shutdown(wait=False, cancel_futures=True))
    recent = Recent()
    catalog = Follower(bus=runtime.bus, writer=writer, thread=writing, key=CATALOG_KEY, on_songs=recent.applied)
    given_up = Follower(bus=runtime.bus, writer=writer, thread=writing, key=STATUS_KEY)
    runtime.add_task("catalog", _until(runtime.stop, catalog.run))
    runtime.add_task("given-up", _until(runtime.stop, given_up.run))
    runtime.add_check("record", catalog.problem)
    runtime.add_detail("record", lambda: {"behind": catalog.lag, "level": catalog.caught_up})
    watch = SourceWatch(sources=sources, seconds=settings.source_check_seconds)
    runtime.add_task("sources", _until(runtime.stop, watch.run))
    runtime.add_detail("sources", lambda: watch.seen)
    runtime.on_stop(watch.close)
    runtime.metrics.told(SOURCE_UP, lambda: [((one["name"],), float(bool(one["available"]))) for one in watch.seen])
    runtime.numbers.projection("record", lambda: catalog.lag)
    runtime.numbers.projection("given-up", lambda: given_up.lag)
    runtime.numbers.folder("state", settings.state)
    desk = Desk(
        sources=sources,
        record=DatabaseRecord(database.engine),
        recent=recent,
        writer=FactWriter(runtime.bus),
        catalog=catalog,
        given_up=given_up,
        threads=threads,
        shrink_limit=settings.playlist_shrink_limit,
        record_wait=settings.record_wait_seconds,
        download_sources=settings.download_sources,
    )
    loop = WorkLoop(
        bus=runtime.bus,
        jobs=runtime.jobs,
        handlers={
            Stage.PLAN: PlanHandler(desk),
            Stage.COLLECT: CollectHandler(desk),
            Stage.SYNC: SyncHandler(desk),
        },
        settings=settings,
        concurrency=settings.collector_concurrency,
    )

    def resize(concurrency: int) -> None:
        threads.hold(max(concurrency, loop.concurrency) + 2)
        loop.resize(concurrency)

    runtime.add_work(loop)
    runtime.on_setting("COLLECTOR_CONCURRENCY", resize)
    runtime.on_setting("DOWNLOAD_SOURCES", desk.set_download_sources)


def _location(settings: CollectorSettings) -> Location:
    return location_of(settings, service=settings.SERVICE, file=settings.state / FILE_NAME)


def _until(stop: asyncio.Event, run: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """``run``, ended as soon as the service stops: what a task holds can be read again."""

    async def task() -> None:
        running = asyncio.ensure_future(run())
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
        finally:
            running.cancel()
            stopped.cancel()
            await asyncio.gather(running, stopped, return_exceptions=True)

    return task
