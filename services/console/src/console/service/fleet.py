"""The live processes, as their heartbeats tell. Pure: the caller brings the time (monotonic seconds)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from common.contracts.names import Stage
from common.contracts.status import Heartbeat, Hold, ServerWait

LOST_AFTER = 12.0
"""Seconds without a heartbeat after which a process counts as lost."""
FORGET_AFTER = 600.0
_SPEED_WINDOW = 6.0
"""Seconds over which the speed is taken: three heartbeats, so that it neither jumps nor lags."""
MAX_WORKERS = 2_000
"""More processes than that are noise; the newest are ignored so that memory stays bounded."""

_ROLE = {"downloader": "download", "uploader": "upload", "collector": "collect", "exporter": "export"}


@dataclass(kw_only=True)
class Member:
    """One process and its last heartbeat."""

    name: str
    beat: Heartbeat
    seen: float
    moved: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=64))

    def live(self, at: float) -> bool:
        return at - self.seen <= LOST_AFTER

    def speed(self, at: float) -> float:
        """Bytes a second over the last seconds."""
        if not self.live(at):
            return 0.0
        now_speed = sum(item.speed for item in self.beat.items if item.stage in {Stage.DOWNLOAD, Stage.UPLOAD})
        recent = [(when, total) for when, total in self.moved if when >= at - _SPEED_WINDOW]
        if len(recent) < 2:
            return now_speed
        (first, before), (last, after) = recent[0], recent[-1]
        return max(now_speed, (after - before) / (last - first) if last > first else 0.0)


class Fleet:
    """All processes that were heard of lately."""

    def __init__(self, *, started: float) -> None:
        """``started``: when listening began; before one :data:`LOST_AFTER` has passed, silence proves nothing."""
        self._started = started
        self._members: dict[tuple[str, str], Member] = {}

    def observe(self, beat: Heartbeat, at: float) -> None:
        """Take in a heartbeat."""
        key = (beat.service, beat.instance)
        member = self._members.get(key)
        if member is None:
            self._forget(at)
            if len(self._members) >= MAX_WORKERS:
                return
            member = self._members[key] = Member(name=self._name(beat.service), beat=beat, seen=at)
        if beat.started_at != member.beat.started_at or beat.bytes_total < member.beat.bytes_total:
            member.moved.clear()
        member.beat, member.seen = beat, at
        member.moved.append((at, beat.bytes_total))

    def members(self, at: float) -> list[Member]:
        """Everyone, services together, in the order of their numbers."""
        self._forget(at)
        return sorted(self._members.values(), key=lambda member: (member.beat.service, len(member.name), member.name))

    def member(self, service: str, instance: str) -> Member | None:
        """One process, if it was heard of lately."""
        return self._members.get((service, instance))

    def live(self, service: str, at: float) -> list[Member]:
        """The live copies of one service, the newest last."""
        found = [member for member in self.members(at) if member.beat.service == service and member.live(at)]
        return sorted(found, key=lambda member: member.beat.started_at)

    def download_speed(self, at: float) -> float:
        """Bytes a second over all downloaders."""
        return sum(member.speed(at) for member in self.members(at) if member.beat.service == "downloader")

    def holds(self, at: float) -> list[Hold]:
        """Lanes that live workers do not poll, each once, since the earliest."""
        found: dict[tuple[int | None, Stage, str, str], Hold] = {}
        for member in self.members(at):
            for hold in member.beat.holds if member.live(at) else ():
                key = (hold.job_id, hold.stage, hold.lane, hold.reason.code)
                known = found.get(key)
                found[key] = hold if known is None or hold.since < known.since else known
        return sorted(found.values(), key=lambda hold: hold.since)

    def waits(self, at: float) -> list[ServerWait]:
        """Servers that live workers ask for nothing now."""
        return [wait for member in self.members(at) if member.live(at) for wait in member.beat.waits]

    def not_confirmed(self, job_id: int, revision: int, *, at: float, lease: float) -> list[str]:
        """Who may still start or hold an item of a job whose pause stands in ``revision`` of the job state.

        Empty: nothing of the job runs, and nothing of it will start. A worker that is lost may go on
        until its lease ends; right after our start, those not heard of yet may too.
        """
        waiting = [member.name for member in self._members.values() if self._open(member, job_id, revision, at, lease)]
        if at - self._started < LOST_AFTER and not waiting:
            waiting.append("workers not heard of yet")
        return waiting

    def _open(self, member: Member, job_id: int, revision: int, at: float, lease: float) -> bool:
        beat = member.beat
        if beat.concurrency == 0:
            return False
        if not member.live(at) and at - member.seen > lease:
            return False
        return beat.jobs_revision < revision or any(item.job_id == job_id for item in beat.items)

    def _name(self, service: str) -> str:
        role = _ROLE.get(service, service)
        taken = {member.name for member in self._members.values()}
        return next(name for name in _numbered(role) if name not in taken)

    def _forget(self, at: float) -> None:
        for key in [key for key, member in self._members.items() if at - member.seen > FORGET_AFTER]:
            del self._members[key]


def current(member: Member) -> tuple[str | None, str | None]:
    """The song and the playlist in the hands of a worker."""
    songs = [item.title for item in member.beat.items if item.stage in {Stage.DOWNLOAD, Stage.UPLOAD}]
    lists = [item.title for item in member.beat.items if item.stage in {Stage.COLLECT, Stage.SYNC}]
    return (songs[0] if songs else None), (lists[0] if lists else None)


def status_of(member: Member, at: float) -> str:
    """``lost``, ``waiting`` (it has a problem), ``busy`` or ``idle``; ``ready`` for what takes no items."""
    if not member.live(at):
        return "lost"
    if not member.beat.ready:
        return "waiting"
    if not member.beat.concurrency:
        return "ready"
    return "busy" if member.beat.items else "idle"


def _numbered(role: str) -> Iterator[str]:
    number = 1
    while True:
        yield f"{role}-{number}"
        number += 1


def seconds_since(moment: datetime, now: datetime) -> float:
    """Whole life of something, in seconds; never negative, clocks differ."""
    return max(0.0, (now - moment).total_seconds())
