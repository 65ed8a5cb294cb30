"""Composition of the uploader."""

from __future__ import annotations

from typing import Any

from common.audit import Needs, library_place, media_place
from common.bus.consume import consume
from common.contracts.names import Stage
from common.contracts.readers import UPLOADER
from common.metrics_names import OBJECT_STORE_UP
from common.runtime import Runtime
from common.storage.folders import backend_folders
from common.storage.objects import object_store
from common.work import WorkLoop
from uploader.adapters.copier import FolderCopier
from uploader.adapters.watch import StoreWatch
from uploader.handlers import PlanHandler, UploadHandler
from uploader.settings import MAX_CONCURRENCY, UploaderSettings


def needs(settings: UploaderSettings) -> Needs:
    """It reads what it copies, once there is a store to copy to."""
    places = (library_place(settings), media_place(settings)) if settings.object_store_configured else ()
    return Needs(
        reads=tuple(place for place in places if place is not None), settings=(lambda: backend_folders(settings),)
    )


async def build(runtime: Runtime) -> None:
    """Connect the store, if there is one; take items, and make them."""
    settings = runtime.settings
    assert isinstance(settings, UploaderSettings)
    concurrency = settings.upload_concurrency
    store = object_store(settings, connections=MAX_CONCURRENCY + 2)
    copier = None
    if store is not None:
        copier = FolderCopier(folders=backend_folders(settings), store=store, threads=concurrency)
        runtime.on_stop(copier.close)
    watch = StoreWatch(store=store, abandon_seconds=settings.upload_abandon_hours * 3600)
    upload = UploadHandler(bus=runtime.bus, copier=copier, backend=settings.object_backend_name)
    plan = PlanHandler(bus=runtime.bus, jobs=runtime.jobs)

    async def plan_uploads() -> None:
        await consume(runtime.bus, reader=UPLOADER, handle=plan, stop=runtime.stop)

    loop = WorkLoop(
        bus=runtime.bus,
        jobs=runtime.jobs,
        handlers={Stage.UPLOAD: upload},
        settings=settings,
        concurrency=concurrency,
    )

    def resize(concurrency: int) -> None:
        if copier is not None:
            copier.hold(max(concurrency, loop.concurrency))
        loop.resize(concurrency)

    runtime.add_work(loop)
    runtime.on_setting("UPLOAD_CONCURRENCY", resize)
    runtime.add_task("plan", plan_uploads)
    runtime.add_task("watch", lambda: watch.run(runtime.stop))
    runtime.add_detail("object_store", lambda: watch.state)
    runtime.metrics.value(OBJECT_STORE_UP, lambda: _up(watch.state))
    runtime.numbers.folder("library", settings.library)


def _up(state: dict[str, Any]) -> float | None:
    """None before the store was looked at, and where none is set up."""
    return float(state["usable"]) if state["configured"] and state["usable"] is not None else None
