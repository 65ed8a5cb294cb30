"""Builds the downloader: everything is made here, and only here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from common.audit import Needs, Place, library_place, media_place, state_place
from common.contracts.jobs import KEPT_DETAIL, KeptSettings
from common.contracts.names import Stage
from common.database import Location, location_of, opened
from common.database_migrations import newer_database
from common.errors import ConfigurationError
from common.resolver_stats import SERVICE as STATISTICS
from common.resolver_stats import STATISTICS_FILE
from common.runtime import Runtime
from common.settings import split_list
from common.storage.folders import backend_names
from common.telemetry import ContextThreads, get_logger
from common.work import WorkLoop
from downloader import migrations
from downloader.adapters.choices import Choices
from downloader.adapters.decoder import AudioInspector
from downloader.adapters.disk import Disk
from downloader.adapters.facts import StoredFacts
from downloader.adapters.fetch import CandidateFetcher
from downloader.adapters.fetch_file import FileFetcher
from downloader.adapters.fetch_http import HttpFetcher
from downloader.adapters.leftovers import Leftovers
from downloader.adapters.library import LibraryFolder
from downloader.adapters.matches import MatchDatabase
from downloader.adapters.rejects import RejectDatabase
from downloader.adapters.resolver import SourceDesk
from downloader.adapters.spool import SpoolFolder
from downloader.adapters.statistics import ResolverNumbers
from downloader.adapters.tags import MutagenTagger
from downloader.handlers import DownloadSong
from downloader.service.layout import parse_layout
from downloader.service.order import SourceOrder
from downloader.service.resolve import Finder
from downloader.service.store import StoreSong
from downloader.settings import DownloaderSettings
from sources.addresses import AddressPolicy
from sources.http import GuardedHttp
from sources.registry import load_sources

DATABASE = "downloader.db"


def needs(settings: DownloaderSettings) -> Needs:
    """It alone writes the library, which no other stack may; songs move from the spool into it in one step."""
    library, state, media = library_place(settings), state_place(settings), media_place(settings)
    spool = Place(setting="SPOOL_DIR", path=settings.spool)
    return Needs(
        writes=(library, spool) if settings.database_url else (library, spool, state),
        reads=() if media is None else (media,),
        databases=()
        if settings.database_url
        else ((state, settings.state / DATABASE), (state, settings.state / STATISTICS_FILE)),
        one_file_system=((spool, library),),
        claims=library,
        reserves=((library, int(settings.min_free_space)),),
        more=() if settings.database_url else (lambda: newer_database(settings.state / DATABASE, package=migrations),),
        settings=(
            lambda: parse_layout(settings.download_layout),
            lambda: load_sources(settings),
            lambda: _order(settings),
            lambda: backend_names(settings),
            lambda: _location(settings),
        ),
    )


async def build(runtime: Runtime) -> None:
    """Put the downloader together on ``runtime``. Raises ConfigurationError with what to mend."""
    settings = cast(DownloaderSettings, runtime.settings)
    layout = parse_layout(settings.download_layout)
    for folder in (settings.library, settings.spool):
        folder.mkdir(parents=True, exist_ok=True)
    disk = Disk(path=settings.library, reserve=int(settings.min_free_space))
    spool = SpoolFolder(settings.spool)
    location = _location(settings)
    rejects = await opened(lambda: RejectDatabase(location))
    if rejects.database.is_server:
        runtime.add_task("database", lambda: rejects.database.watch(runtime.stop))
        runtime.add_check("database", lambda: rejects.database.problem)
    sources = load_sources(settings)
    desk = SourceDesk(
        sources,
        # A search may take three requests; the rest is for what else a source does.
        patience=60 + 3 * settings.source_timeout_seconds,
        tell_every=min(5.0, settings.stall_seconds / 4),
    )
    order = _order(settings, warn=lambda words: get_logger().warning("source not used", reason=words))
    numbers = ResolverNumbers(
        location_of(settings, service=STATISTICS, file=settings.state / STATISTICS_FILE),
        warmup_attempts=settings.resolver_warmup_attempts,
        half_life_days=settings.resolver_half_life_days,
        exploration=settings.resolver_exploration,
    )
    matches = MatchDatabase(rejects.database)
    finder = Finder(sources=desk, statistics=numbers, matches=matches, order=order.get)
    # One thread per item in hand, and one for what is left over from those before.
    threads = ContextThreads(settings.download_concurrency + 1, thread_name_prefix="download")
    policy = AddressPolicy.from_setting(
        allow_private_addresses=settings.allow_private_addresses,
        allow_private_hosts=split_list(settings.allow_private_hosts),
    )
    http = GuardedHttp(
        policy=policy,
        connect_timeout=settings.connect_timeout_seconds,
        stall_timeout=min(settings.stall_timeout_seconds, settings.stall_seconds),
        max_redirects=settings.max_redirects,
        breakers=runtime.make_breakers(patience=settings.server_patience_seconds),
    )
    limit = int(settings.max_file_size)
    store = StoreSong(
        spool=spool,
        finder=finder,
        fetcher=CandidateFetcher(
            files=FileFetcher(spool=spool, disk=disk, max_size=limit),
            http=HttpFetcher(http=http, spool=spool, disk=disk, max_size=limit),
        ),
        inspector=AudioInspector(),
        tagger=MutagenTagger(),
        rejects=rejects,
        library=LibraryFolder(settings.library, lock=spool.folder_lock),
        layout=layout,
        full=settings.verify == "full",
        duration_tolerance=settings.duration_tolerance_seconds,
    )
    choices = Choices(runtime.bus)
    runtime.add_task("choices", lambda: choices.run(runtime.stop))
    handler = DownloadSong(
        store=store,
        facts=StoredFacts(runtime.bus),
        threads=threads,
        import_mode=settings.import_mode,
        choices=choices,
        backends=backend_names(settings),
        max_tries=settings.max_tries,
        job_runs=lambda job_id: runtime.jobs.state.job(job_id) is not None,
    )
    loop = WorkLoop(
        bus=runtime.bus,
        jobs=runtime.jobs,
        handlers={Stage.DOWNLOAD: handler},
        settings=settings,
        concurrency=settings.download_concurrency,
    )

    def resize(concurrency: int) -> None:
        # Threads first: an item without one waits, and seems to stall.
        threads.hold(max(concurrency, loop.concurrency) + 1)
        loop.resize(concurrency)

    leftovers = Leftovers(bus=runtime.bus, spool=spool, every=settings.lease_seconds)
    runtime.add_task("leftovers", lambda: leftovers.run(runtime.stop))
    runtime.add_work(loop)
    runtime.on_setting("DOWNLOAD_CONCURRENCY", resize)
    runtime.on_setting("DOWNLOAD_SOURCES", order.set)

    def tell_order(question: dict[str, Any]) -> dict[str, Any]:
        return numbers.tell(question, [name for name in order.get() or desk.in_use() if desk.can_search(name)])

    runtime.questions.add("resolver", lambda question: asyncio.to_thread(tell_order, question))
    runtime.questions.add("matches", lambda question: asyncio.to_thread(matches.tell, question))
    runtime.add_check("disk", disk.problem)
    runtime.numbers.folder("library", settings.library, reserve=int(settings.min_free_space))
    runtime.numbers.folder("state", settings.state)
    runtime.add_detail("sources", lambda: sorted(sources.ready))
    kept = KeptSettings(import_mode=settings.import_mode, download_layout=settings.download_layout)
    runtime.add_detail(KEPT_DETAIL, lambda: kept.model_dump(mode="json"))
    runtime.add_detail("download_sources", lambda: list(order.get() or desk.in_use()))
    runtime.on_stop(numbers.close)
    runtime.on_stop(rejects.close)
    runtime.on_stop(spool.close)
    runtime.on_stop(handler.tidy)
    threads.submit(spool.clean)
    threads.submit(matches.prune)


def _location(settings: DownloaderSettings) -> Location:
    return location_of(settings, service=settings.SERVICE, file=settings.state / DATABASE)


def _order(settings: DownloaderSettings, *, warn: Callable[[str], None] = lambda _: None) -> SourceOrder:
    order = SourceOrder(settings.source_names, warn=warn)
    try:
        order.set(settings.download_sources)
    except ValueError as error:
        raise ConfigurationError(f"{error}. Correct DOWNLOAD_SOURCES, or leave it empty.") from None
    return order
