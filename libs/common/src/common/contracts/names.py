"""The closed vocabularies of the system: stages, states, commands, kinds."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

Token = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,64}$")]
"""A name that may stand in a subject: never remote text."""

Id = Annotated[int, Field(ge=0, le=2**53 - 1)]


class Stage(StrEnum):
    """The kinds of work. ``plan`` is the first item of a job; it puts the others into WORK."""

    PLAN = "plan"
    COLLECT = "collect"
    SYNC = "sync"
    DOWNLOAD = "download"
    UPLOAD = "upload"


class JobType(StrEnum):
    COLLECT_ONLY = "collect_only"
    SYNC_ONLY = "sync_only"
    DOWNLOAD_ONLY = "download_only"
    UPLOAD_ONLY = "upload_only"
    FULL = "full"

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of a job of this type, in order."""
        return _STAGES[self]


_STAGES = {
    JobType.COLLECT_ONLY: (Stage.COLLECT,),
    JobType.SYNC_ONLY: (Stage.SYNC,),
    JobType.DOWNLOAD_ONLY: (Stage.DOWNLOAD,),
    JobType.UPLOAD_ONLY: (Stage.UPLOAD,),
    JobType.FULL: (Stage.COLLECT, Stage.SYNC, Stage.DOWNLOAD, Stage.UPLOAD),
}


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSE_REQUESTED = "pause_requested"
    PAUSED = "paused"
    COMPLETED = "completed"
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def ended(self) -> bool:
        return self in _ENDED_JOBS


_ENDED_JOBS = {JobState.COMPLETED, JobState.COMPLETED_WITH_ERRORS, JobState.FAILED, JobState.CANCELED}


class ItemState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    SKIPPED = "skipped"
    CANCELED = "canceled"

    @property
    def ended(self) -> bool:
        return self in _ENDED_ITEMS


_ENDED_ITEMS = {ItemState.SUCCEEDED, ItemState.FAILED, ItemState.SKIPPED, ItemState.CANCELED}


class Command(StrEnum):
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    RETRY_ITEM = "retry_item"
    FORCE_RETRY_ITEM = "force_retry_item"
    RETRY_FAILED = "retry_failed"
    SET_PRIORITY = "set_priority"


class ImportMode(StrEnum):
    """How a file of a mounted folder enters the library."""

    REFERENCE = "reference"
    HARDLINK = "hardlink"
    REFLINK = "reflink"
    COPY = "copy"


class BackendKind(StrEnum):
    FILESYSTEM = "filesystem"
    OBJECT_STORAGE = "object_storage"


MAIN_VARIANT = "main"
"""The variant of a song's file unless several are kept side by side."""
UNKNOWN_SHA256 = "0" * 64
"""In place of the digest of a file that was adopted by its size; whoever reads the file next finds the real one."""
LIBRARY_BACKEND = "library"
"""The file system backend that the downloader writes."""
