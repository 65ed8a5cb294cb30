"""From a changed catalog to an announced snapshot: exported when changes settle, published when complete."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from common.bus import Bus, FactWriter
from common.contracts.envelope import UndecodableMessage
from common.contracts.facts import SnapshotPublished
from common.contracts.status import Reason
from common.contracts.streams import CATALOG
from common.errors import MusicCloudError
from common.telemetry import get_logger
from exporter.adapters.read_database import ReadDatabase
from exporter.adapters.snapshots import SnapshotFolder, folder_name
from exporter.errors import SnapshotError
from exporter.handlers.project import Projector
from exporter.service.manifest import Manifest
from exporter.service.settle import Settling

_RETRY_AFTER = 5.0
"""Seconds after an export or a publication that failed."""
_LOOK_EVERY = 0.25
_PRUNE_EVERY = 3600.0


class Publisher:
    """Keeps the newest snapshot equal to the catalog, and the bus informed of it."""

    def __init__(
        self,
        *,
        bus: Bus,
        writer: FactWriter,
        folder: SnapshotFolder,
        read: ReadDatabase,
        catalog: str,
        settle: Settling,
        projector: Projector,
        stop: asyncio.Event,
        changed: Callable[[], None],
    ) -> None:
        """``changed`` is called when something is to be told at once."""
        self._bus = bus
        self._writer = writer
        self._folder = folder
        self._read = read
        self._catalog = catalog
        self._settle = settle
        self._projector = projector
        self._stop = stop
        self._changed = changed
        self.problem: Reason | None = None
        self.snapshot = folder.current()
        self._looked = False
        # A new database is compared with the last snapshot once, whatever numbers that one bears.
        known = self.snapshot.get("sequence") if self.snapshot and projector.position.sequence else None
        self._reflected = int(known or 0)
        self._seen = self._reflected
        self._published: Manifest | None = None
        self._asked: list[asyncio.Future[Manifest]] = []
        # What an earlier database led to is announced only once this one has been found to agree.
        self._may_announce = projector.position.sequence > 0

    @property
    def pending(self) -> bool:
        """Whether the newest published snapshot lacks a fact that may have changed the catalog."""
        return self._projector.position.content_sequence > self._reflected or self._published != self.snapshot

    @property
    def sequence(self) -> int:
        """The last sequence of CATALOG that the newest published snapshot reflects."""
        if self._published is None:
            return 0
        return self._reflected if self.pending else self._projector.position.sequence

    async def run(self) -> None:
        """Export and publish until told to stop."""
        loop = asyncio.get_running_loop()
        pruned = -_PRUNE_EVERY
        while not self._stop.is_set():
            if not self._projector.trusted:
                await self._pause(_LOOK_EVERY)
                continue
            try:
                if not self._looked:
                    await self._look()
                if self._may_announce:
                    await self._publish()
                content = self._projector.position.content_sequence
                if content > self._seen:
                    self._seen = content
                    self._settle.changed(loop.time())
                if self._projector.caught_up and (self._asked or self._settle.due_in(loop.time()) == 0):
                    await self._export()
                    continue
                if loop.time() - pruned >= _PRUNE_EVERY:
                    # Also where nothing changes snapshots grow old, and files may be lost.
                    pruned = loop.time()
                    await asyncio.to_thread(self._folder.prune)
                    newest = self.snapshot
                    if newest is not None and not await asyncio.to_thread(self._folder.is_sound, newest):
                        self._seen = self._reflected = 0
            except MusicCloudError as error:
                if self.problem != error.reason:
                    get_logger().error("no new snapshot; the last one stays", reason=error.message)
                self.problem = error.reason
                self._answer(error)
                # Whatever was to be exported is so still.
                self._seen = self._reflected
                await self._pause(_RETRY_AFTER)
                continue
            await self._pause(_LOOK_EVERY)

    async def _look(self) -> None:
        """Once a process: is the newest snapshot signed with the keys of today, and does the history end with it?"""
        self.snapshot = await asyncio.to_thread(self._folder.renew)
        newest = self.snapshot or {}
        known = await asyncio.to_thread(self._read.newest)
        if known != (newest.get("lineage"), newest.get("revision")):
            # It was made by another version of this program, or the history was lost.
            self._seen = self._reflected = 0
        self._looked = True

    async def _export(self) -> None:
        self._settle.begun()
        asked = list(self._asked)
        # Who asks for one may have found the newest to be damaged.
        manifest, reflected = await asyncio.to_thread(self._folder.make, self._read, thorough=bool(asked))
        self.snapshot = manifest
        self._may_announce = True
        await self._publish()
        self._reflected = reflected or 0
        self.problem = None
        self._answer(manifest, asked)
        self._changed()

    async def export_now(self, _question: Mapping[str, Any] | None = None) -> Manifest:
        """Export what has changed without waiting for it to settle; return the manifest of the newest snapshot.

        Raises SnapshotError when that is not possible now.
        """
        if not (self._projector.trusted and self._projector.caught_up):
            raise SnapshotError(
                "The catalog has not caught up with the bus yet. Ask again when the exporter is ready.",
                code="catalog-not-caught-up",
            )
        asked: asyncio.Future[Manifest] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        return await asked

    def _answer(self, answer: Manifest | MusicCloudError, asked: list[asyncio.Future[Manifest]] | None = None) -> None:
        """Tell those who asked, all if none are given."""
        for one in list(self._asked) if asked is None else asked:
            self._asked.remove(one)
            if one.done():
                continue
            if isinstance(answer, MusicCloudError):
                one.set_exception(answer)
            else:
                one.set_result(answer)

    async def _publish(self) -> None:
        """Announce the newest snapshot unless the bus knows of it; after a crash that is done at start."""
        manifest = self.snapshot
        if manifest is None or self._published == manifest:
            return
        fact = announcement(manifest, catalog=self._catalog)
        try:
            last = await self._bus.last_message(CATALOG, fact.subject, SnapshotPublished)
        except UndecodableMessage as error:
            raise SnapshotError(
                f"The bus holds an announcement that is not ours ({error}). Remove it: nobody else may write there.",
                code="announcement-foreign",
            ) from None
        if last is None or last.data.removed or last.data.manifest != manifest:
            # The same snapshot is announced again when it was signed with another key.
            signed = manifest.get("signature", {}).get("value")
            cause = f"{fact.snapshot_id} {fact.sequence} {manifest['generated_at']} {manifest.get('lineage')} {signed}"
            await self._writer.publish(fact, cause=cause)
            get_logger().info(
                "snapshot published",
                snapshot=fact.snapshot_id,
                tracks=manifest["track_count"],
                playlists=manifest["playlist_count"],
            )
        self._published = manifest
        self._changed()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)


def announcement(manifest: Manifest, *, catalog: str) -> SnapshotPublished:
    """The fact that says where a snapshot can be had."""
    return SnapshotPublished(
        catalog=catalog,
        snapshot_id=manifest["snapshot_id"],
        parent=manifest["parent"],
        sequence=manifest["sequence"] or 0,
        generated_at=datetime.fromisoformat(manifest["generated_at"]),
        locator=folder_name(manifest),
        manifest=manifest,
    )
