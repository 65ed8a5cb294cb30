"""What the uploader reads from the environment, beside what all services share."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from common.settings import Settings

MAX_CONCURRENCY = 64


class UploaderSettings(Settings):
    """Settings of the uploader."""

    SERVICE: ClassVar[str] = "uploader"

    upload_concurrency: int = Field(
        default=6, ge=1, le=MAX_CONCURRENCY, description="files that one uploader sends at once"
    )
    upload_abandon_hours: float = Field(
        default=24.0, gt=0, description="uploads in parts that nobody went on with for so long are ended in the store"
    )
