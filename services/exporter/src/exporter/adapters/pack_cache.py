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
from exporter.adapters.turns import Turns
from exporter.errors import PackFailed, RequestRefused
from exporter.ports import History, Snapshots
from exporter.service.fetch import Plan
from mirror.errors import MirrorError
from mirror.format.pack import PackInfo

_PATIENCE = 1.5
"""Seconds that a request waits for its pack: most deltas are ready by then, and the mirror is spared a second one."""
_MAX_WAITING = 16
"""Packs that may wait to be made; whoever wants another one comes later."""
_COMES_BACK = 60.0
"""Seconds within which whoever was told to come back does: his pack is waited for meanwhile, and stays when ready."""
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


@dataclass(slots=True, eq=False)
class _Making:
    """A pack that is being made or waits to be. ``asked``: when somebody last did, who does not wait any more."""

    plan: Plan
    asked: float
    waiting: int = 0
    begun: bool = False
    task: asyncio.Task[Pack] = field(init=False)


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
        patience: float = _PATIENCE,
        built: Callable[[Plan, float | None], None] = lambda _plan, _seconds: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``url_seconds``: how long a pack stays after it was offered; ``patience``: how long ``offer`` waits for one.

        ``built`` is told of each pack made, and how long it took; None: it failed.
        """
        self._folder = folder
        self._snapshots = snapshots
        self._history = history
        self._max_bytes = max_bytes
        self._max_count = max_count
        self._url_seconds = url_seconds
        self._bucket = bucket
        self._patience = patience
        self._built = built
        self._clock = clock
        self._packs: dict[Key, Pack] = {}
        self._making: dict[Key, _Making] = {}
        # One at a time: two at once would take twice the memory, and no less time.
        self._turns = Turns()
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

    @property
    def plans(self) -> list[Plan]:
        """Packs that are ready, are being made, or wait to be; their snapshots may not be kept any more."""
        return [*(pack.plan for pack in self._packs.values()), *(one.plan for one in self._making.values())]

    async def offer(self, plan: Plan) -> Pack:
        """The pack, which then stays as long as a URL lives. Raises RequestRefused (503) while it is being made.

        Raises PackFailed when it cannot be made.
        """
        return await self._offer(plan, self._patience)

    async def made(self, plan: Plan) -> Pack:
        """The pack, however long it takes. Raises as ``offer`` does."""
        return await self._offer(plan, None)

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
            making.task.cancel()
        self._maker.shutdown(wait=False, cancel_futures=True)
        self._uploader.shutdown(wait=False, cancel_futures=True)

    def _there(self, pack: Pack | None) -> Pack | None:
        """Somebody may have emptied the folder: what is gone is made again."""
        if pack is not None and not pack.path.is_file():
            self._packs.pop(pack.plan.key, None)
            return None
        return pack

    async def _offer(self, plan: Plan, patience: float | None) -> Pack:
        pack = self._there(self._packs.get(plan.key))
        if pack is None:
            making = self._make(plan)
            making.waiting += 1
            try:
                await asyncio.wait({making.task}, timeout=patience)
            finally:
                making.waiting -= 1
                making.asked = self._clock()
            if not making.task.done():
                raise RequestRefused(
                    503, "pack-not-ready", "The pack is being made. Ask again in a moment.", retry_after=2
                )
            pack = making.task.result()
        pack.used = self._clock()
        pack.live_until = max(pack.live_until, pack.used + self._url_seconds)
        return pack

    def _make(self, plan: Plan) -> _Making:
        making = self._making.get(plan.key)
        if making is None:
            if len(self._making) >= _MAX_WAITING:
                self._give_one_up()
            making = self._making[plan.key] = _Making(plan, asked=self._clock())
            making.task = asyncio.create_task(self._made(making))
            making.task.add_done_callback(lambda _: self._done(making))
        return making

    def _wanted(self, making: _Making) -> bool:
        return making.waiting > 0 or self._clock() - making.asked < _COMES_BACK

    def _give_one_up(self) -> None:
        """Forget the one that nobody has asked for longest. Raises RequestRefused (503) when all are waited for."""
        idle = [one for one in self._making.values() if not (one.begun or self._wanted(one))]
        if not idle:
            raise RequestRefused(
                503, "too-many-packs", "Too many packs are being made. Ask again later.", retry_after=10
            )
        given_up = min(idle, key=lambda one: one.asked)
        del self._making[given_up.plan.key]
        given_up.task.cancel()

    def _done(self, making: _Making) -> None:
        """Also when nobody waits any more: a failure is told, and the next who asks tries again."""
        if self._making.get(making.plan.key) is making:
            del self._making[making.plan.key]
        if making.task.cancelled() or (error := making.task.exception()) is None:
            return
        if isinstance(error, RequestRefused):
            return
        self._built(making.plan, None)
        known = isinstance(error, MusicCloudError)
        get_logger().error("a pack could not be made", reason=str(error), exc_info=None if known else error)

    async def _made(self, making: _Making) -> Pack:
        loop, plan = asyncio.get_running_loop(), making.plan
        with contextlib.ExitStack() as held:
            # Newer snapshots may come before its turn does.
            for id in plan.sources:
                held.enter_context(self._snapshots.hold(id))
            async with self._turns.turn(lambda: self._wanted(making)):
                making.begun = True
                self._make_room()
                began = time.perf_counter()
                pack = await loop.run_in_executor(self._maker, self._write, plan)
                seconds = time.perf_counter() - began
                pack.used = self._clock()
                pack.live_until = pack.used + _COMES_BACK
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
