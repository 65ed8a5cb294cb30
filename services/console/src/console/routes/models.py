"""Bodies of requests."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from common.contracts.names import Command, Id, JobType, Token

_Name = Annotated[str, Field(max_length=64)]


class NewJob(BaseModel):
    """A job asked for."""

    model_config = ConfigDict(extra="forbid")

    job_type: JobType
    sources: list[_Name] = Field(default_factory=list, max_length=100, description="empty: all that are set up")
    download_sources: list[_Name] = Field(default_factory=list, max_length=100)
    playlist_scope: list[Id] = Field(default_factory=list, description="ids of playlists; empty: all")
    pool_scope: list[Id] = Field(default_factory=list, description="ids of pools; empty: all")
    priority: int = Field(default=0, ge=-3, le=3, description="higher is served more often")


class NewSchedule(BaseModel):
    """A job that is to run again and again: by a cron expression, or every so many seconds."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=100)]
    job_type: JobType = JobType.FULL
    sources: list[_Name] = Field(default_factory=list, max_length=100)
    download_sources: list[_Name] = Field(default_factory=list, max_length=100)
    pool_scope: list[Id] = Field(default_factory=list, description="ids of pools; empty: all")
    priority: int = Field(default=0, ge=-3, le=3)
    cron: Annotated[str, Field(max_length=100)] | None = Field(
        default=None, description="five fields, in the time zone of the console (TZ)"
    )
    every_seconds: int | None = Field(default=None, ge=60, le=366 * 86_400)
    jitter_seconds: int = Field(default=0, ge=0, le=86_400, description="each run begins up to so much later")


class ScheduleChange(BaseModel):
    """Whether a schedule runs."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool


class NewRevision(BaseModel):
    """A version of the configuration file: the whole text, secrets as they were shown (masked)."""

    model_config = ConfigDict(extra="forbid")

    content_text: Annotated[str, Field(max_length=200_000)]
    note: Annotated[str, Field(max_length=500)] = ""


class NewCommand(BaseModel):
    """A command to a job."""

    model_config = ConfigDict(extra="forbid")

    command_type: Command
    target_item_id: int | None = Field(default=None, ge=1, description="for retry_item and force_retry_item")
    error_code: Token | None = Field(default=None, description="for retry_failed: only what failed for this reason")
    priority: int | None = Field(default=None, ge=-3, le=3, description="for set_priority: higher is served more often")


class NewChoice(BaseModel):
    """What a person decides about one recording of a song."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["pin", "unpin", "ban", "unban"]
    source: Token
    remote_id: Annotated[str, Field(min_length=1, max_length=2000)]


class NewToken(BaseModel):
    """A stream link asked for: of a song, or of a file by its locator."""

    model_config = ConfigDict(extra="forbid")

    song_id: Id | None = None
    locator: str | None = Field(default=None, max_length=4096)
    backend: _Name | None = None
    ttl_seconds: int = Field(default=3600, ge=1, le=30 * 86_400)
