"""Consumers and items of WORK. Nobody else makes or deletes these consumers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Mapping
from itertools import islice
from typing import Any, TypeVar

import nats.errors
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import APIError, NotFoundError

from common.bus.connection import Bus
from common.bus.errors import StreamMissing, SubjectTaken
from common.bus.facts import message_id
from common.bus.streams import ensure_streams
from common.contracts.jobs import Lane
from common.contracts.readers import UPLOADER
from common.contracts.status import ItemStatus
from common.contracts.streams import DEAD, STATUS, WORK
from common.contracts.work import WorkItem
from common.errors import BusUnavailable
from common.telemetry import get_logger
from common.work.journal import DEAD_PREFIX
from common.work.planner import Planner
from console.ports import Reading

_TAKEN_PATIENCE = 2.0
"""Seconds within which a worker that has told an item's end also removes it from the queue."""
_IN_FLIGHT = 500
_ATTEMPTS = 4

T = TypeVar("T")


class BusWorkQueue:
    """What the console does with WORK. Raises BusUnavailable when the bus does not answer."""

    def __init__(
        self,
        bus: Bus,
        *,
        lease_seconds: float,
        max_in_flight: int,
        limits: Mapping[str, int] | None = None,
        replicas: int | None = None,
    ) -> None:
        """``limits``: items under way at once, for single sources or backends in place of ``max_in_flight``."""
        self._bus = bus
        self._planner = Planner(bus)
        self._lease_seconds = lease_seconds
        self._replicas = replicas
        self._max_in_flight = max_in_flight
        self._limits = dict(limits or {})
        self._shares: dict[str, int] = {}

    def limit_of(self, name: str) -> int | None:
        """The limit that was set for a single source or backend: all jobs together have it."""
        return self._limits.get(name)

    def share(self, lane: Lane, count: int) -> None:
        """What a lane has of its source's limit, after its next :meth:`ensure_lane`."""
        self._shares[lane.consumer] = count

    def limit(self, *, max_in_flight: int | None = None, limits: Mapping[str, int] | None = None) -> None:
        """Other limits from now on; a lane has them after its next :meth:`ensure_lane`."""
        if max_in_flight is not None:
            self._max_in_flight = max_in_flight
        if limits is not None:
            self._limits = dict(limits)

    @property
    def connected(self) -> bool:
        return self._bus.nc.is_connected

    async def ensure_streams(self) -> None:
        """Make the streams that are missing."""
        await _repeat(lambda: ensure_streams(self._bus, replicas=self._replicas))

    async def ensure_lane(self, lane: Lane) -> None:
        """Make a lane's consumer, or bring its settings up to date."""
        limit = self._limits.get(lane.name)
        share = self._shares.get(lane.consumer, limit)
        config = ConsumerConfig(
            durable_name=lane.consumer,
            filter_subject=lane.filter,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self._lease_seconds,
            max_deliver=-1,
            # A lane that has nothing is closed by the job state: none at all would mean no limit here.
            max_ack_pending=self._max_in_flight if limit is None or share is None else max(1, min(limit, share)),
        )
        await _repeat(lambda: self._bus.js.add_consumer(WORK, config))

    async def read_lane(self, lane: Lane) -> Reading | None:
        """What a lane's consumer says of itself; None if it does not exist."""
        return await self._read(WORK, lane.consumer)

    async def read_uploader(self) -> Reading | None:
        """The same of the uploader's consumer of CATALOG."""
        return await self._read(UPLOADER.stream, UPLOADER.name)

    async def purge_lane(self, lane: Lane) -> None:
        """Remove all items of a lane. Always its whole filter: less would strand it on nats-server 2.9.10."""
        await _repeat(lambda: self._bus.js.purge_stream(WORK, subject=lane.filter))

    async def drop_lane(self, lane: Lane) -> None:
        """Remove a lane's items and its consumer."""
        self._shares.pop(lane.consumer, None)
        await self.purge_lane(lane)
        with contextlib.suppress(NotFoundError):
            await _repeat(lambda: self._bus.js.delete_consumer(WORK, lane.consumer), missing=NotFoundError)

    async def plan(self, items: Iterable[WorkItem], *, cause: str, job_id: int, trace: str) -> None:
        """Queue items; the same ``cause`` again changes nothing."""
        await self._planner.put(items, cause=cause, job_id=job_id, trace=trace)

    async def ask_again(
        self, status: ItemStatus, item: WorkItem, lane: Lane, *, cause: str, trace: str, stranded: bool = False
    ) -> None:
        """Show an item as queued and queue it, although it has ended before. It is no dead letter any more.

        ``stranded``: no worker has it, for longer than a lease lasts.
        """
        await self._bus.publish(
            status.subject, status, msg_id=message_id(status.subject, cause), job_id=status.job_id, trace=trace
        )
        await _repeat(lambda: self._bus.js.purge_stream(DEAD, subject=f"{DEAD_PREFIX}.{item.subject}"))
        deadline = asyncio.get_running_loop().time() + _TAKEN_PATIENCE
        while True:
            try:
                await self._bus.publish(
                    item.subject, item, msg_id=message_id(item.subject, cause), job_id=item.job_id, trace=trace
                )
            except SubjectTaken:
                if asyncio.get_running_loop().time() < deadline:
                    await asyncio.sleep(0.1)
                    continue
                if not await self._delivers_nothing(lane, stranded=stranded):
                    return  # it is in the queue, and its status says that it may be done
                await self._remove(item.subject)
                deadline += _TAKEN_PATIENCE
                continue
            return

    async def put_back(self, item: WorkItem, lane: Lane, *, cause: str, trace: str, stranded: bool = False) -> bool:
        """Queue an item that was set aside; False where it is in the queue already. Raises StreamFull.

        ``stranded`` as for :meth:`ask_again`.
        """
        for again in (False, True):
            try:
                await self._bus.publish(
                    item.subject, item, msg_id=message_id(item.subject, cause), job_id=item.job_id, trace=trace
                )
            except SubjectTaken:
                if again or not await self._delivers_nothing(lane, stranded=stranded):
                    return False
                await self._remove(item.subject)
            else:
                return True
        return False

    async def tell(self, statuses: Iterable[ItemStatus], *, cause: str, trace: str) -> None:
        """Publish statuses, many in flight at once."""
        rest = iter(statuses)
        while chunk := list(islice(rest, _IN_FLIGHT)):
            await asyncio.gather(
                *(
                    self._bus.publish(
                        status.subject,
                        status,
                        msg_id=message_id(status.subject, cause),
                        job_id=status.job_id,
                        trace=trace,
                    )
                    for status in chunk
                )
            )

    async def status_end(self) -> int:
        """The last sequence of STATUS."""
        info = await _repeat(lambda: self._bus.js.stream_info(STATUS))
        return info.state.last_seq

    async def _delivers_nothing(self, lane: Lane, *, stranded: bool) -> bool:
        """Whether a lane's consumer will not deliver an item that the queue holds.

        A server that was killed can leave items that no consumer sees any more, and consumers that wait for
        an ack of what they neither have nor deliver again (2.9.10).
        """
        reading = await self.read_lane(lane)
        return reading is not None and (reading.empty or (stranded and reading.pending == 0))

    async def _remove(self, subject: str) -> None:
        get_logger().warning("an item that no consumer delivers is queued anew", subject=subject)
        with contextlib.suppress(NotFoundError):
            stuck = await _repeat(lambda: self._bus.js.get_last_msg(WORK, subject), missing=NotFoundError)
            if stuck.seq is not None:
                await _repeat(lambda: self._bus.js.delete_msg(WORK, stuck.seq or 0))

    async def _read(self, stream: str, consumer: str) -> Reading | None:
        try:
            info = await _repeat(lambda: self._bus.js.consumer_info(stream, consumer), missing=NotFoundError)
        except NotFoundError:
            return None
        return Reading(pending=info.num_pending or 0, unacked=info.num_ack_pending or 0)


async def _repeat(call: Callable[[], Coroutine[Any, Any, T]], *, missing: type[Exception] | None = None) -> T:
    """Do an idempotent request again until it is answered; ``missing`` is an answer too."""
    for attempt in range(_ATTEMPTS):
        try:
            return await call()
        except NotFoundError as error:
            if missing is not None:
                raise
            raise StreamMissing(f"the bus does not know this any more ({error.description})") from None
        except APIError as error:
            raise BusUnavailable(f"the bus refused: {error.description} ({error.err_code})") from None
        except (nats.errors.TimeoutError, nats.errors.NoRespondersError, TimeoutError):
            await asyncio.sleep(0.2 * (attempt + 1))
        except nats.errors.Error as error:
            raise BusUnavailable(f"the bus does not answer ({type(error).__name__})") from None
    raise BusUnavailable("the bus does not answer")
