"""What a handler is given beside its item."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Any

from common.contracts.envelope import now
from common.contracts.jobs import ActiveJob
from common.contracts.status import CurrentItem
from common.contracts.work import WorkItem
from common.work.outcome import Outcome
from common.work.planner import Planner

_SPEED_WINDOW = 3.0
"""Seconds over which speed is averaged: steady enough to read, quick enough to see a stall."""


class ItemContext:
    """An item in hand: its job, its tries, its progress."""

    def __init__(
        self,
        *,
        item: WorkItem,
        job: ActiveJob,
        tries: int,
        redelivered: bool,
        trace: str,
        cause: str,
        planner: Planner,
        on_bytes: Callable[[int], None],
    ) -> None:
        self.item = item
        self.job = job
        self.tries = tries
        """tries that ended without success before this one"""
        self.redelivered = redelivered
        self.trace = trace
        self.cause = cause
        """unique per item and try; the cause of what the handler publishes"""
        self.canceled = threading.Event()
        """set when the item must stop; threads look at it between chunks"""
        self.started_at: datetime = now()
        self.last_progress = time.monotonic()
        self._planner = planner
        self._on_bytes = on_bytes
        self._done = 0
        self._total: int | None = None
        self._note = ""
        self._window = (time.monotonic(), 0)
        self._speed = 0.0

    def progress(self, done: int, total: int | None = None, note: str = "") -> None:
        """Say how far it is: bytes for files, else units of its own. Safe in threads.

        Only a change proves life; an item that says the same for the stall limit is interrupted.
        """
        moment = time.monotonic()
        if done != self._done or note != self._note:
            self.last_progress = moment
        if done > self._done:
            self._on_bytes(done - self._done)
        self._done, self._total, self._note = done, total if total is not None else self._total, note or self._note
        since, at = self._window
        if moment - since >= _SPEED_WINDOW:
            self._speed = max(0.0, (done - at) / (moment - since))
            self._window = (moment, done)
        elif self._speed == 0.0 and moment > since:
            self._speed = max(0.0, (done - at) / (moment - since))

    async def plan(self, items: Iterable[WorkItem]) -> int:
        """Put child items into WORK; return how many were new. The item itself is acked after."""
        return await self._planner.put(
            items, cause=self.cause, job_id=self.job.job_id, trace=self.trace, on_wait=self._planning
        )

    def _planning(self, count: int, note: str) -> None:
        self.last_progress = time.monotonic()
        self._note = note or f"{count} items planned"

    def current(self) -> CurrentItem:
        """The item as heartbeats show it."""
        return CurrentItem(
            job_id=self.job.job_id,
            stage=self.item.STAGE,
            lane=self.item.lane,
            key=self.item.key,
            title=self.item.title,
            started_at=self.started_at,
            note=self._note,
            done=self._done,
            total=self._total,
            speed=self._speed,
        )


Handler = Callable[[Any, ItemContext], Awaitable[Outcome]]
"""Does one item. Raises the errors of :mod:`common.errors`; anything else counts as a bug."""
