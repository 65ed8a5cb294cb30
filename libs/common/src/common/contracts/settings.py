"""The live settings: one small KV entry that all services follow and only the console writes."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from .envelope import Message

SETTINGS_KEY = "settings"
"""In the bucket of the job state, which every service may read."""

LIVE_SETTINGS = frozenset(
    {
        "COLLECTOR_CONCURRENCY",
        "DOWNLOAD_CONCURRENCY",
        "DOWNLOAD_SOURCES",
        "HISTORY_DAYS",
        "LOG_LEVEL",
        "SOURCE_LIMITS",
        "SOURCE_MAX_IN_FLIGHT",
        "UPLOAD_CONCURRENCY",
    }
)
"""What changes without a restart. No secret may ever stand here."""


class LiveSettings(Message):
    """The live settings as the env file has them. ``revision`` is the number of the applied version."""

    TYPE: ClassVar[str] = "settings.live"

    revision: int = 0
    values: dict[str, str] = Field(
        default_factory=dict, description="live settings by name, as they stand in the env file; missing: the default"
    )
