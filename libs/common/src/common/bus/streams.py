"""Making the streams, and waiting until they are there. Only the console makes them."""

from __future__ import annotations

import asyncio

import nats.errors
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError

from common.bus.connection import Bus
from common.contracts.jobs import JOBS_BUCKET
from common.contracts.streams import STREAMS, StreamSpec
from common.errors import BusUnavailable, ConfigurationError

JOBS_STREAM = f"KV_{JOBS_BUCKET}"
_NO_CLUSTER = 10074
"""The server's code for several replicas where there is one server."""

_JOBS = StreamSpec(
    name=JOBS_STREAM,
    subjects=(f"$KV.{JOBS_BUCKET}.>",),
    description="The job state: one entry that all workers follow.",
    discard="new",
    max_msgs_per_subject=1,
    allow_direct=True,
)


async def ensure_streams(bus: Bus, *, replicas: int | None = None) -> None:
    """Create the streams that are missing and bring the settings of the others up to date.

    ``replicas``: copies of each stream; its consumers have as many. None leaves a stream as many as it has.
    Raises ConfigurationError when the server cannot keep so many.
    """
    for spec in (*STREAMS, _JOBS):
        try:
            await _ensure(bus, spec, replicas)
        except APIError as error:
            if error.err_code != _NO_CLUSTER:
                raise
            raise _no_cluster(replicas) from None


async def _ensure(bus: Bus, spec: StreamSpec, replicas: int | None) -> None:
    try:
        info = await bus.js.stream_info(spec.name)
    except NotFoundError:
        await bus.js.add_stream(_config(spec, replicas or 1))
        return
    config = _config(spec, replicas or info.config.num_replicas or 1)
    if _differs(info.config, config):
        if info.cluster is None and config.num_replicas != 1:
            raise _no_cluster(replicas)  # 2.9.10 would take it, and keep one copy
        await bus.js.update_stream(config)


def _no_cluster(replicas: int | None) -> ConfigurationError:
    return ConfigurationError(
        f"NATS_REPLICAS is {replicas}, but the nats-server of NATS_URL is no member of a cluster. Set "
        "NATS_REPLICAS=1, or make a cluster of three servers (docs/cluster.md).",
        code="no-cluster",
    )


async def wait_for_streams(bus: Bus, stop: asyncio.Event) -> bool:
    """Wait until every stream exists; False when ``stop`` came first."""
    missing = {spec.name for spec in (*STREAMS, _JOBS)}
    while not stop.is_set():
        for name in tuple(missing):
            try:
                await bus.js.stream_info(name)
            except (nats.errors.Error, TimeoutError):
                if bus.nc.is_closed:
                    raise BusUnavailable("the connection to the bus was closed") from None
                break  # not made yet, or JetStream is still coming up
            missing.discard(name)
        if not missing:
            return True
        try:
            await asyncio.wait_for(stop.wait(), 0.25)
        except TimeoutError:
            continue
    return False


def _config(spec: StreamSpec, replicas: int) -> StreamConfig:
    return StreamConfig(
        name=spec.name,
        subjects=list(spec.subjects),
        description=spec.description,
        retention=RetentionPolicy.WORK_QUEUE if spec.retention == "workqueue" else RetentionPolicy.LIMITS,
        discard=DiscardPolicy.NEW if spec.discard == "new" else DiscardPolicy.OLD,
        discard_new_per_subject=spec.discard_new_per_subject,
        max_msgs_per_subject=spec.max_msgs_per_subject,
        max_msgs=spec.max_msgs,
        max_bytes=spec.max_bytes,
        max_age=spec.max_age,
        duplicate_window=spec.duplicate_window,
        allow_direct=spec.allow_direct,
        deny_purge=spec.deny_purge,
        # KV clients of other languages expect these two on a bucket.
        allow_rollup_hdrs=spec.name == JOBS_STREAM,
        deny_delete=spec.name == JOBS_STREAM,
        storage=StorageType.FILE,
        num_replicas=replicas,
    )


_COMPARED = (
    "subjects",
    "description",
    "discard_new_per_subject",
    "max_msgs_per_subject",
    "max_msgs",
    "max_bytes",
    "max_age",
    "duplicate_window",
    "allow_direct",
    "num_replicas",
)


def _differs(current: StreamConfig, wanted: StreamConfig) -> bool:
    return any((getattr(current, key) or 0) != (getattr(wanted, key) or 0) for key in _COMPARED)
