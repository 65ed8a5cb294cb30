"""From a new snapshot to a complete copy in the bucket: packs, database, manifest, and then its name."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from common.errors import DependencyDown, MusicCloudError
from common.telemetry import get_logger
from exporter.adapters.bucket import Bucket
from exporter.adapters.pack_cache import Pack, PackCache
from exporter.errors import RequestRefused
from exporter.ports import History, Snapshots
from exporter.service.fetch import Asked, Plan, Way, plan

_LOOK_EVERY = 0.5
_RETRY_AFTER = 10.0
"""Seconds after a failure, where the store did not ask for more."""


class BucketPublisher:
    """Keeps the newest snapshot in the bucket: not each one, but the newest whenever it is time."""

    def __init__(
        self,
        *,
        bucket: Bucket,
        packs: PackCache,
        snapshots: Snapshots,
        history: History,
        every: float,
        url_seconds: int,
        stop: asyncio.Event,
        changed: Callable[[], None],
    ) -> None:
        """``every``: seconds between two publications at least."""
        self._bucket = bucket
        self._packs = packs
        self._snapshots = snapshots
        self._history = history
        self._every = every
        self._url_seconds = url_seconds
        self._stop = stop
        self._changed = changed
        self._began = time.monotonic()
        self._refs: dict[str, Any] | None = None
        self.published_at: float | None = None
        self.problem: str | None = None

    @property
    def state(self) -> dict[str, Any]:
        """For heartbeats: what the bucket names as its newest, and why that is not ours."""
        return {"snapshot_id": (self._refs or {}).get("snapshot_id"), "problem": self.problem}

    async def run(self) -> None:
        """Publish until told to stop."""
        last = float("-inf")
        while not self._stop.is_set():
            wait = _LOOK_EVERY
            try:
                if self._refs is None:
                    self._refs = await asyncio.to_thread(self._bucket.refs)
                newest = self._snapshots.current()
                if newest is None or newest == self._refs.get("manifest"):
                    self._mended()
                elif time.monotonic() - last >= self._every:
                    await self._publish(newest)
                    last = time.monotonic()
            except MusicCloudError as error:
                if self.problem != error.message:
                    get_logger().error("the snapshot is not in the bucket yet", reason=error.message)
                self.problem = error.message
                self._changed()
                wait = max(_RETRY_AFTER, error.retry_after) if isinstance(error, DependencyDown) else _RETRY_AFTER
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), wait)

    def _mended(self) -> None:
        """The store answers, and nothing is due."""
        if self.problem is not None:
            self.problem = None
            self._changed()

    async def _publish(self, manifest: dict[str, Any]) -> None:
        """Each step finds what an earlier try left; nothing is named before it is there."""
        assert self._refs is not None
        id, before = str(manifest["snapshot_id"]), self._refs
        with self._snapshots.hold(id):
            database = self._snapshots.database(id)
            if database is None:
                return  # a newer one took its place
            plans = await asyncio.to_thread(self._plans, id, before.get("snapshot_id"))
            packs = [await self._entry(plan) for plan in plans]
            await asyncio.to_thread(self._bucket.put_snapshot, database, manifest)
        packs += [
            pack
            for pack in before.get("packs", ())
            if pack.get("have") is not None
            and self._snapshots.manifest(pack["want"]) is not None
            and pack["mpack_id"] not in {p["mpack_id"] for p in packs}
        ]
        refs = {
            "snapshot_id": id,
            "generated_at": manifest["generated_at"],
            "manifest": manifest,
            "keys": manifest.get("keys", []),
            "packs": packs,
        }
        await asyncio.to_thread(self._bucket.put_refs, refs)
        self._refs, self.problem, self.published_at = refs, None, time.time()
        get_logger().info("snapshot put into the bucket", snapshot=id, packs=len(packs))
        self._changed()
        # Those named before stay once more: somebody may have read the name a moment ago.
        await self._prune(id, [*packs, *before.get("packs", ())])

    def _plans(self, id: str, before: object) -> list[Plan]:
        full = plan(Asked(want=(id,)), snapshots=self._snapshots, history=self._history)
        have = (before,) if isinstance(before, str) and before != id else ()
        delta = plan(Asked(want=(id,), have=have), snapshots=self._snapshots, history=self._history) if have else None
        return [one for one in (full, delta) if one is not None and (one is full or one.way is not Way.FULL)]

    async def _entry(self, plan: Plan) -> dict[str, Any]:
        pack = await self._in_bucket(plan)
        return {
            "want": plan.want,
            "have": plan.have,
            "mpack_id": pack.info.pack_id,
            "size": pack.info.size,
            "commit_count": pack.info.commit_count,
            "blob_count": pack.info.blob_count,
            "path": f"packs/{pack.path.name}",
        }

    async def _in_bucket(self, plan: Plan) -> Pack:
        try:
            pack = await self._packs.made(plan)
        except RequestRefused as error:
            # Too many packs are in use: that passes.
            raise DependencyDown(error.message, code=error.code, retry_after=error.retry_after or 5) from None
        with self._packs.reading(pack):
            # Also for a pack that was made while the store did not answer.
            pack.locator = await asyncio.to_thread(self._bucket.put_pack, pack.path, pack.info.pack_id, pack.info.size)
        return pack

    async def _prune(self, newest: str, packs: list[dict[str, Any]]) -> None:
        """Snapshots go with those of the folder, but never the one that is named.

        Packs go only when nobody can hold a URL of one, also not from before this process began.
        """
        keep = None
        if time.monotonic() - self._began > self._url_seconds:
            keep = {self._bucket.pack_locator(pack["mpack_id"]) for pack in packs} | self._packs.live_locators

        def kept(id: str) -> bool:
            return id == newest or self._snapshots.manifest(id) is not None

        removed = await asyncio.to_thread(self._bucket.prune, kept=kept, packs=keep)
        if removed:
            get_logger().info("old files removed from the bucket", count=removed)
