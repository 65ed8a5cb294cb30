"""Where the exporter is put together."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from common.bus import FactWriter, Replay
from common.contracts.streams import CATALOG
from common.runtime import Runtime
from common.telemetry import get_logger
from exporter.adapters.database import DatabaseLock, close_catalog, move_aside, open_catalog
from exporter.adapters.snapshots import SnapshotFolder
from exporter.handlers.project import Projector
from exporter.handlers.publish import Publisher
from exporter.routes import snapshot_app
from exporter.service.projection import Projection
from exporter.service.settle import Settling
from exporter.settings import ExporterSettings

CONSUMER = "exporter"


async def build(runtime: Runtime) -> None:
    """Open the database under its lock and wire projection, export and announcement together."""
    settings = runtime.settings
    assert isinstance(settings, ExporterSettings)
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
        replay=Replay(runtime.bus, stream=CATALOG, consumer=CONSUMER),
        projection=projection,
        thread=thread,
        stop=runtime.stop,
        changed=runtime.changed,
    )
    folder = SnapshotFolder(settings.snapshots, keep=settings.keep_snapshots)
    publisher = Publisher(
        bus=runtime.bus,
        writer=FactWriter(runtime.bus),
        folder=folder,
        database=settings.database,
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
    runtime.add_detail("snapshot_id", lambda: publisher.snapshot["snapshot_id"] if publisher.snapshot else None)
    runtime.add_detail("snapshot_sequence", lambda: publisher.sequence)
    runtime.add_detail("changes_pending", lambda: publisher.pending)
    runtime.add_detail("problems", lambda: projector.problems)
    runtime.serve_http(snapshot_app(folder), host=settings.exporter_host, port=settings.exporter_port)
