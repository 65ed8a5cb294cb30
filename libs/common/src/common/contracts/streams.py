"""The streams: names, subjects and the settings that our guarantees rest on."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

CATALOG = "CATALOG"
WORK = "WORK"
STATUS = "STATUS"
LOG = "LOG"
DEAD = "DEAD"

_DAY = 86_400.0


class StreamSpec(BaseModel):
    """What a stream must be. Ages and windows in seconds, sizes in bytes, -1 is no limit."""

    model_config = ConfigDict(frozen=True)

    name: str
    subjects: tuple[str, ...]
    description: str
    retention: Literal["limits", "workqueue"] = "limits"
    discard: Literal["old", "new"] = "old"
    discard_new_per_subject: bool = False
    max_msgs_per_subject: int = -1
    max_msgs: int = -1
    max_bytes: int = -1
    max_age: float = 0
    duplicate_window: float = 120
    allow_direct: bool = False
    deny_purge: bool = False


STREAMS: tuple[StreamSpec, ...] = (
    StreamSpec(
        name=CATALOG,
        subjects=(
            "pool.defined.*",
            "song.listed.*",
            "playlist.collected.*.*.*",
            "file.stored.*.*.*",
            "song.described.*",
            "song.pinned.*",
            "backend.defined.*",
            "snapshot.published.*",
        ),
        description="Facts: the last message of a subject is the truth about its key.",
        max_msgs_per_subject=1,
        allow_direct=True,
        deny_purge=True,
    ),
    StreamSpec(
        name=WORK,
        subjects=(
            "job.plan.requested.>",
            "pool.collect.requested.>",
            "playlist.sync.requested.>",
            "song.download.requested.>",
            "file.upload.requested.>",
        ),
        description="One message is one item; it is gone when the item has ended.",
        retention="workqueue",
        discard="new",
        discard_new_per_subject=True,
        max_msgs_per_subject=1,
        max_msgs=2_000_000,
    ),
    StreamSpec(
        name=STATUS,
        subjects=("item.>",),
        description="The last transition of each item.",
        max_msgs_per_subject=1,
        max_age=30 * _DAY,
        allow_direct=True,
    ),
    StreamSpec(
        name=LOG,
        subjects=("log.>",),
        description="What people read in the log.",
        max_msgs=200_000,
        max_age=14 * _DAY,
    ),
    StreamSpec(
        name=DEAD,
        subjects=("dead.>",),
        description="What could not be handled, with its reason and itself.",
        max_msgs_per_subject=1,
        max_age=90 * _DAY,
        allow_direct=True,
    ),
)
