"""Where the side that mirrors see is put together: the fetch protocol, packs, and their copies in a bucket."""

from __future__ import annotations

from common.errors import ConfigurationError
from common.metrics_names import (
    FETCHES,
    PACK_BYTES,
    PACK_CACHE_SIZE,
    PACK_SECONDS,
    PACKS_FAILED,
    SNAPSHOT_UPLOAD_TIME,
)
from common.runtime import Runtime
from common.storage.objects import object_store
from exporter.adapters.bucket import Bucket
from exporter.adapters.lineage import Lineage
from exporter.adapters.pack_cache import PackCache
from exporter.adapters.snapshots import SnapshotFolder
from exporter.handlers.publish_objects import BucketPublisher
from exporter.routes import create_app
from exporter.routes.fetch import FetchRoutes
from exporter.routes.gate import Gate
from exporter.service.fetch import Plan
from exporter.service.links import PackLinks
from exporter.settings import ExporterSettings


def serve_catalog(runtime: Runtime, settings: ExporterSettings, *, snapshots: SnapshotFolder, history: Lineage) -> None:
    """Serve the catalog, and keep its bucket. Raises ConfigurationError."""
    gate = Gate(owner=settings.catalog_owner, slug=settings.catalog_slug, tokens=settings.catalog_tokens)
    bucket = _bucket(settings)
    metrics = runtime.metrics
    fetches, seconds = metrics.counter(FETCHES), metrics.histogram(PACK_SECONDS)
    failed, sent = metrics.counter(PACKS_FAILED), metrics.counter(PACK_BYTES)
    failed.add(0)
    sent.add(0)

    def built(plan: Plan, took: float | None) -> None:
        if took is None:
            failed.add()
        else:
            seconds.add(took, plan.way)

    packs = PackCache(
        folder=settings.state / "packs",
        snapshots=snapshots,
        history=history,
        max_bytes=settings.pack_cache_size,
        max_count=settings.pack_cache_count,
        url_seconds=settings.pack_url_seconds,
        bucket=bucket,
        built=built,
    )
    fetch = FetchRoutes(
        gate=gate,
        packs=packs,
        snapshots=snapshots,
        history=history,
        links=PackLinks(seconds=settings.pack_url_seconds),
        public_url=settings.exporter_public_url,
        bucket=bucket,
        answered=lambda how: fetches.add(1, how),
        sent=sent.add,
    )
    metrics.value(PACK_CACHE_SIZE, lambda: float(packs.size))
    publisher = None
    if bucket is not None:
        runtime.on_stop(bucket.close)
        publisher = BucketPublisher(
            bucket=bucket,
            packs=packs,
            snapshots=snapshots,
            history=history,
            every=settings.snapshot_upload_seconds,
            url_seconds=settings.pack_url_seconds,
            stop=runtime.stop,
            changed=runtime.changed,
        )
        runtime.add_task("publish-objects", publisher.run)
        runtime.add_detail("bucket", lambda: publisher.state)
    metrics.value(SNAPSHOT_UPLOAD_TIME, lambda: publisher.published_at if publisher else None)
    runtime.on_stop(packs.close)
    runtime.on_stop(fetch.close)
    app = create_app(folder=snapshots, gate=gate, fetch=fetch)
    runtime.serve_http(app, host=settings.exporter_host, port=settings.exporter_port)


def _bucket(settings: ExporterSettings) -> Bucket | None:
    if not settings.snapshot_bucket:
        return None
    if settings.snapshot_public_base_url and settings.catalog_visibility == "private":
        raise ConfigurationError(
            "A private catalog cannot lie in a bucket that the public reads. Empty SNAPSHOT_PUBLIC_BASE_URL: "
            "mirrors then get presigned URLs.",
            code="private-bucket-public",
        )

    store, links = (
        object_store(settings, bucket=settings.snapshot_bucket, prefix=settings.snapshot_prefix, endpoint=endpoint)
        for endpoint in (None, settings.snapshot_public_endpoint)
    )
    if store is None or links is None:
        raise ConfigurationError(
            "SNAPSHOT_BUCKET needs OBJECT_ACCESS_KEY and OBJECT_SECRET_KEY, and OBJECT_ENDPOINT unless it is at AWS.",
            code="object-store-not-configured",
        )
    return Bucket(
        store=store,
        links=links,
        folder=f"{settings.catalog_owner}/{settings.catalog_slug}",
        public_base_url=settings.snapshot_public_base_url,
        url_seconds=settings.pack_url_seconds,
    )
