"""The packs that are ready: made once however many ask, limited in number and bytes, never taken from a reader."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import MusicCloudError
from common.telemetry import get_logger
from exporter.adapters.bucket import Bucket
from exporter.adapters.packs import pack_file, write_pack
from exporter.errors import PackFailed, RequestRefused
from exporter.ports import History, Snapshots
from exporter.service.fetch import Plan
from mirror.errors import MirrorError
from mirror.format.pack import PackInfo

_PATIENCE = 1.5
"""Seconds that a request waits for its pack: most deltas are ready by then, and the mirror is spared a second one."""
_MAX_WAITING = 16
"""Packs that may wait to be made; whoever wants another one comes later."""
_UNCLAIMED = 60.0
"""Seconds for which a pack that is ready waits for whoever asked for it to come back."""
_UPLOADS = 2

Key = tuple[str, str | None, str]


@dataclass(slots=True, eq=False)
class Pack:
    """A pack that is ready. ``locator`` is its place in the bucket, if it is there; times are of the wall clock."""

    plan: Plan
    info: PackInfo
    path: Path
    locator: str | None = None
    live_until: float = 0.0
    used: float = 0.0
    readers: int = field(default=0)


class PackCache:
    """One folder, owned by this process and emptied at its start: the same pack made again has the same bytes."""

    def __init__(
        self,
        *,
        folder: Path,
        snapshots: Snapshots,
        history: History,
        max_bytes: int,
        max_count: int,
        url_seconds: int,
        bucket: Bucket | None = None,
        built: Callable[[Plan, float | None], None] = lambda _plan, _seconds: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``url_seconds``: how long a pack stays after it was offered. ``built`` is told of each pack made, and
        how long it took; None: it failed."""
        self._folder = folder
        self._snapshots = snapshots
        self._history = history
        self._max_bytes = max_bytes
        self._max_count = max_count
        self._url_seconds = url_seconds
        self._bucket = bucket
        self._built = built
        self._clock = clock
        self._packs: dict[Key, Pack] = {}
        self._making: dict[Key, asyncio.Task[Pack]] = {}
        # One at a time: two at once would take twice the memory, and no less time.
        self._turn = asyncio.Lock()
        self._maker = ThreadPoolExecutor(1, thread_name_prefix="pack")
        self._uploader = ThreadPoolExecutor(_UPLOADS, thread_name_prefix="pack-upload")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)

    @property
    def size(self) -> int:
        """Bytes of the packs that are ready."""
        return sum(pack.info.size for pack in self._packs.values())

    @property
    def live_locators(self) -> set[str]:
        """Packs in the bucket that somebody may still be reading."""
        now = self._clock()
        return {pack.locator for pack in self._packs.values() if pack.locator and pack.live_until > now}

    async def offer(self, plan: Plan, *, patience: float | None = _PATIENCE) -> Pack:
        """The pack, which then stays as long as a URL lives. Raises RequestRefused (503) while it is being made.

        Raises PackFailed when it cannot be made.
        """
        pack = self._there(self._packs.get(plan.key))
        if pack is None:
            making = self._make(plan)
            await asyncio.wait({making}, timeout=patience)
            if not making.done():
                raise RequestRefused(
                    503, "pack-not-ready", "The pack is being made. Ask again in a moment.", retry_after=2
                )
            pack = making.result()
        pack.used = self._clock()
        pack.live_until = max(pack.live_until, pack.used + self._url_seconds)
        return pack

    async def made(self, plan: Plan) -> Pack:
        """The pack, however long it takes. Raises as ``offer`` does."""
        return await self.offer(plan, patience=None)

    def find(self, pack_id: str) -> Pack | None:
        """A pack that is ready."""
        return self._there(next((pack for pack in self._packs.values() if pack.info.pack_id == pack_id), None))

    @contextlib.contextmanager
    def reading(self, pack: Pack) -> Iterator[None]:
        """While this lasts the pack stays."""
        pack.readers += 1
        try:
            yield
        finally:
            pack.readers -= 1
            pack.used = self._clock()

    def close(self) -> None:
        """Let the threads go; does not wait for them."""
        for making in self._making.values():
            making.cancel()
        self._maker.shutdown(wait=False, cancel_futures=True)
        self._uploader.shutdown(wait=False, cancel_futures=True)

    def _there(self, pack: Pack | None) -> Pack | None:
        """Somebody may have emptied the folder: what is gone is made again."""
        if pack is not None and not pack.path.is_file():
            self._packs.pop(pack.plan.key, None)
            return None
        return pack

    def _make(self, plan: Plan) -> asyncio.Task[Pack]:
        making = self._making.get(plan.key)
        if making is None:
            if len(self._making) >= _MAX_WAITING:
                raise RequestRefused(
                    503, "too-many-packs", "Too many packs are being made. Ask again later.", retry_after=10
                )
            making = self._making[plan.key] = asyncio.create_task(self._made(plan))
            making.add_done_callback(lambda done: self._done(plan, done))
        return making

    def _done(self, plan: Plan, making: asyncio.Task[Pack]) -> None:
        """Also when nobody waits any more: a failure is told, and the next who asks tries again."""
        self._making.pop(plan.key, None)
        if making.cancelled() or (error := making.exception()) is None:
            return
        if isinstance(error, RequestRefused):
            return
        self._built(plan, None)
        known = isinstance(error, MusicCloudError)
        get_logger().error("a pack could not be made", reason=str(error), exc_info=None if known else error)

    async def _made(self, plan: Plan) -> Pack:
        loop = asyncio.get_running_loop()
        async with self._turn:
            self._make_room()
            began = time.perf_counter()
            pack = await loop.run_in_executor(self._maker, self._write, plan)
            seconds = time.perf_counter() - began
            pack.used = self._clock()
            pack.live_until = pack.used + _UNCLAIMED
            self._packs[plan.key] = pack
        self._built(plan, seconds)
        get_logger().info(
            "pack made", kind=plan.way, size=pack.info.size, blobs=pack.info.blob_count, seconds=round(seconds, 3)
        )
        if self._bucket is not None:
            try:
                with self.reading(pack):
                    pack.locator = await loop.run_in_executor(
                        self._uploader, self._bucket.put_pack, pack.path, pack.info.pack_id, pack.info.size
                    )
            except MusicCloudError as error:
                get_logger().warning(
                    "a pack is served from here: it cannot be put into the bucket", reason=error.message
                )
        return pack

    def _make_room(self) -> None:
        """Remove what was used longest ago until one more fits. Raises RequestRefused (503) when all is in use."""
        now = self._clock()
        idle = sorted((p for p in self._packs.values() if not p.readers and p.live_until <= now), key=lambda p: p.used)
        while self.size >= self._max_bytes or len(self._packs) >= self._max_count:
            if not idle:
                ends = min((pack.live_until for pack in self._packs.values()), default=now)
                raise RequestRefused(
                    503,
                    "pack-cache-full",
                    "All packs that fit are being fetched. Ask again later.",
                    retry_after=min(max(ends - now, 5), 300),
                )
            pack = idle.pop(0)
            del self._packs[pack.plan.key]
            pack.path.unlink(missing_ok=True)

    def _write(self, plan: Plan) -> Pack:
        descriptor, name = tempfile.mkstemp(prefix=".making-", dir=self._folder)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                info = write_pack(file, plan, snapshots=self._snapshots, history=self._history)
            path = pack_file(self._folder, info.pack_id)
            temporary.replace(path)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise PackFailed(
                "There is no room for the pack: the disk of STATE_DIR is full. Free some space."
                if full
                else f"The pack cannot be written below STATE_DIR ({error.strerror or 'I/O error'}).",
                code="disk-full" if full else None,
            ) from None
        except (sqlite3.Error, MirrorError) as error:
            raise PackFailed(f"The snapshot cannot be read ({error}).") from None
        finally:
            temporary.unlink(missing_ok=True)
        return Pack(plan=plan, info=info, path=path)
