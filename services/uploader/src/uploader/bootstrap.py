"""Composition of the uploader."""

from __future__ import annotations

from common.bus.consume import consume
from common.contracts.names import Stage
from common.contracts.streams import CATALOG
from common.runtime import Runtime
from common.storage.folders import backend_folders
from common.storage.objects import object_store
from common.work import WorkLoop
from uploader.adapters.copier import FolderCopier
from uploader.adapters.watch import StoreWatch
from uploader.handlers import PlanHandler, UploadHandler
from uploader.settings import UploaderSettings

DURABLE = "uploader"
"""The one fixed consumer of CATALOG that all copies of the uploader share."""


async def build(runtime: Runtime) -> None:
    """Connect the store, if there is one; take items, and make them."""
    settings = runtime.settings
    assert isinstance(settings, UploaderSettings)
    concurrency = settings.upload_concurrency
    store = object_store(settings, connections=concurrency + 2)
    copier = None
    if store is not None:
        copier = FolderCopier(folders=backend_folders(settings), store=store, threads=concurrency)
        runtime.on_stop(copier.close)
    watch = StoreWatch(store=store, abandon_seconds=settings.upload_abandon_hours * 3600)
    upload = UploadHandler(bus=runtime.bus, copier=copier, backend=settings.object_backend_name)
    plan = PlanHandler(bus=runtime.bus, jobs=runtime.jobs)

    async def plan_uploads() -> None:
        await consume(
            runtime.bus, stream=CATALOG, durable=DURABLE, filter="file.stored.>", handle=plan, stop=runtime.stop
        )

    runtime.add_work(
        WorkLoop(
            bus=runtime.bus,
            jobs=runtime.jobs,
            handlers={Stage.UPLOAD: upload},
            settings=settings,
            concurrency=concurrency,
        )
    )
    runtime.add_task("plan", plan_uploads)
    runtime.add_task("watch", lambda: watch.run(runtime.stop))
    runtime.add_detail("object_store", lambda: watch.state)
