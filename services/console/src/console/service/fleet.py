"""The live processes, as their heartbeats tell. Pure: the caller brings the time (monotonic seconds).

Pages look at it in threads while heartbeats come in: what may change is copied before it is walked through.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import ValidationError

from common.contracts.jobs import GATE_SECONDS, KEPT_DETAIL, KeptSettings, Lane
from common.contracts.names import Stage
from common.contracts.status import CurrentItem, Heartbeat, Hold, ServerWait

LOST_AFTER = 12.0
"""Seconds without a heartbeat after which a process counts as lost."""
FORGET_AFTER = 600.0
BEGUN_BY = GATE_SECONDS + 0.5
"""Seconds from a pause to when nothing can begin any more, not even in a worker that stood still; half of one for
what the clocks and the bus may differ by."""
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
        recent = [(when, total) for when, total in tuple(self.moved) if when >= at - _SPEED_WINDOW]
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
        self.turns: Sequence[Hold] = ()
        """Lanes that are closed because others of their source have their turn."""

    def observe(self, beat: Heartbeat, at: float) -> None:
        """Take in a heartbeat; the last one of a process is its end."""
        key = (beat.service, beat.instance)
        member = self._members.get(key)
        if beat.leaving:
            if member is not None and member.beat.started_at <= beat.started_at:
                self._members.pop(key, None)
            return
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

    def lost(self, service: str, instance: str, at: float) -> bool:
        """Whether a process does not answer any more; one that was never heard of may only not have been yet."""
        member = self._members.get((service, instance))
        if member is None:
            return at - self._started > LOST_AFTER and len(self._members) < MAX_WORKERS
        return not member.live(at)

    def live(self, service: str, at: float) -> list[Member]:
        """The live copies of one service, the newest last."""
        found = [member for member in self.members(at) if member.beat.service == service and member.live(at)]
        return sorted(found, key=lambda member: member.beat.started_at)

    def download_speed(self, at: float) -> float:
        """Bytes a second over all downloaders."""
        return sum(member.speed(at) for member in self.members(at) if member.beat.service == "downloader")

    def holds(self, at: float) -> list[Hold]:
        """Lanes that are closed or that live workers do not poll, each once, since the earliest."""
        found: dict[tuple[int | None, Stage, str, str], Hold] = {}
        for member in self.members(at):
            for hold in member.beat.holds if member.live(at) else ():
                key = (hold.job_id, hold.stage, hold.lane, hold.reason.code)
                known = found.get(key)
                found[key] = hold if known is None or hold.since < known.since else known
        return sorted([*found.values(), *self.turns], key=lambda hold: hold.since)

    def kept_settings(self, at: float) -> KeptSettings | None:
        """What a job that begins now keeps of the downloaders' settings; None while none is running."""
        for member in reversed(self.live("downloader", at)):
            with suppress(ValidationError):
                return KeptSettings.model_validate(member.beat.detail.get(KEPT_DETAIL))
        return None

    def waits(self, at: float) -> list[ServerWait]:
        """Servers that live workers ask for nothing now."""
        return [wait for member in self.members(at) if member.live(at) for wait in member.beat.waits]

    def in_hand(self, stage: Stage, lane: str, at: float, *, besides: Collection[int]) -> int:
        """Items of a source in the hands of live workers, without those of some jobs."""
        return sum(
            (item.stage, item.lane) == (stage, lane) and item.job_id not in besides
            for member in tuple(self._members.values())
            if member.live(at)
            for item in member.beat.items
        )

    def not_confirmed(
        self, job_id: int, revision: int, *, asked: float, at: float, lane: Lane | None = None
    ) -> list[str]:
        """Who may still start or hold an item of a job (or one lane) whose pause stands in ``revision`` of the state.

        Empty: no live worker holds one, and nothing of the job will start. ``asked``: when that revision had been
        written. Every live worker answers it at once; what one that is lost held is given up, but it may begin what
        it has until :data:`BEGUN_BY`, and so may one that we have not heard of, right after our start.
        """
        settled = at - asked > BEGUN_BY
        waiting = [
            member.name
            for member in tuple(self._members.values())
            if member.beat.concurrency
            and (member.live(at) or not settled)
            and (member.beat.jobs_revision < revision or any(_is_of(item, job_id, lane) for item in member.beat.items))
        ]
        if not waiting and not settled and at - self._started < LOST_AFTER:
            waiting.append("workers not heard of yet")
        return waiting

    def _name(self, service: str) -> str:
        role = _ROLE.get(service, service)
        taken = {member.name for member in tuple(self._members.values())}
        return next(name for name in _numbered(role) if name not in taken)

    def _forget(self, at: float) -> None:
        for key, member in tuple(self._members.items()):
            if at - member.seen > FORGET_AFTER:
                self._members.pop(key, None)


def _is_of(item: CurrentItem, job_id: int, lane: Lane | None) -> bool:
    return item.job_id == job_id and (lane is None or (item.stage, item.lane) == (lane.stage, lane.name))


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
