"""A real collector on a real bus, and what it put onto the streams."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from collector.bootstrap import build
from collector.settings import CollectorSettings
from common.bus.connection import Bus
from common.bus.facts import FactWriter
from common.bus.replay import Replay
from common.catalog.ids import asset_id
from common.contracts.envelope import Message, decode
from common.contracts.facts import AudioFormat, FileStored
from common.contracts.jobs import ActiveJob
from common.contracts.names import BackendKind, JobType, Stage
from common.contracts.status import ItemStatus
from common.contracts.streams import CATALOG, STATUS, WORK
from common.contracts.work import JobPlan, SongDownload
from common.runtime import Runtime
from common.work import Planner
from tests.support.jobs import make_job
from tests.support.nats import NatsServer

M = TypeVar("M", bound=Message)
PATIENCE = 60.0


async def eventually(check: Callable[[], Awaitable[Any]], what: str) -> Any:
    """Wait until ``check`` returns something true."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := await check():
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"it did not happen: {what}")


@dataclass
class Collecting:
    """Drives jobs through a running collector and reads what came out."""

    bus: Bus
    nats: NatsServer
    tmp_path: Path
    jobs: int = 0
    environment: dict[str, Any] = field(default_factory=dict)
    stores: int = 0

    def settings(self) -> CollectorSettings:
        return CollectorSettings(
            root_dir=self.tmp_path / "data",
            nats_url=self.nats.url,
            nats_user="collector",
            nats_password=self.nats.passwords["collector"],
            retry_delay_seconds=0.1,
            max_tries=2,
            **self.environment,
        )

    @asynccontextmanager
    async def running(self, **environment: Any) -> AsyncIterator[Runtime]:
        """A collector with these settings, until the block ends."""
        self.environment.update(environment)
        settings = self.settings()
        bus = await Bus.connect(settings, service="collector", instance="test")
        runtime = Runtime(name="collector", settings=settings, bus=bus, instance="test")
        await build(runtime)
        task = asyncio.create_task(runtime.run())
        try:
            yield runtime
        finally:
            runtime.stop.set()
            await task
            await runtime.close()

    async def job(
        self,
        job_type: JobType = JobType.FULL,
        *,
        stages: tuple[Stage, ...] = (Stage.COLLECT,),
        sources: tuple[str, ...] = ("local",),
        upload_backend: str | None = None,
        **fields: Any,
    ) -> ActiveJob:
        """Start a job with plan items for ``stages`` and wait until the collector has nothing left of it."""
        self.jobs += 1
        job = await make_job(
            self.bus, job_id=self.jobs, job_type=job_type, sources=sources, upload_backend=upload_backend, **fields
        )
        plans = [JobPlan(job_id=job.job_id, stage=stage) for stage in stages]
        await Planner(self.bus).put(plans, cause=f"job {job.job_id}", job_id=job.job_id)
        await self.idle(job)
        return job

    async def idle(self, job: ActiveJob) -> None:
        """Wait until plan, collect and sync have nothing pending or in hand, in that order."""

        async def done() -> bool:
            for lane in job.lanes:
                if lane.stage in (Stage.PLAN, Stage.COLLECT, Stage.SYNC):
                    info = await self.bus.js.consumer_info(WORK, lane.consumer)
                    if info.num_pending or info.num_ack_pending:
                        return False
            return True

        await eventually(done, f"job {job.job_id} is collected")

    async def states(self, job: ActiveJob, stage: Stage) -> dict[str, ItemStatus]:
        """The last state of each item of a stage, by title."""
        found = await self.read(STATUS, ItemStatus, f"item.{job.job_id}.{stage}.>")
        return {status.title: status for status in found}

    async def asked(self, job: ActiveJob) -> list[str]:
        """Remote ids of the songs that wait for a downloader."""
        items = await self.read(STATUS, ItemStatus, f"item.{job.job_id}.download.>")
        return sorted(SongDownload.model_validate(item.request).remote_id for item in items)

    async def read(self, stream: str, model: type[M], filter: str) -> list[M]:
        """Every message of a stream under ``filter``."""
        replay = Replay(self.bus, stream=stream, consumer="test-reader", filter=filter)
        found: list[M] = []
        async for batch in replay.batches(after=0, max_wait=0.05):
            found += [decode(message.data, model).data for message in batch]
            if not batch and replay.pending == 0:
                break
        await self.bus.js.delete_consumer(stream, "test-reader")
        return found

    async def facts(self, model: type[M]) -> list[M]:
        """Every current fact of a type."""
        return await self.read(CATALOG, model, f"{model.TYPE}.>")

    async def last_sequence(self) -> int:
        info = await self.bus.js.stream_info(CATALOG)
        return info.state.last_seq

    async def store(
        self,
        song_id: int,
        *,
        backend: str = "library",
        kind: BackendKind = BackendKind.FILESYSTEM,
        removed: bool = False,
        sha256: str = "a" * 64,
        fingerprint: str | None = None,
    ) -> None:
        """Say, as the downloader does, that a song's file is stored."""
        fact = FileStored(
            backend=backend,
            backend_kind=kind,
            song_id=song_id,
            asset_id=asset_id(song_id, "main"),
            locator=f"x/{song_id}.mp3",
            sha256=sha256,
            size=10,
            format=AudioFormat(ext="mp3", mime="audio/mpeg"),
            listing_fingerprint=fingerprint,
            removed=removed,
        )
        self.stores += 1
        await FactWriter(self.bus).publish(fact, cause=f"test {self.stores}")
