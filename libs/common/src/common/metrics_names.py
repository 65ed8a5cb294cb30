"""Every number that the services tell Prometheus: its name, its labels and what it means.

They stand in one place because dashboards, alerts and docs/metrics.md rely on them. Each number
carries the label ``service`` beside those named here. Labels take a few known values (stages, states,
names of sources and backends, codes): never a song, a path or a job.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PREFIX = "music_cloud_"

ALL = ("console", "collector", "downloader", "uploader", "exporter", "origin")
WORKERS = ("collector", "downloader", "uploader")
SERVERS = ("console", "exporter", "origin")

_TRY_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
"""From a tag that is read in place to a large file over a slow line."""
_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
"""Until an answer begins: a page waits for a database, never for a transfer."""

_PACK_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""From a few songs that changed to all of a large library."""


@dataclass(frozen=True, kw_only=True)
class Number:
    """One number. ``services`` are those that tell it."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    help: str
    services: tuple[str, ...]
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


def _gauge(name: str, help: str, services: tuple[str, ...], *labels: str) -> Number:
    return Number(name=PREFIX + name, kind="gauge", help=help, services=services, labels=labels)


def _counter(name: str, help: str, services: tuple[str, ...], *labels: str) -> Number:
    return Number(name=PREFIX + name, kind="counter", help=help, services=services, labels=labels)


def _histogram(name: str, help: str, services: tuple[str, ...], *labels: str, buckets: tuple[float, ...]) -> Number:
    return Number(name=PREFIX + name, kind="histogram", help=help, services=services, labels=labels, buckets=buckets)


BUILD_INFO = _gauge("build_info", "Always 1; the label tells the version.", ALL, "version")
READY = _gauge("ready", "1 when the service can work, as /readyz says.", ALL)
PROBLEM = _gauge("problem", "1 for each reason why the service cannot work now, as /readyz says.", ALL, "code")
BUS_CONNECTED = _gauge("bus_connected", "1 while the connection to the bus stands.", ALL)
BUS_RECONNECTS = _counter("bus_reconnects_total", "Connections to the bus that were made again.", ALL)
DISK_FREE = _gauge(
    "disk_free_bytes",
    "Bytes that a service may still write on the disk of a folder; absent while it hangs.",
    ALL,
    "folder",
)
DISK_SIZE = _gauge("disk_size_bytes", "Size of the disk of a folder.", ALL, "folder")
DISK_RESERVE = _gauge(
    "disk_reserve_bytes",
    "Bytes that are left free (MIN_FREE_SPACE): with less, downloads wait.",
    ("downloader",),
    "folder",
)

ITEM_TRIES = _counter(
    "item_tries_total",
    "Tries of items by how they ended: succeeded, skipped (nothing to do), failed (parked until a person retries it), "
    "retried (again later), held (its source or disk is down; costs no try), interrupted (stopped; taken up again).",
    WORKERS,
    "stage",
    "source",
    "outcome",
)
ITEM_SECONDS = _histogram(
    "item_duration_seconds", "Length of a try, from its start to its answer.", WORKERS, "stage", buckets=_TRY_SECONDS
)
BYTES_MOVED = _counter(
    "moved_bytes_total",
    "Bytes fetched (download) or copied to object storage (upload).",
    ("downloader", "uploader"),
    "stage",
)
ITEMS_IN_HAND = _gauge("items_in_hand", "Items under way in this process.", WORKERS, "stage")
SLOTS = _gauge("work_slots", "Items that this process takes at once.", WORKERS)
LANE_HELD = _gauge(
    "held_seconds",
    "How long the items of a source have waited because it, or a disk, is down; absent when nothing is held.",
    WORKERS,
    "stage",
    "source",
    "code",
)
SOURCE_UP = _gauge("source_up", "1 when a source answered the last look at it, 0 when not.", ("collector",), "source")
OBJECT_STORE_UP = _gauge(
    "object_store_up",
    "1 when the object store answered the last look at it; absent when none is set up.",
    ("uploader",),
)

PROJECTION_LAG = _gauge(
    "projection_lag_messages",
    "Messages of a stream that a database does not hold yet, as the bus last told.",
    ("collector", "exporter", "console"),
    "projection",
)
PROJECTION_SECONDS = _gauge(
    "projection_lag_seconds",
    "How long a database has been behind its stream; 0 when it is level.",
    ("collector", "exporter", "console"),
    "projection",
)

JOBS = _gauge("jobs", "Jobs in the console's database.", ("console",), "state")
ITEMS = _gauge("items", "Items of the jobs that have not ended.", ("console",), "stage", "state")
QUEUE_ITEMS = _gauge(
    "queue_items",
    "Items of running jobs that are in the queue: waiting or under way, not ended.",
    ("console",),
    "stage",
    "source",
)
QUEUE_AGE = _gauge(
    "queue_age_seconds",
    "How long the oldest item of running jobs has been in the queue without having ended; 0 when there is none.",
    ("console",),
    "stage",
    "source",
)
STREAM_MESSAGES = _gauge(
    "stream_messages", "Messages of a stream. Those of DEAD are what could not be handled.", ("console",), "stream"
)
STREAM_BYTES = _gauge("stream_bytes", "Size of a stream on the bus.", ("console",), "stream")

SNAPSHOT_TIME = _gauge("snapshot_timestamp_seconds", "Unix time at which the newest snapshot was made.", ("exporter",))
SNAPSHOT_SIZE = _gauge("snapshot_size_bytes", "Size of the newest snapshot's database.", ("exporter",))
SNAPSHOT_SEQUENCE = _gauge(
    "snapshot_sequence", "Revision of the newest announced snapshot: the last fact that it reflects.", ("exporter",)
)
SNAPSHOT_PENDING = _gauge("snapshot_pending", "1 while the newest announced snapshot lacks a change.", ("exporter",))
SNAPSHOT_ROWS = _gauge("snapshot_rows", "What the newest snapshot holds.", ("exporter",), "kind")
FETCHES = _counter(
    "fetches_total",
    "Questions of mirrors by answer: nothing (they have it), delta, full, waiting (not ready), refused.",
    ("exporter",),
    "answer",
)
PACK_SECONDS = _histogram(
    "pack_duration_seconds",
    "Time that making a pack took; one that is ready already costs none.",
    ("exporter",),
    "kind",
    buckets=_PACK_SECONDS,
)
PACKS_FAILED = _counter("packs_failed_total", "Packs that could not be made.", ("exporter",))
PACK_CACHE_SIZE = _gauge("pack_cache_bytes", "Size of the packs that are ready.", ("exporter",))
PACK_BYTES = _counter("pack_sent_bytes_total", "Bytes of packs that this service sent itself.", ("exporter",))
SNAPSHOT_UPLOAD_TIME = _gauge(
    "snapshot_upload_timestamp_seconds",
    "Unix time at which a snapshot was last put into the bucket; absent before, and where none is set up.",
    ("exporter",),
)
FACTS_KEPT_OUT = _gauge(
    "facts_kept_out",
    "Facts that contradict others and are kept out of the catalog, each with its reason.",
    ("exporter",),
)

HTTP_REQUESTS = _counter("http_requests_total", "Requests answered.", SERVERS, "method", "status")
HTTP_SECONDS = _histogram(
    "http_request_duration_seconds",
    "From a request to the beginning of its answer.",
    SERVERS,
    buckets=_REQUEST_SECONDS,
)
ORIGIN_BYTES = _counter("origin_sent_bytes_total", "Bytes of files that were streamed.", ("origin",))
ORIGIN_STREAMS = _gauge("origin_streams", "Streams that are open now.", ("origin",))
ORIGIN_REFUSED = _counter("origin_refused_tokens_total", "Tokens that were refused, by reason.", ("origin",), "code")

NUMBERS: tuple[Number, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Number))
