"""Where the exporter is put together."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from common.audit import Needs, Port, snapshots_place, state_place
from common.bus import FactWriter, Replay
from common.contracts.readers import EXPORTER
from common.errors import ConfigurationError
from common.metrics import Sample
from common.metrics_names import (
    FACTS_KEPT_OUT,
    SNAPSHOT_PENDING,
    SNAPSHOT_ROWS,
    SNAPSHOT_SEQUENCE,
    SNAPSHOT_SIZE,
    SNAPSHOT_TIME,
)
from common.runtime import Runtime
from common.telemetry import get_logger
from exporter.adapters.database import DatabaseLock, close_catalog, move_aside, newer_catalog, open_catalog
from exporter.adapters.read_database import ReadDatabase, name_catalog
from exporter.adapters.snapshots import SnapshotFolder
from exporter.handlers.project import Projector
from exporter.handlers.publish import Publisher
from exporter.service.manifest import Manifest, Signing
from exporter.service.projection import Projection
from exporter.service.settle import Settling
from exporter.serving import serve_catalog
from exporter.settings import ExporterSettings
from mirror.errors import KeyFormatError
from mirror.format.keys import SigningKey


def needs(settings: ExporterSettings) -> Needs:
    """The catalog and the snapshots are its own; nobody else writes there."""
    state = state_place(settings)
    return Needs(
        writes=(state, snapshots_place(settings)),
        databases=((state, settings.database),),
        owned=(("exporter", settings.database),),
        ports=(Port(setting="EXPORTER_PORT", host=settings.exporter_host, number=settings.exporter_port),),
        # A rebuild puts it aside, whatever made it.
        more=() if settings.exporter_rebuild else (lambda: newer_catalog(settings.database),),
        settings=(lambda: _keys(settings), lambda: settings.catalog_tokens),
    )


async def build(runtime: Runtime) -> None:
    """Open the database under its lock and wire projection, export and announcement together."""
    settings = runtime.settings
    assert isinstance(settings, ExporterSettings)
    # Large sorts do not fit into the small /tmp of a container.
    os.environ.setdefault("SQLITE_TMPDIR", str(settings.state))
    lock = DatabaseLock(settings.database)
    runtime.on_stop(lock.release)
    if settings.exporter_rebuild and (aside := move_aside(settings.database)):
        get_logger().info("rebuilding the catalog; the old database is kept beside it", name=aside.name)
    thread = ThreadPoolExecutor(1, thread_name_prefix="catalog")
    loop = asyncio.get_running_loop()
    connection = await loop.run_in_executor(thread, open_catalog, settings.database)

    async def close() -> None:
        await loop.run_in_executor(thread, close_catalog, connection)
        thread.shutdown(wait=False)

    runtime.on_stop(close)
    projection = await loop.run_in_executor(thread, lambda: Projection(connection, library_root=str(settings.library)))
    projector = Projector(
        bus=runtime.bus,
        replay=Replay.of(runtime.bus, EXPORTER),
        projection=projection,
        thread=thread,
        stop=runtime.stop,
        changed=runtime.changed,
    )
    await loop.run_in_executor(thread, name_catalog, connection)
    read = ReadDatabase(folder=settings.state / "read", catalog=settings.database)
    signing = _signing(settings)
    folder = SnapshotFolder(
        settings.snapshots, keep=settings.keep_snapshots, keep_days=settings.keep_snapshots_days, signing=signing
    )
    publisher = Publisher(
        bus=runtime.bus,
        writer=FactWriter(runtime.bus),
        folder=folder,
        read=read,
        catalog=settings.catalog_name,
        settle=Settling(settle=settings.export_settle_seconds, interval=settings.export_max_interval_seconds),
        projector=projector,
        stop=runtime.stop,
        changed=runtime.changed,
    )
    runtime.add_task("project", projector.run)
    runtime.add_task("publish", publisher.run)
    runtime.add_check("projection", lambda: projector.problem)
    runtime.add_check("snapshot", lambda: publisher.problem)
    runtime.add_detail("projected_sequence", lambda: projector.position.sequence)
    runtime.add_detail("lag", lambda: projector.lag)
    runtime.add_detail("loading", lambda: projector.loading)
    runtime.add_detail("snapshot_id", lambda: publisher.snapshot["snapshot_id"] if publisher.snapshot else None)
    runtime.add_detail("snapshot_sequence", lambda: publisher.sequence)
    runtime.add_detail("changes_pending", lambda: publisher.pending)
    runtime.add_detail("problems", lambda: projector.problems)
    runtime.add_detail("signing_key", lambda: signing.key.key_id if signing else None)

    runtime.questions.add("export", publisher.export_now)
    serve_catalog(runtime, settings, snapshots=folder, history=read.lineage)
    runtime.numbers.projection("catalog", lambda: projector.lag)
    runtime.numbers.folder("state", settings.state)
    runtime.numbers.folder("snapshots", settings.snapshots)
    _tell_snapshot(runtime, projector, publisher)


def _keys(settings: ExporterSettings) -> list[SigningKey | None]:
    """What signs now, and what will sign next. Raises ConfigurationError when one cannot be read."""
    keys: list[SigningKey | None] = []
    for name, secret in (
        ("SNAPSHOT_SIGNING_KEY", settings.snapshot_signing_key),
        ("SNAPSHOT_NEXT_SIGNING_KEY", settings.snapshot_next_signing_key),
    ):
        try:
            keys.append(SigningKey.from_text(secret.get_secret_value()) if secret else None)
        except KeyFormatError as error:
            raise ConfigurationError(f"{name} cannot be used: {error.message}", code=error.code) from None
    return keys


def _signing(settings: ExporterSettings) -> Signing | None:
    key, next_key = _keys(settings)
    if key is None:
        get_logger().warning("snapshots are not signed, and mirrors refuse them; `music-cloud init` makes a key")
        return None
    return Signing(key=key, next_key=next_key, catalog=f"{settings.catalog_owner}/{settings.catalog_slug}")


def _tell_snapshot(runtime: Runtime, projector: Projector, publisher: Publisher) -> None:
    """The numbers of the newest snapshot; absent before there is one."""
    metrics = runtime.metrics

    def rows() -> Iterator[Sample]:
        snapshot = publisher.snapshot or {}
        for kind in ("playlists", "tracks", "files"):
            if (count := snapshot.get(f"{kind[:-1]}_count")) is not None:
                yield (kind,), float(count)

    metrics.value(SNAPSHOT_TIME, lambda: _made_at(publisher.snapshot))
    metrics.value(SNAPSHOT_SIZE, lambda: float(publisher.snapshot["file"]["size"]) if publisher.snapshot else None)
    metrics.value(SNAPSHOT_SEQUENCE, lambda: float(publisher.sequence))
    metrics.value(SNAPSHOT_PENDING, lambda: float(publisher.pending))
    metrics.told(SNAPSHOT_ROWS, rows)
    metrics.value(FACTS_KEPT_OUT, lambda: float(projector.problems))


def _made_at(snapshot: Manifest | None) -> float | None:
    return datetime.fromisoformat(snapshot["generated_at"]).timestamp() if snapshot else None
