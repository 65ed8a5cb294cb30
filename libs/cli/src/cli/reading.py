"""From what the console says to what a person is told. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from common.contracts.names import ItemState, JobState, Stage

Json = dict[str, Any]


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
        current = worker.get("current_song") or worker.get("current_playlist")
        if current:
            return str(current)
    return ""


def retry_note(waiting: list[Json]) -> str:
    """What is tried again, and why, out of the items that wait; empty where none does."""
    if not waiting:
        return ""
    first = waiting[0]
    more = f" (and {len(waiting) - 1} more)" if len(waiting) > 1 else ""
    return f"waiting to try again: {first['title']}{more}: {first['reason']['message']}"


def stage_counts(job: Json, stage: Stage) -> dict[str, int]:
    """Items of one stage by state; empty where the job has no such stage."""
    for found in job["stages"]:
        if found["stage"] == stage:
            return {str(name): int(count) for name, count in found["counts"].items()}
    return {}
