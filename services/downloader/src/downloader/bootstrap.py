"""Builds the downloader: everything is made here, and only here."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

from common.contracts.names import Stage
from common.errors import ConfigurationError
from common.runtime import Runtime
from common.settings import split_list
from common.work import WorkLoop
from downloader.adapters.decoder import AudioInspector
from downloader.adapters.disk import Disk
from downloader.adapters.facts import StoredFacts
from downloader.adapters.fetch import CandidateFetcher
from downloader.adapters.fetch_file import FileFetcher
from downloader.adapters.fetch_http import HttpFetcher
from downloader.adapters.library import LibraryFolder
from downloader.adapters.rejects import RejectDatabase
from downloader.adapters.resolver import SourceResolver
from downloader.adapters.spool import SpoolFolder
from downloader.adapters.tags import MutagenTagger
from downloader.handlers import DownloadSong
from downloader.service.layout import parse_layout
from downloader.service.store import StoreSong
from downloader.settings import DownloaderSettings
from sources.addresses import AddressPolicy
from sources.http import GuardedHttp
from sources.registry import load_sources

DATABASE = "downloader.db"


async def build(runtime: Runtime) -> None:
    """Put the downloader together on ``runtime``. Raises ConfigurationError with what to mend."""
    settings = cast(DownloaderSettings, runtime.settings)
    layout = parse_layout(settings.download_layout)
    if settings.umask is not None:
        os.umask(int(settings.umask, 8))
    _make_folders(settings.library, settings.spool)
    disk = Disk(path=settings.library, reserve=int(settings.min_free_space))
    spool = SpoolFolder(settings.spool)
    rejects = RejectDatabase(settings.state / DATABASE)
    sources = load_sources(settings)
    # One thread per item in hand, and one for what is left over from those before.
    threads = ThreadPoolExecutor(settings.download_concurrency + 1, thread_name_prefix="download")
    policy = AddressPolicy.from_setting(
        allow_private_addresses=settings.allow_private_addresses,
        allow_private_hosts=split_list(settings.allow_private_hosts),
    )
    http = GuardedHttp(
        policy=policy,
        connect_timeout=settings.connect_timeout_seconds,
        stall_timeout=min(settings.stall_timeout_seconds, settings.stall_seconds),
        max_redirects=settings.max_redirects,
    )
    limit = int(settings.max_file_size)
    store = StoreSong(
        spool=spool,
        resolver=SourceResolver(sources),
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
    handler = DownloadSong(
        store=store,
        facts=StoredFacts(runtime.bus),
        threads=threads,
        import_mode=settings.import_mode,
        job_runs=lambda job_id: runtime.jobs.state.job(job_id) is not None,
    )
    runtime.add_work(
        WorkLoop(
            bus=runtime.bus,
            jobs=runtime.jobs,
            handlers={Stage.DOWNLOAD: handler},
            settings=settings,
            concurrency=settings.download_concurrency,
        )
    )
    runtime.add_check("disk", disk.problem)
    runtime.add_detail("sources", lambda: sorted(sources.ready))
    runtime.on_stop(rejects.close)
    runtime.on_stop(spool.close)
    runtime.on_stop(handler.tidy)
    threads.submit(spool.clean)


def _make_folders(library: Path, spool: Path) -> None:
    """Make both, and see that a file can move from one to the other at once."""
    try:
        library.mkdir(parents=True, exist_ok=True)
        spool.mkdir(parents=True, exist_ok=True)
        probe = spool / f"probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigurationError(
            f"LIBRARY_DIR or SPOOL_DIR cannot be written ({error.strerror}). Give the user that runs us (in "
            "containers PUID, PGID) the right to, or choose another folder."
        ) from None
    if library.stat().st_dev != spool.stat().st_dev:
        raise ConfigurationError(
            "SPOOL_DIR and LIBRARY_DIR lie on different file systems. Leave SPOOL_DIR empty, or choose a folder on "
            "the library's: songs move from one to the other in one step."
        )
