"""What the routes work with, built once in the bootstrap."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from jinja2 import Environment

from common.contracts.names import JobState, Stage
from console.adapters.facts import CatalogDesk
from console.adapters.hub import Hub
from console.adapters.ledger import ItemStore, JournalStore, RunStore, SessionStore
from console.handlers import Projector
from console.ports import Counts, Job
from console.service import views
from console.service.control import JobControl
from console.service.fleet import Fleet
from console.settings import ConsoleSettings

_ENDED_SHOWN = 5
_FAILURES_SHOWN = 20


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
    hub: Hub
    pages: Environment

    def jobs(self, *, states: Sequence[JobState], before: int | None, limit: int) -> list[tuple[Job, Counts]]:
        """Jobs with their counts, newest first. Blocks."""
        jobs = self.runs.newest(states=states, before=before, limit=limit)
        counts = self.items.counts_of([job.job_id for job in jobs])
        return [(job, counts.get(job.job_id, {})) for job in jobs]

    def dashboard(self, *, include_items: bool = True) -> dict[str, Any]:
        """What the first page shows. Blocks."""
        unended = [state for state in JobState if not state.ended]
        shown = self.jobs(states=unended, before=None, limit=50)
        ended = self.jobs(states=[state for state in JobState if state.ended], before=None, limit=_ENDED_SHOWN)
        shown += ended
        job_ids = [job.job_id for job, _ in shown]
        return views.dashboard(
            jobs=shown,
            failures=self.items.failures(job_ids, limit=_FAILURES_SHOWN),
            downloaded=self.items.succeeded_total(Stage.DOWNLOAD),
            fleet=self.fleet,
            at=time.monotonic(),
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
