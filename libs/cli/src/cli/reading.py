"""From what the console says to what a person is told."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from common.contracts.names import ItemState, JobState, Stage

Json = dict[str, Any]

_JOINERS = "\u200c\u200d"
"""Invisible, and part of ordinary writing in Persian, Hindi and emoji."""


@dataclass(frozen=True, kw_only=True)
class StageProgress:
    """One stage: items that ended, of how many known by now. ``final``: no more will come."""

    done: int = 0
    total: int = 0
    failed: int = 0
    final: bool = False


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A job as it is now."""

    stages: dict[str, StageProgress] = field(default_factory=dict)
    bytes_per_second: float = 0.0
    note: str = ""
    """What it is doing, or waiting for."""


def job_state(job: Json) -> JobState:
    """The job's state."""
    return JobState(job["state"])


def picture_of(job: Json, dashboard: Json) -> Picture:
    """The job's bars: stages in their order, speed, and what goes on."""
    stages: dict[str, StageProgress] = {}
    earlier_ended = True
    for stage in job["stages"]:
        if stage["stage"] == Stage.PLAN:
            earlier_ended = JobState(stage["state"]).ended
            continue
        counts = stage["counts"]
        stages[stage["stage"]] = StageProgress(
            done=sum(counts.get(state, 0) for state in ItemState if state.ended),
            total=stage["total"],
            failed=counts.get(ItemState.FAILED, 0),
            final=earlier_ended,
        )
        earlier_ended = earlier_ended and JobState(stage["state"]).ended
    speed = float(dashboard.get("transfer_stats", {}).get("download_speed_bytes_per_sec") or 0)
    return Picture(stages=stages, bytes_per_second=speed, note=note_of(job, dashboard))


def note_of(job: Json, dashboard: Json) -> str:
    """Why nothing moves, or else what is in the hands of the workers."""
    if job["state"] in {JobState.PAUSED, JobState.PAUSE_REQUESTED}:
        return "paused; go on with: music-cloud jobs resume " + str(job["job_id"])
    for hold in dashboard.get("holds", ()):
        if hold.get("job_id") in {None, job["job_id"]}:
            return f"waiting: {hold['reason']['message']}"
    for worker in dashboard.get("workers", ()):
        # Without an object store the uploader idles, and says so: nothing waits for it.
        if worker.get("problems") and worker.get("service") != "uploader":
            return f"waiting: {worker['problems'][0]['message']}"
    for worker in dashboard.get("workers", ()):
        current = worker.get("current_song") or worker.get("current_playlist")
        if current:
            return str(current)
    if reason := job.get("waits_for"):
        return f"waiting: {reason['message']}"
    return ""


def retry_note(waiting: list[Json]) -> str:
    """What is tried again, and why, out of the items that wait; empty where none does."""
    if not waiting:
        return ""
    first = waiting[0]
    more = f" (and {len(waiting) - 1} more)" if len(waiting) > 1 else ""
    return f"waiting to try again{_at(first)}: {first['title']}{more}: {first['reason']['message']}"


def _at(item: Json) -> str:
    """The time of day of the item's next try, here; empty where it is not known."""
    try:
        next_try = datetime.fromisoformat(item["next_try_at"])
    except (KeyError, TypeError, ValueError):
        return ""
    return f" at {next_try.astimezone():%H:%M:%S}"


def remarks_of(playlists: Iterable[Json]) -> list[tuple[str, str]]:
    """What was left out of playlists that were read, or kept although their source lost it: (title, sentence)."""
    found = []
    for item in playlists:
        result = item.get("result") or {}
        sentences = [str(problem) for problem in result.get("problems") or ()]
        if reason := (item.get("reason") or {}).get("message"):
            sentences.insert(0, str(reason))
        found += [(str(item["title"]), sentence) for sentence in dict.fromkeys(sentences)]
    return found


def program() -> str:
    """What a person types here to call this command."""
    return "music-cloud" if shutil.which("music-cloud") else os.path.relpath(sys.argv[0])


def visible(text: str) -> str:
    """Text from outside on one line, with what a terminal would obey (escapes, bidi marks) spelled out."""
    return "".join(
        char if char.isprintable() or char in _JOINERS else char.encode("unicode_escape", "replace").decode()
        for char in text
    )


def local_time(stamp: str) -> str:
    """A time of the console as a person here reads it."""
    return f"{datetime.fromisoformat(stamp).astimezone():%Y-%m-%d %H:%M:%S}"


def stage_counts(job: Json, stage: Stage) -> dict[str, int]:
    """Items of one stage by state; empty where the job has no such stage."""
    for found in job["stages"]:
        if found["stage"] == stage:
            return {str(name): int(count) for name, count in found["counts"].items()}
    return {}
