"""The numbers that only the console knows: jobs, items, the queue and the streams. Asked when somebody scrapes."""

from __future__ import annotations

import asyncio
from collections import Counter

from nats.js.errors import NotFoundError

from common.bus.connection import Bus
from common.bus.jobs import JobsFollower
from common.contracts.envelope import now
from common.contracts.jobs import Lane
from common.contracts.names import JobState
from common.contracts.streams import STREAMS, WORK
from common.metrics import Asked, Metrics
from common.metrics_names import ITEMS, JOBS, QUEUE_AGE, QUEUE_ITEMS, STREAM_BYTES, STREAM_MESSAGES
from console.adapters.ledger import ItemStore, RunStore

_LANES = 200
"""Lanes that are asked for in one scrape; more of them under way at once are not to be expected."""


class Numbers:
    """Asks the ledger and the bus; a few short questions for each lane of a running job."""

    def __init__(self, *, bus: Bus, jobs: JobsFollower, runs: RunStore, items: ItemStore) -> None:
        self._bus = bus
        self._jobs = jobs
        self._runs = runs
        self._items = items

    def register(self, metrics: Metrics) -> None:
        """The ledger and the bus apart: one that does not answer hides only its own."""
        metrics.asked((JOBS, ITEMS), lambda: asyncio.to_thread(self._ledger))
        metrics.asked((QUEUE_ITEMS, QUEUE_AGE), self._queue)
        metrics.asked((STREAM_MESSAGES, STREAM_BYTES), self._streams)

    def _ledger(self) -> Asked:
        jobs = self._runs.count_by_state()
        items: Counter[tuple[str, ...]] = Counter()
        for counts in self._items.counts_of([job.job_id for job in self._runs.unended()]).values():
            for stage, states in counts.items():
                for state, count in states.items():
                    items[stage.value, state.value] += count
        return {
            JOBS: [((state.value,), float(jobs.get(state, 0))) for state in JobState],
            ITEMS: [(key, float(count)) for key, count in items.items()],
        }

    async def _queue(self) -> Asked:
        lanes = [lane for job in self._jobs.state.jobs if job.state is JobState.RUNNING for lane in job.lanes]
        read = await asyncio.gather(*(self._lane(lane) for lane in lanes[:_LANES]))
        waiting: Counter[tuple[str, ...]] = Counter()
        oldest: dict[tuple[str, ...], float] = {}
        for lane, (count, age) in zip(lanes, read, strict=False):
            key = (lane.stage.value, lane.name)
            waiting[key] += count
            oldest[key] = max(oldest.get(key, 0.0), age)
        return {
            QUEUE_ITEMS: [(key, float(count)) for key, count in waiting.items()],
            QUEUE_AGE: list(oldest.items()),
        }

    async def _lane(self, lane: Lane) -> tuple[int, float]:
        """Items that have not ended, and seconds since the oldest of them was queued."""
        try:
            info = await self._bus.js.consumer_info(WORK, lane.consumer)
            count = (info.num_pending or 0) + (info.num_ack_pending or 0)
            if not count:
                return 0, 0.0
            # WORK holds what has not ended, so that the first message of the filter is the oldest.
            first = await self._bus.js.get_msg(WORK, seq=1, subject=lane.filter, next=True)
        except NotFoundError:
            return 0, 0.0
        return count, max(0.0, (now() - first.time).total_seconds()) if first.time else 0.0

    async def _streams(self) -> Asked:
        infos = await asyncio.gather(*(self._bus.js.stream_info(spec.name) for spec in STREAMS))
        return {
            STREAM_MESSAGES: [((info.config.name or "",), float(info.state.messages)) for info in infos],
            STREAM_BYTES: [((info.config.name or "",), float(info.state.bytes)) for info in infos],
        }
