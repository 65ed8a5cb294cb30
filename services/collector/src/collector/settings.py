"""What the collector alone reads from the configuration."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from common.settings import Settings


class CollectorSettings(Settings):
    """Settings of the collector."""

    SERVICE: ClassVar[str] = "collector"

    collector_concurrency: int = Field(default=8, ge=1, le=64, description="playlists read at the same time")
    playlist_shrink_limit: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="a playlist that loses more than this share at once keeps its last good list; 1 accepts any list",
    )
    source_check_seconds: float = Field(default=5.0, gt=0, description="between two looks at the health of the sources")
    record_wait_seconds: float = Field(
        default=10.0, gt=0, description="an item waits so long for the record of what is stored to catch up"
    )
