"""What the handlers share: the sources, the record, the bus, and threads for what blocks."""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from collector.adapters.follow import Follower
from collector.adapters.known import Recent
from collector.adapters.record import DatabaseRecord
from collector.ports import Givers
from collector.service.identity import identify
from common.bus.facts import FactWriter
from common.contracts.jobs import ActiveJob
from common.contracts.work import PlaylistSync
from common.errors import TransientError
from common.settings import split_list
from common.work import ItemContext
from sources.port import PlaylistRef, Progress
from sources.registry import Sources

PLAN_CHUNK = 2000
"""Items that a plan holds in memory at once."""
RESULT_PROBLEMS = 20
X = TypeVar("X")


class Desk:
    """Everything a handler works with. ``record_wait``: seconds."""

    def __init__(
        self,
        *,
        sources: Sources,
        record: DatabaseRecord,
        recent: Recent,
        writer: FactWriter,
        catalog: Follower,
        given_up: Follower,
        threads: ThreadPoolExecutor,
        shrink_limit: float,
        record_wait: float,
        download_sources: str = "",
    ) -> None:
        """``download_sources``: the setting, as :meth:`set_download_sources` takes it later."""
        self.sources = sources
        self.record = record
        self.recent = recent
        self.writer = writer
        self.shrink_limit = shrink_limit
        self.locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        """per playlist or pool: two jobs do not read one at the same time"""
        self._catalog = catalog
        self._given_up = given_up
        self._threads = threads
        self._record_wait = record_wait
        self.set_download_sources(download_sources)

    async def be_current(self) -> None:
        """Decide on nothing older than now. Raises RecordBehind while the record is being read."""
        await self._given_up.be_level(patience=self._record_wait)
        await self._catalog.reach(await self._catalog.last_sequence(), patience=self._record_wait)

    def set_download_sources(self, given: str) -> None:
        """Take DOWNLOAD_SOURCES; empty: all sources in use give files."""
        self._download_sources = split_list(given)

    async def givers(self, job: ActiveJob) -> Givers:
        """The sources that may give files in ``job``, as the downloaders see it."""
        ready = self.sources.ready
        listed = frozenset(ready).intersection(job.download_sources or self._download_sources or ready)
        return Givers(listed=listed, searched=frozenset(await self.run(self._searchable, listed)))

    def _searchable(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if self.sources.can_search(name)]

    async def ids(self, kind: str, platform: str, keys: Iterable[str]) -> Mapping[str, int]:
        """The ids of these keys of a source: as adopted from an older catalog, otherwise derived."""
        wanted = list(keys)
        return identify(kind, platform, wanted, await self.run(self.record.adopted, kind, platform, wanted))

    async def run(self, function: Callable[..., X], *arguments: Any, **named: Any) -> X:
        """Call what blocks in a thread."""
        call = partial(function, *arguments, **named)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def cause_of(context: ItemContext) -> str:
    """The cause of what one attempt publishes.

    Each attempt has its own: it compares with the record first, so what an attempt before it
    published is not published again, and what it publishes differs from that.
    """
    return f"{context.cause}:{secrets.token_hex(6)}"


def reporting(context: ItemContext) -> Progress:
    """Progress of a reading as progress of its item; ends the reading when the item must stop."""

    def report(done: int, total: int | None = None) -> None:
        if context.canceled.is_set():
            raise TransientError("Stopped before it was complete.", code="stopped")
        context.progress(0, note=f"{done} of {total} read" if total else f"{done} read")

    return report


def distinct(refs: Iterable[PlaylistRef], ids: Mapping[str, int]) -> tuple[dict[int, PlaylistRef], list[str]]:
    """Playlists by id, and a sentence for each whose id another one has. ``ids`` by remote id."""
    by_id: dict[int, PlaylistRef] = {}
    collisions: list[str] = []
    for ref in refs:
        taken = by_id.setdefault(ids[ref.remote_id], ref)
        if taken.remote_id != ref.remote_id:
            collisions.append(f"{ref.name!r} has the same derived id as another playlist, and was refused.")
    return by_id, collisions


def syncs(job_id: int, platform: str, refs: Iterable[tuple[int, PlaylistRef]]) -> Iterable[PlaylistSync]:
    """The items that read these playlists."""
    return (
        PlaylistSync(job_id=job_id, source=platform, playlist_id=one, remote_id=ref.remote_id, name=ref.name)
        for one, ref in refs
    )
