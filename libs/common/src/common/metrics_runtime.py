"""The numbers that every service tells: of itself, its bus, its disks, its work, its projections."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from common import metrics_names as names
from common.bus.connection import Bus
from common.contracts.envelope import now
from common.contracts.names import Stage
from common.contracts.status import Reason
from common.metrics import Asked, Behind, Metrics, Sample
from common.work import WorkLoop

_BYTE_STAGES = frozenset({Stage.DOWNLOAD, Stage.UPLOAD})
"""Stages whose progress is counted in bytes; the others count units of their own."""


class ServiceMetrics:
    """Registers the numbers of one service, and those of the parts that it is told of."""

    def __init__(self, metrics: Metrics, *, version: str, bus: Bus, problems: Callable[[], tuple[Reason, ...]]) -> None:
        self._metrics = metrics
        self._projections: dict[str, Behind] = {}
        metrics.told(names.BUILD_INFO, lambda: [((version,), 1.0)])
        metrics.value(names.READY, lambda: 0.0 if problems() else 1.0)
        # One sample a code, however many reasons share it.
        metrics.told(names.PROBLEM, lambda: {(reason.code,): 1.0 for reason in problems()}.items())
        metrics.value(names.BUS_CONNECTED, lambda: 1.0 if bus.nc.is_connected else 0.0)
        metrics.value(names.BUS_RECONNECTS, lambda: float(bus.nc.stats["reconnects"]))

    def folder(self, name: str, path: Path, *, reserve: int | None = None) -> None:
        """Tell the free space of a folder's disk. ``reserve``: bytes that are left free on it."""
        # A thread of its own: a network share that hangs must not take one from the work.
        thread = ThreadPoolExecutor(1, thread_name_prefix=f"disk-{name}")

        async def ask() -> Asked:
            return await asyncio.get_running_loop().run_in_executor(thread, _disk, name, path)

        self._metrics.asked((names.DISK_FREE, names.DISK_SIZE), ask)
        if reserve is not None:
            self._metrics.told(names.DISK_RESERVE, lambda: [((name,), float(reserve))])

    def projection(self, name: str, lag: Callable[[], int]) -> None:
        """Tell how far a database is behind its stream."""
        if not self._projections:
            self._metrics.told(names.PROJECTION_LAG, self._lags)
            self._metrics.told(names.PROJECTION_SECONDS, self._lag_seconds)
        self._projections[name] = Behind(lag)

    def work(self, loop: WorkLoop) -> None:
        """Tell what a work loop does."""
        tries = self._metrics.counter(names.ITEM_TRIES)
        seconds = self._metrics.histogram(names.ITEM_SECONDS)

        def tried(stage: Stage, source: str, outcome: str, took: float) -> None:
            tries.add(1, stage, source, outcome)
            seconds.add(took, stage)

        loop.on_try = tried
        self._metrics.value(names.SLOTS, lambda: float(loop.concurrency))
        self._metrics.told(names.ITEMS_IN_HAND, partial(_in_hand, loop))
        self._metrics.told(names.LANE_HELD, partial(_held, loop))
        if moving := loop.stages & _BYTE_STAGES:
            (stage,) = moving
            self._metrics.told(names.BYTES_MOVED, lambda: [((stage,), float(loop.bytes_total))])

    def look(self) -> None:
        """Note who is level with their stream; called every few seconds."""
        for behind in self._projections.values():
            behind.look()

    def _lags(self) -> Iterator[Sample]:
        for name, behind in self._projections.items():
            yield (name,), float(behind.lag())

    def _lag_seconds(self) -> Iterator[Sample]:
        for name, behind in self._projections.items():
            yield (name,), behind.seconds


def _in_hand(loop: WorkLoop) -> Iterator[Sample]:
    found = Counter(item.stage for item in loop.items)
    for stage in sorted(loop.stages):
        yield (stage,), float(found[stage])


def _held(loop: WorkLoop) -> Iterable[Sample]:
    found: dict[tuple[str, ...], float] = {}
    for hold in loop.holds:
        key = (hold.stage, hold.lane, hold.reason.code)
        found[key] = max(found.get(key, 0.0), (now() - hold.since).total_seconds())
    return found.items()


def _disk(name: str, path: Path) -> Asked:
    found = os.statvfs(path)
    return {
        names.DISK_FREE: [((name,), float(found.f_bavail * found.f_frsize))],
        names.DISK_SIZE: [((name,), float(found.f_blocks * found.f_frsize))],
    }
