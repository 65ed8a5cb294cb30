"""Jobs as the console makes them, for tests of a stage without a console."""

from __future__ import annotations

import secrets

from nats.js.api import AckPolicy, ConsumerConfig

from common.bus.connection import Bus
from common.bus.jobs import JOBS_SUBJECT
from common.bus.streams import JOBS_STREAM
from common.contracts.jobs import ActiveJob, JobsState, KeptSettings, lane
from common.contracts.names import JobState, JobType, Stage
from common.contracts.streams import WORK
from common.contracts.work import ITEM_OF_STAGE


async def make_job(
    bus: Bus,
    *,
    job_id: int = 1,
    job_type: JobType = JobType.FULL,
    sources: tuple[str, ...] = ("local",),
    upload_backend: str | None = None,
    ack_wait: float = 3.0,
    max_ack_pending: int = 256,
    state: JobState = JobState.RUNNING,
    playlist_scope: tuple[int, ...] = (),
    pool_scope: tuple[int, ...] = (),
    download_sources: tuple[str, ...] = (),
    kept: KeptSettings | None = None,
) -> ActiveJob:
    """Create the lanes of a job and enter it into the job state."""
    lanes = [lane(job_id, Stage.PLAN, "job", item_type=ITEM_OF_STAGE[Stage.PLAN].TYPE)]
    for stage in job_type.stages:
        if stage is Stage.UPLOAD:
            if upload_backend:
                lanes.append(lane(job_id, stage, upload_backend, item_type=ITEM_OF_STAGE[stage].TYPE))
            continue
        lanes += [lane(job_id, stage, source, item_type=ITEM_OF_STAGE[stage].TYPE) for source in sources]
    for one in lanes:
        await bus.js.add_consumer(
            WORK,
            ConsumerConfig(
                durable_name=one.consumer,
                filter_subject=one.filter,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=ack_wait,
                max_deliver=-1,
                max_ack_pending=max_ack_pending,
            ),
        )
    stages = tuple(stage for stage in job_type.stages if stage is not Stage.UPLOAD or upload_backend)
    job = ActiveJob(
        job_id=job_id,
        job_type=job_type,
        state=state,
        stages=stages,
        sources=sources,
        upload_backend=upload_backend,
        lanes=tuple(lanes),
        playlist_scope=playlist_scope,
        pool_scope=pool_scope,
        download_sources=download_sources,
        import_mode=kept.import_mode if kept else None,
        download_layout=kept.download_layout if kept else None,
    )
    current = await read_jobs(bus)
    await write_jobs(bus, [*(other for other in current.jobs if other.job_id != job_id), job])
    return job


async def read_jobs(bus: Bus) -> JobsState:
    """The job state as the bus holds it."""
    envelope = await bus.last_message(JOBS_STREAM, JOBS_SUBJECT, JobsState)
    return envelope.data if envelope else JobsState()


async def write_jobs(bus: Bus, jobs: list[ActiveJob]) -> JobsState:
    """Replace the active jobs, as a next revision."""
    current = await read_jobs(bus)
    last = max([current.last_job_id, *(job.job_id for job in jobs)])
    state = JobsState(revision=current.revision + 1, last_job_id=last, jobs=tuple(jobs))
    await bus.publish(JOBS_SUBJECT, state, msg_id=secrets.token_hex(8))
    return state


async def set_state(bus: Bus, job_id: int, state: JobState) -> JobsState:
    """Set one job's state."""
    current = await read_jobs(bus)
    return await write_jobs(
        bus, [job.model_copy(update={"state": state}) if job.job_id == job_id else job for job in current.jobs]
    )
