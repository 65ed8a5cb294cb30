"""What people and programs are shown: jobs, items and workers as plain JSON values. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from common.contracts.names import ItemState, JobState, Stage
from common.contracts.status import CurrentItem, Reason, ServerWait
from console.ports import Counts, Item, Job
from console.service.findings import findings_view
from console.service.fleet import Fleet, Member, current, status_of

_MAX_ITEMS_SHOWN = 64


def job_view(
    job: Job, counts: Counts, waits_for: Reason | None = None, standing: Mapping[Stage, Reason] | None = None
) -> dict[str, Any]:
    """A job with its stages, and how many items stand where.

    ``waits_for``: why it does not move; ``standing``: the same of single stages.
    """
    reasons = standing or {}
    stages = [_stage_view(job, stage, counts.get(stage, {}), reasons.get(stage)) for stage in job.stage_states]
    work = [stage for stage in stages if stage["stage"] != Stage.PLAN]
    totals = {state.value: sum(stage["counts"][state.value] for stage in work) for state in ItemState}
    return {
        "job_id": job.job_id,
        "job_type": job.job_type.value,
        "state": job.state.value,
        "status": job.state.value,
        "sources": list(job.draft.sources),
        "download_sources": list(job.draft.download_sources),
        "playlist_scope": list(job.draft.playlist_scope),
        "pool_scope": list(job.draft.pool_scope),
        "priority": job.draft.priority,
        "waits_for": waits_for.model_dump() if waits_for else None,
        "notes": list(job.draft.notes),
        "created_at": _time(job.created_at),
        "started_at": _time(job.started_at),
        "ended_at": _time(job.ended_at),
        "stages": stages,
        "totals": totals,
        "total": sum(totals.values()),
    }


def item_view(
    item: Item,
    live: dict[str, CurrentItem] | None = None,
    *,
    waits_for: Reason | None = None,
    state: ItemState | None = None,
) -> dict[str, Any]:
    """An item; what a worker tells of it now where one has it in hand, else why it does not move.

    ``state``: the one to be shown, where more is known than STATUS tells.
    """
    status = item.status
    state = state or status.state
    now = (live or {}).get(item.subject)
    return {
        "id": item.item_id,
        "job_id": status.job_id,
        "stage": status.stage.value,
        "lane": status.lane,
        "key": status.key,
        "title": status.title,
        "state": state.value,
        "status": state.value,
        "waits_for": waits_for.model_dump() if waits_for else None,
        "tries": status.tries,
        "max_tries": status.max_tries,
        "worker": status.worker,
        "reason": status.reason.model_dump() if status.reason else None,
        "next_try_at": _time(status.next_try_at),
        "queued_at": _time(status.queued_at),
        "started_at": _time(status.started_at),
        "ended_at": _time(status.ended_at),
        "result": status.result,
        "progress": {"done": now.done, "total": now.total, "note": now.note, "speed": now.speed} if now else None,
    }


def worker_view(member: Member, at: float) -> dict[str, Any]:
    """A process and what it has in hand."""
    beat = member.beat
    song, playlist = current(member)
    live = member.live(at)
    return {
        "worker_name": member.name,
        "service": beat.service,
        "instance": beat.instance,
        "status": status_of(member, at),
        "last_seen_seconds": round(max(0.0, at - member.seen)),
        "concurrency": beat.concurrency,
        "settings_revision": beat.settings_revision,
        "current_song": song if live else None,
        "current_playlist": playlist if live else None,
        "speed_bytes_per_sec": round(member.speed(at)),
        "problems": [reason.model_dump() for reason in beat.problems] if live else [],
        "items": [_current_view(item) for item in beat.items[:_MAX_ITEMS_SHOWN]] if live else [],
    }


def live_items(fleet: Fleet, at: float) -> dict[str, CurrentItem]:
    """The items in the hands of live workers, by the subject of their status."""
    return {
        f"item.{item.job_id}.{item.stage}.{item.lane}.{item.key}": item
        for member in fleet.members(at)
        if member.live(at)
        for item in member.beat.items
    }


def dashboard(
    *,
    jobs: Sequence[dict[str, Any]],
    failures: Iterable[Item],
    downloaded: int,
    fleet: Fleet,
    at: float,
    waits: Sequence[ServerWait],
    status_lag: int,
    upload_configured: bool,
    include_items: bool,
) -> dict[str, Any]:
    """Everything that the first page shows. ``jobs`` are views; ``at``: monotonic seconds, as the fleet counts them."""
    workers = [worker_view(member, at) for member in fleet.members(at)]
    if not include_items:
        workers = [{**worker, "items": []} for worker in workers]
    return {
        "download_stats": {"downloaded_songs": downloaded},
        "transfer_stats": {"download_speed_bytes_per_sec": round(fleet.download_speed(at))},
        "jobs": list(jobs),
        "workers": workers,
        "failures": [item_view(item) for item in failures],
        "holds": [
            {
                "job_id": hold.job_id,
                "stage": hold.stage.value,
                "lane": hold.lane,
                "reason": hold.reason.model_dump(),
                "since": _time(hold.since),
                "until": _time(hold.until),
            }
            for hold in fleet.holds(at)
        ],
        "waits": [
            {
                "server": wait.server,
                "reason": wait.reason.model_dump(),
                "since": _time(wait.since),
                "until": _time(wait.until),
            }
            for wait in waits
        ],
        "object_store": _object_store(fleet, at, upload_configured),
        "findings": findings_view(fleet, at),
        "snapshot": _snapshot(fleet, at),
        "status_lag": status_lag,
    }


def sources_view(fleet: Fleet, at: float, known: Sequence[str]) -> list[dict[str, Any]]:
    """The sources as the collector tells of them; without one, that is what is said."""
    for member in reversed(fleet.live("collector", at)):
        told = member.beat.detail.get("sources")
        if isinstance(told, list):
            return [one for one in told if isinstance(one, dict)]
        if isinstance(told, dict):
            return [{"name": name, **one} for name, one in told.items() if isinstance(one, dict)]
    return [
        {
            "name": name,
            "available": False,
            "configured": True,
            "message": "The collector is not running, so nothing is known of this source.",
        }
        for name in known
    ]


def _stage_view(job: Job, stage: Stage, counts: Mapping[ItemState, int], waits_for: Reason | None) -> dict[str, Any]:
    state = job.stage_states[stage]
    stands_still = job.state in {JobState.PAUSED, JobState.PAUSE_REQUESTED} and state is JobState.RUNNING
    if stands_still or (job.state.ended and not state.ended):
        state = job.state
    return {
        "stage": stage.value,
        "state": state.value,
        "status": state.value,
        "waits_for": waits_for.model_dump() if waits_for else None,
        "counts": {one.value: counts.get(one, 0) for one in ItemState},
        "total": sum(counts.values()),
    }


def _current_view(item: CurrentItem) -> dict[str, Any]:
    return {
        "job_id": item.job_id,
        "stage": item.stage.value,
        "title": item.title,
        "note": item.note,
        "done": item.done,
        "total": item.total,
        "speed": round(item.speed),
        "started_at": _time(item.started_at),
    }


def _object_store(fleet: Fleet, at: float, configured: bool) -> dict[str, Any]:
    for member in reversed(fleet.live("uploader", at)):
        told = member.beat.detail.get("object_store")
        if isinstance(told, dict):
            return {"configured": bool(told.get("configured")), "message": str(told.get("message") or "")}
    if configured:
        return {"configured": True, "message": "No uploader is running, so nothing is copied now."}
    return {"configured": False, "message": "No object store is set up; files stay in the library only."}


def _snapshot(fleet: Fleet, at: float) -> dict[str, Any] | None:
    """What the exporter tells of the catalog; None while no exporter is running."""
    for member in reversed(fleet.live("exporter", at)):
        told = member.beat.detail
        return {
            **told,
            "snapshot_id": told.get("snapshot_id"),
            "sequence": told.get("snapshot_sequence"),
            "projected_sequence": told.get("projected_sequence"),
            "lag": told.get("lag"),
            "kept_out": told.get("problems", 0),
            "problems": [reason.model_dump() for reason in member.beat.problems],
        }
    return None


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None
