"""What the routes work with, built once in the bootstrap."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from jinja2 import Environment

from common.contracts.envelope import now
from common.contracts.names import ItemState, JobState, Stage
from common.contracts.status import Heartbeat
from console.adapters.facts import CatalogDesk
from console.adapters.hub import Hub
from console.adapters.ledger import ItemStore, JournalStore, RevisionStore, RunStore, ScheduleStore, SessionStore
from console.adapters.letters import DeadLetters
from console.adapters.resolver import ResolverDesk
from console.handlers import Projector
from console.ports import Counts, Holder, Item, Job, SetAside
from console.service import views, waiting
from console.service.configuration import Configuration
from console.service.control import JobControl
from console.service.fleet import Fleet
from console.service.letters import Replays
from console.service.schedules import Scheduler
from console.service.songs import Songs
from console.settings import ConsoleSettings

_ENDED_SHOWN = 5
_FAILURES_SHOWN = 20
_COUNTED_SECONDS = 2.0
_COUNTED_JOBS = 200


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Everything behind the counter."""

    settings: ConsoleSettings
    control: JobControl
    runs: RunStore
    items: ItemStore
    journal: JournalStore
    sessions: SessionStore
    fleet: Fleet
    projector: Projector
    catalog: CatalogDesk
    letters: DeadLetters
    schedules: ScheduleStore
    revisions: RevisionStore
    configuration: Configuration
    scheduler: Scheduler
    replays: Replays
    songs: Songs
    resolver: ResolverDesk
    hub: Hub
    beat: Callable[[], Heartbeat]
    """The console itself: it is heard also while the bus is away."""
    pages: Environment
    counted: dict[int, tuple[float, list[SetAside]]] = field(default_factory=dict)

    def jobs(self, *, states: Sequence[JobState], before: int | None, limit: int) -> list[tuple[Job, Counts]]:
        """Jobs with their counts, newest first. Blocks."""
        jobs = self.runs.newest(states=states, before=before, limit=limit)
        counts = self.items.counts_of([job.job_id for job in jobs])
        return [(job, counts.get(job.job_id, {})) for job in jobs]

    def job_view(self, job: Job, counts: Counts | None = None) -> dict[str, Any]:
        """A job as it is shown, with the reason why it does not move. Blocks."""
        counts = self.items.counts(job.job_id) if counts is None else counts
        if job.state.ended:
            return views.job_view(job, counts)
        at = time.monotonic()
        lost: dict[Holder, int] = {}
        if any(states.get(ItemState.RUNNING) for states in counts.values()):
            lost = self._lost(job)
            counts = waiting.shown_counts(counts, lost=lost)
        reason = waiting.job_waits_for(
            job, counts=counts, lost=lost, aside=self._aside(job.job_id), fleet=self.fleet, at=at
        )
        standing = waiting.stages_wait_for(job, counts=counts, lost=lost, fleet=self.fleet, at=at)
        return views.job_view(job, counts, reason, standing)

    def page(self, job: Job, *, states: Sequence[ItemState], stage: Stage | None, after: int, limit: int) -> list[Item]:
        """Items of a job, by the states that people see. Blocks."""
        told_apart = {ItemState.RUNNING, ItemState.INTERRUPTED}.intersection(states)
        lost = self._lost(job) if told_apart and not job.state.ended else {}
        return self.items.page(job.job_id, states=states, stage=stage, lost=lost, after=after, limit=limit)

    def _lost(self, job: Job) -> dict[Holder, int]:
        return waiting.lost_of(self.items.holders(job.job_id), fleet=self.fleet, at=time.monotonic())

    def _aside(self, job_id: int) -> list[SetAside]:
        """What waits for times of its own; counting a hundred thousand for every look would not do."""
        at = time.monotonic()
        counted, found = self.counted.get(job_id, (0.0, []))
        if at - counted > _COUNTED_SECONDS:
            found = self.items.aside(job_id)
            if len(self.counted) >= _COUNTED_JOBS:
                self.counted.clear()
            self.counted[job_id] = (at, found)
        return found

    def item_views(self, job: Job, items: Sequence[Item]) -> list[dict[str, Any]]:
        """Items of a job, in the order of their numbers, as they are shown: what they wait for with them. Blocks."""
        at, wall = time.monotonic(), now()
        live = views.live_items(self.fleet, at)
        ahead: dict[tuple[Stage, str], int] = {}
        shown = []
        for item in items:
            status = item.status
            lane = (status.stage, status.lane)
            waits_turn = status.state is ItemState.QUEUED and status.next_try_at is None
            if waits_turn and lane not in ahead:
                ahead[lane] = self.items.ahead(item, limit=waiting.MAX_COUNTED)
            reason = None
            if item.subject not in live:
                reason = waiting.item_waits_for(
                    status, job, fleet=self.fleet, at=at, wall=wall, ahead=ahead.get(lane, 0)
                )
            if waits_turn:
                ahead[lane] = min(ahead[lane] + 1, waiting.MAX_COUNTED)
            state = waiting.shown_state(status, fleet=self.fleet, at=at)
            shown.append(views.item_view(item, live, waits_for=reason, state=state))
        return shown

    def dashboard(self, *, include_items: bool = True) -> dict[str, Any]:
        """What the first page shows. Blocks."""
        unended = [state for state in JobState if not state.ended]
        shown = self.jobs(states=unended, before=None, limit=50)
        ended = self.jobs(states=[state for state in JobState if state.ended], before=None, limit=_ENDED_SHOWN)
        shown += ended
        job_ids = [job.job_id for job, _ in shown]
        return views.dashboard(
            jobs=[self.job_view(job, counts) for job, counts in shown],
            failures=self.items.failures(job_ids, limit=_FAILURES_SHOWN),
            downloaded=self.items.succeeded_total(Stage.DOWNLOAD),
            fleet=self.fleet,
            at=time.monotonic(),
            waits=self.control.waits,
            status_lag=self.projector.lag,
            upload_configured=self.settings.object_store_configured,
            include_items=include_items,
        )

    async def publish(self, stop: asyncio.Event, changed: asyncio.Event) -> None:
        """Send the dashboard to whoever listens, at most twice a second, until ``stop``."""
        while not stop.is_set():
            if self.hub.listeners:
                self.hub.publish("dashboard", await asyncio.to_thread(self.dashboard))
            changed.clear()
            waits = [asyncio.create_task(changed.wait()), asyncio.create_task(stop.wait())]
            await asyncio.wait(waits, timeout=2.0, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            if not stop.is_set():
                await asyncio.sleep(0.5)


def desk_of(request: Request) -> Desk:
    """The desk of the application that serves ``request``."""
    desk: Desk = request.app.state.desk
    return desk
