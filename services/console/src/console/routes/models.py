"""Bodies of requests."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from common.contracts.names import Command, Id, JobType

_Name = Annotated[str, Field(max_length=64)]


class NewJob(BaseModel):
    """A job asked for."""

    model_config = ConfigDict(extra="forbid")

    job_type: JobType
    sources: list[_Name] = Field(default_factory=list, max_length=100, description="empty: all that are set up")
    download_sources: list[_Name] = Field(default_factory=list, max_length=100)
    playlist_scope: list[Id] = Field(default_factory=list, description="ids of playlists; empty: all")
    priority: int = Field(default=0, ge=-3, le=3, description="higher is served more often")


class NewCommand(BaseModel):
    """A command to a job."""

    model_config = ConfigDict(extra="forbid")

    command_type: Command
    target_item_id: int | None = Field(default=None, ge=1, description="for retry_item and force_retry_item")


class NewToken(BaseModel):
    """A stream link asked for: of a song, or of a file by its locator."""

    model_config = ConfigDict(extra="forbid")

    song_id: Id | None = None
    locator: str | None = Field(default=None, max_length=4096)
    backend: _Name | None = None
    ttl_seconds: int = Field(default=3600, ge=1, le=30 * 86_400)
