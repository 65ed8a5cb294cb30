"""The times in which nothing of a job may start: after ``paused`` until the resume, after cancel until a retry."""

from __future__ import annotations

import math
from dataclasses import dataclass

ENDED = frozenset({"completed", "completed_with_errors", "failed", "canceled"})
HEARTBEAT = 2.0
"""Seconds: by then a cancel has reached everybody."""
LET_GO = 4.0
"""Seconds after a cancel in which items in hand are let go of: a heartbeat, and a third of a lease."""
_ONE_BEAT = 0.3
"""Seconds that a heartbeat may be older than what it is compared with: they are at least a tenth apart."""
LATE = 60.0
"""Seconds after which a command that was never answered does not come any more."""
BUS_GRACE = 3.0
"""Seconds after the bus is back, until everybody is connected and has read the job state."""


@dataclass(frozen=True)
class Start:
    """A try at an item that began, by the wall clock."""

    at: float
    job_id: int
    subject: str
    worker: str


@dataclass(kw_only=True)
class Window:
    """Nothing of a job may start from ``begins`` on."""

    job_id: int
    why: str
    begins: float
    ends: float = math.inf


@dataclass(kw_only=True)
class _Job:
    state: str = ""
    open: Window | None = None
    releases_in_flight: int = 0
    released_at: float = -math.inf
    unknown: bool = False
    """A release was sent and never answered: nobody knows whether it still comes."""


class Promises:
    """What the console said of each job, and what follows from it. Times are ``time.time()``."""

    def __init__(self) -> None:
        self.windows: list[Window] = []
        self.outages: list[tuple[float, float]] = []
        self.frozen: list[tuple[str, float, float]] = []
        self.broken: list[str] = []
        self._jobs: dict[int, _Job] = {}

    def job(self, job_id: int) -> _Job:
        return self._jobs.setdefault(job_id, _Job())

    @property
    def canceled(self) -> set[int]:
        """Jobs that were canceled at some time."""
        return {window.job_id for window in self.windows if window.why == "canceled"}

    def release_sent(self, job_id: int, at: float) -> None:
        """A resume or a retry is on its way: from here on items may start."""
        job = self.job(job_id)
        job.releases_in_flight += 1
        job.released_at = at
        job.state = ""
        if job.open is not None:
            job.open.ends = at
            job.open = None

    def release_answered(self, job_id: int, at: float, *, known: bool) -> None:
        """It was answered, or died with the console; ``known`` false: it may still come."""
        job = self.job(job_id)
        job.releases_in_flight -= 1
        job.released_at = at
        job.unknown = job.unknown or not known

    def seen(self, job_id: int, state: str, *, asked: float, answered: float) -> None:
        """The console said that a job is in ``state``; what it is told between the two times counts for neither."""
        job = self.job(job_id)
        if job.releases_in_flight or asked <= job.released_at:
            return
        if job.unknown and asked > job.released_at + LATE:
            job.unknown, job.state = False, ""
        before, job.state = job.state, state
        if job.unknown:
            return
        if before == "paused" and state not in {"paused", "canceled"}:
            self.broken.append(f"job {job_id} was paused and became {state} by itself")
        if before in ENDED and state != before and (before, state) != ("completed", "completed_with_errors"):
            self.broken.append(f"job {job_id} had ended ({before}) and became {state} by itself")
        if state == "paused" and job.open is None:
            self._open(job, Window(job_id=job_id, why="paused", begins=answered))
        elif state == "canceled" and (job.open is None or job.open.why == "paused"):
            if job.open is not None:
                job.open.ends = answered
            self._open(job, Window(job_id=job_id, why="canceled", begins=answered))

    def outage(self, begins: float, ends: float) -> None:
        """The bus was away: what was said meanwhile reaches the workers when it is back."""
        self.outages.append((begins, ends))

    def early(self, starts: list[Start]) -> list[str]:
        """Starts that should not have been."""
        found = []
        for window in self.windows:
            begins = window.begins
            if window.why == "canceled":
                begins = self.settled(begins) + HEARTBEAT
            for start in starts:
                if start.job_id == window.job_id and begins < start.at < window.ends:
                    found.append(
                        f"{start.subject} was started by {start.worker} {start.at - window.begins:.3f} s after job "
                        f"{start.job_id} said {window.why}"
                    )
        return found

    def held(self, in_hand: list[Start]) -> list[str]:
        """Items that were in hand while their job was paused, or long after it was canceled."""
        found: dict[tuple[str, str], str] = {}
        for window in self.windows:
            begins = window.begins + _ONE_BEAT
            if window.why == "canceled":
                begins = self.settled(window.begins) + LET_GO
            for one in in_hand:
                if one.job_id == window.job_id and begins < one.at < window.ends and not self._stood_still(one):
                    found[one.subject, one.worker] = (
                        f"{one.subject} was still in the hands of {one.worker} {one.at - window.begins:.1f} s after "
                        f"job {one.job_id} said {window.why}"
                    )
        return list(found.values())

    def settled(self, moment: float) -> float:
        """``moment``, or when a bus that was away around it was back for everybody."""
        for begins, ends in sorted(self.outages):
            if begins - HEARTBEAT <= moment <= ends + BUS_GRACE or begins <= moment + LET_GO <= ends + BUS_GRACE:
                moment = max(moment, ends + BUS_GRACE)
        return moment

    def _stood_still(self, one: Start) -> bool:
        """Whether the worker was frozen until a moment before: its item may be with another by then."""
        return any(name == one.worker and begins <= one.at <= ends + LET_GO for name, begins, ends in self.frozen)

    def _open(self, job: _Job, window: Window) -> None:
        job.open = window
        self.windows.append(window)
