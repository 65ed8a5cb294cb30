"""The numbers of one process for Prometheus: a registry of its own, made by the runtime; nothing at import."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import partial

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from common.metrics_names import Number
from common.telemetry import get_logger

ASK_EVERY = 5.0
"""Seconds for which an answer from a disk, a database or the bus counts: no scraper can ask them to death."""
ASK_PATIENCE = 2.0
"""Seconds that a scrape waits for them; what has not answered by then is left out, and Prometheus sees the gap."""

Sample = tuple[tuple[str, ...], float]
"""The values of a number's labels, in their order, and the value."""
Read = Callable[[], Iterable[Sample]]
Asked = Mapping[Number, Iterable[Sample]]
Ask = Callable[[], Awaitable[Asked]]


class Metrics:
    """What a process counts, what it is asked at each scrape, and what it has to ask others for."""

    def __init__(self, *, service: str) -> None:
        self._service = service
        self._registry = CollectorRegistry()
        self._asking: list[_Asking] = []
        self._numbers_asked: set[Number] = set()
        self._counts: dict[Number, Count] = {}
        self._times: dict[Number, Times] = {}
        # Beside each counter a gauge of when it was made: as many series again, and of no use.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        ProcessCollector(registry=self._registry)

    def counter(self, number: Number) -> Count:
        """A counter to add to; cheap enough for a work loop, safe in threads."""
        if number not in self._counts:
            made = Counter(number.name, number.help, ("service", *number.labels), registry=self._registry)
            self._counts[number] = Count(made, self._service)
        return self._counts[number]

    def histogram(self, number: Number) -> Times:
        """A histogram of seconds."""
        if number not in self._times:
            made = Histogram(
                number.name, number.help, ("service", *number.labels), registry=self._registry, buckets=number.buckets
            )
            self._times[number] = Times(made, self._service)
        return self._times[number]

    def told(self, number: Number, read: Read) -> None:
        """Ask ``read`` at each scrape, on the event loop: it must not block."""
        self._registry.register(_Family(number, self._service, read))

    def value(self, number: Number, read: Callable[[], float | None]) -> None:
        """The same of a number without labels; None leaves it out."""

        def samples() -> Iterator[Sample]:
            if (found := read()) is not None:
                yield (), found

        self.told(number, samples)

    def asked(self, numbers: Iterable[Number], ask: Ask) -> None:
        """Numbers that a disk, a database or the bus is asked for, only when somebody scrapes.

        What takes too long or fails is left out of that scrape; it is never asked twice at a time. Several
        may tell samples of one number, so that what hangs hides only its own.
        """
        self._asking.append(_Asking(ask))
        for number in numbers:
            if number not in self._numbers_asked:
                self._numbers_asked.add(number)
                self.told(number, partial(self._answers, number))

    async def render(self) -> bytes:
        """Everything, in the text format of Prometheus."""
        await asyncio.gather(*(asking.refresh() for asking in self._asking))
        return generate_latest(self._registry)

    def _answers(self, number: Number) -> Iterator[Sample]:
        for asking in self._asking:
            yield from asking.answer.get(number, ())


class Count:
    """A counter with its labels looked up once."""

    def __init__(self, counter: Counter, service: str) -> None:
        self._counter = counter
        self._service = service
        self._children: dict[tuple[str, ...], Counter] = {}

    def add(self, amount: float = 1.0, *labels: str) -> None:
        """Add ``amount``; ``labels`` in the order of the definition."""
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._counter.labels(self._service, *labels)
        child.inc(amount)


class Times:
    """A histogram with its labels looked up once."""

    def __init__(self, histogram: Histogram, service: str) -> None:
        self._histogram = histogram
        self._service = service
        self._children: dict[tuple[str, ...], Histogram] = {}

    def add(self, seconds: float, *labels: str) -> None:
        """Note one that took ``seconds``."""
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._histogram.labels(self._service, *labels)
        child.observe(seconds)


class Behind:
    """How long something has been behind. ``look`` is called often enough to tell seconds."""

    def __init__(self, lag: Callable[[], int]) -> None:
        self.lag = lag
        self._level = time.monotonic()

    def look(self) -> None:
        """Note whether it is level now."""
        if self.lag() == 0:
            self._level = time.monotonic()

    @property
    def seconds(self) -> float:
        self.look()
        return 0.0 if self.lag() == 0 else time.monotonic() - self._level


class _Asking:
    """One question to the outside: asked rarely, one at a time, and given up on when it hangs."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._running: asyncio.Task[Asked] | None = None
        self._at = -ASK_EVERY
        self.answer: Asked = {}

    async def refresh(self) -> None:
        """Have an answer that is not older than it may be, or none."""
        if self._running is None:
            if time.monotonic() - self._at < ASK_EVERY:
                return
            self._running = asyncio.create_task(self._asked())
        running = self._running
        await asyncio.wait({running}, timeout=ASK_PATIENCE)
        if not running.done():
            self.answer = {}
            return
        self.answer = running.result()
        if self._running is running:
            self._running, self._at = None, time.monotonic()

    async def _asked(self) -> Asked:
        try:
            return await self._ask()
        except Exception as error:  # a number that cannot be had must not take the others with it
            get_logger().warning("numbers left out of the metrics", error=type(error).__name__)
            return {}


class _Family(Collector):
    """One number whose values are read when asked for."""

    def __init__(self, number: Number, service: str, read: Read) -> None:
        self._number = number
        self._service = service
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """Its name, so that two of the same name are refused."""
        return [self._family()]

    def collect(self) -> Iterator[Metric]:
        family = self._family()
        for labels, value in self._read():
            family.add_metric((self._service, *labels), value)
        yield family

    def _family(self) -> CounterMetricFamily | GaugeMetricFamily:
        kind = CounterMetricFamily if self._number.kind == "counter" else GaugeMetricFamily
        return kind(self._number.name, self._number.help, labels=("service", *self._number.labels))
