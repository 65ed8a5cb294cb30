"""From what a person asked for to a job that can be made: its stages, sources and lanes. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from common.contracts.jobs import ActiveJob, KeptSettings, Lane, lane
from common.contracts.names import JobState, JobType, Stage
from common.contracts.work import ITEM_OF_STAGE
from console.errors import InvalidRequest, Refused
from console.ports import JobDraft

MAX_SCOPE = 1000
"""The job state is one small entry that all workers read; a scope must fit into it."""

NO_OBJECT_STORE = (
    "No object store is set up, so nothing is uploaded. Set OBJECT_BUCKET, OBJECT_ACCESS_KEY and OBJECT_SECRET_KEY "
    "to change that."
)


def draft_job(
    *,
    job_type: JobType,
    sources: Sequence[str],
    download_sources: Sequence[str],
    playlist_scope: Sequence[int],
    pool_scope: Sequence[int] = (),
    priority: int,
    known_sources: Sequence[str],
    upload_backend: str | None,
) -> JobDraft:
    """The job that these wishes make. Empty ``sources`` are all known ones.

    Raises :class:`InvalidRequest` for an unknown source, :class:`Refused` for uploads without an object store.
    """
    for name in (*sources, *download_sources):
        if name not in known_sources:
            known = ", ".join(known_sources) or "none; set SOURCES"
            raise InvalidRequest(f"There is no source {name[:80]!r}. Known sources: {known}.", code="unknown-source")
    if max(len(playlist_scope), len(pool_scope)) > MAX_SCOPE:
        raise InvalidRequest(f"A job takes at most {MAX_SCOPE} single playlists or pools.", code="scope-too-large")
    stages = job_type.stages
    notes: tuple[str, ...] = ()
    if Stage.UPLOAD in stages and upload_backend is None:
        if job_type is JobType.UPLOAD_ONLY:
            raise Refused(NO_OBJECT_STORE, code="no-object-store")
        stages = tuple(stage for stage in stages if stage is not Stage.UPLOAD)
        notes = (NO_OBJECT_STORE,)
    chosen = tuple(dict.fromkeys(sources)) or tuple(known_sources)
    if not chosen and stages != (Stage.UPLOAD,):
        raise InvalidRequest("No source is set up. Name one in SOURCES.", code="no-source")
    return JobDraft(
        job_type=job_type,
        stages=stages,
        sources=chosen,
        download_sources=tuple(dict.fromkeys(download_sources)),
        playlist_scope=tuple(dict.fromkeys(playlist_scope)),
        pool_scope=tuple(dict.fromkeys(pool_scope)),
        priority=priority,
        upload_backend=upload_backend if Stage.UPLOAD in stages else None,
        notes=notes,
    )


def lanes_of(job_id: int, draft: JobDraft) -> tuple[Lane, ...]:
    """The consumers that serve a job, in the order in which work flows through them."""
    lanes = [_lane(job_id, Stage.PLAN, "job")]
    for stage in draft.stages:
        if stage is Stage.UPLOAD:
            lanes += [_lane(job_id, stage, draft.upload_backend)] if draft.upload_backend else []
        else:
            lanes += [_lane(job_id, stage, source) for source in draft.sources]
    return tuple(lanes)


def planned_stages(draft: JobDraft) -> tuple[Stage, ...]:
    """The stages that get a plan item: a full job syncs what it collects, and needs no plan for that."""
    if draft.job_type is JobType.FULL:
        return tuple(stage for stage in draft.stages if stage is not Stage.SYNC)
    return draft.stages


def active_job(job_id: int, state: JobState, draft: JobDraft) -> ActiveJob:
    """The job as workers see it."""
    return ActiveJob(
        job_id=job_id,
        job_type=draft.job_type,
        state=state,
        stages=draft.stages,
        sources=draft.sources,
        download_sources=draft.download_sources,
        playlist_scope=draft.playlist_scope,
        pool_scope=draft.pool_scope,
        upload_backend=draft.upload_backend,
        import_mode=draft.kept.import_mode if draft.kept else None,
        download_layout=draft.kept.download_layout if draft.kept else None,
        priority=draft.priority,
        lanes=lanes_of(job_id, draft),
    )


def draft_of(job: ActiveJob) -> JobDraft:
    """The draft of a job that is known from the bus alone."""
    kept = None
    if job.import_mode is not None and job.download_layout is not None:
        kept = KeptSettings(import_mode=job.import_mode, download_layout=job.download_layout)
    return JobDraft(
        job_type=job.job_type,
        stages=job.stages,
        sources=job.sources,
        download_sources=job.download_sources,
        playlist_scope=job.playlist_scope,
        pool_scope=job.pool_scope,
        priority=job.priority,
        upload_backend=job.upload_backend,
        kept=kept,
    )


def _lane(job_id: int, stage: Stage, name: str) -> Lane:
    return lane(job_id, stage, name, item_type=ITEM_OF_STAGE[stage].TYPE)
