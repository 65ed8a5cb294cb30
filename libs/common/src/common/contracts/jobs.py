"""The job state: one small KV entry that all workers follow and only the console writes."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from .envelope import Message
from .names import Id, ImportMode, JobState, JobType, Stage, Token
from .status import ServerWait

JOBS_BUCKET = "JOBS"
JOBS_KEY = "active"
KEPT_DETAIL = "kept"
"""Where a downloader's heartbeat tells, in its detail, the settings that a job keeps from its beginning on."""
GATE_SECONDS = 3.0
"""A worker begins an item at most so long after it asked for the job state: then it asks again. So nothing of a job
begins later than this after its pause was written, whatever became of the workers meanwhile."""


class Lane(Message):
    """A durable consumer of WORK: one per job, stage and source (or backend)."""

    stage: Stage
    name: Token = Field(description="source or backend; job for plan items")
    consumer: Token
    filter: str
    share: int | None = Field(
        default=None, description="items under way at once, of a source that jobs share; 0: it is not its turn"
    )


class KeptSettings(Message):
    """What decides where and how a job's songs are stored, and so must not change in the middle of it."""

    import_mode: ImportMode
    download_layout: str = Field(max_length=4096)


class ActiveJob(Message):
    """A job that has not ended."""

    job_id: Id
    job_type: JobType
    state: JobState
    stages: tuple[Stage, ...]
    sources: tuple[Token, ...]
    download_sources: tuple[Token, ...] = Field(
        default=(), description="only these give files, in this order; empty: as DOWNLOAD_SOURCES says"
    )
    playlist_scope: tuple[Id, ...] = Field(default=(), description="only these playlists; empty: all")
    pool_scope: tuple[Id, ...] = Field(default=(), description="only these pools; empty: all")
    upload_backend: Token | None = None
    import_mode: ImportMode | None = Field(
        default=None, description="how files of a mounted folder enter the library; none: as IMPORT_MODE says"
    )
    download_layout: str | None = Field(
        default=None, description="where its songs are filed in the library; none: as DOWNLOAD_LAYOUT says"
    )
    priority: int = Field(default=0, description="higher is served more often")
    lanes: tuple[Lane, ...] = ()

    @property
    def takes_items(self) -> bool:
        return self.state is JobState.RUNNING

    def takes(self, stage: Stage, name: str) -> bool:
        """Whether items of one lane may begin."""
        return self.takes_items and all(
            lane.share != 0 for lane in self.lanes if lane.stage is stage and lane.name == name
        )

    def covers(self, playlist_id: int) -> bool:
        """Whether a playlist lies in the scope of this job."""
        return not self.playlist_scope or playlist_id in self.playlist_scope


class JobsState(Message):
    """All jobs that have not ended. ``revision`` grows with every change."""

    TYPE: ClassVar[str] = "jobs.active"

    revision: int = 0
    last_job_id: Id = 0
    jobs: tuple[ActiveJob, ...] = ()
    waits: tuple[ServerWait, ...] = Field(default=(), description="servers that all workers leave alone for now")

    def job(self, job_id: int) -> ActiveJob | None:
        return next((job for job in self.jobs if job.job_id == job_id), None)


def lane(job_id: int, stage: Stage, name: str, *, item_type: str) -> Lane:
    """The consumer that serves ``name`` in one stage of a job."""
    filter = f"{item_type}.{job_id}.>" if stage is Stage.PLAN else f"{item_type}.{job_id}.{name}.>"
    return Lane(stage=stage, name=name, consumer=f"j{job_id}-{stage}-{name}", filter=filter)
