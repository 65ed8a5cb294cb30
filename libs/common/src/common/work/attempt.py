"""One try at one item, from its delivery to its ack."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from enum import Enum

from common.bus.connection import Bus
from common.bus.jobs import JobsFollower
from common.contracts.envelope import Envelope, UndecodableMessage, decode, now
from common.contracts.jobs import ActiveJob
from common.contracts.names import ItemState, JobState, Stage
from common.contracts.status import ItemStatus, Reason
from common.contracts.work import ITEM_OF_STAGE, WorkItem
from common.errors import BusUnavailable
from common.settings import Settings
from common.telemetry import get_logger
from common.work.context import Handler, ItemContext
from common.work.decide import HoldLane, Park, Retry, after_error, after_interruption
from common.work.journal import Journal
from common.work.lease import Interrupted, Lease
from common.work.outcome import Outcome
from common.work.planner import Planner
from common.work.pull import Delivery

_NOT_RUNNING_DELAY = 5.0
"""Seconds before an item of a job that nobody runs is offered again: a purge usually comes first."""
_EARLY = 0.5
"""Seconds by which a redelivery may come before its time."""


class Untried(Enum):
    """The item went back without a try: it says nothing of its lane."""

    UNTRIED = "untried"


UNTRIED = Untried.UNTRIED


class Attempt:
    """Handles one delivery. Order: effect, what follows from it, status, ack."""

    def __init__(
        self,
        *,
        bus: Bus,
        jobs: JobsFollower,
        journal: Journal,
        planner: Planner,
        handler: Handler,
        stage: Stage,
        settings: Settings,
        worker: str,
        on_bytes: Callable[[int], None],
        on_start: Callable[[ItemContext], None],
        on_end: Callable[[ItemContext], None],
    ) -> None:
        self._bus = bus
        self._jobs = jobs
        self._journal = journal
        self._planner = planner
        self._handler = handler
        self._stage = stage
        self._settings = settings
        self._worker = worker
        self._on_bytes = on_bytes
        self._on_start = on_start
        self._on_end = on_end

    async def run(self, delivery: Delivery) -> HoldLane | Untried | None:
        """Do the item, or give it back. Raises BusUnavailable; the item is then redelivered."""
        try:
            envelope = decode(delivery.data, ITEM_OF_STAGE[self._stage])
            if envelope.data.subject != delivery.subject:
                raise UndecodableMessage(f"the payload belongs to {envelope.data.subject[:200]}")
        except UndecodableMessage as error:
            await self._refuse(delivery, str(error))
            return None
        item: WorkItem = envelope.data
        # The job state is read after the delivery: a pause that was confirmed before is seen.
        state, status = await asyncio.gather(self._jobs.refresh(), self._journal.read(item))
        job = state.job(item.job_id)
        if job is None or not job.takes_items:
            paused = job is not None and job.state in {JobState.PAUSED, JobState.PAUSE_REQUESTED}
            await delivery.nak(0.0 if paused else _NOT_RUNNING_DELAY)
            return UNTRIED
        if status.state.ended:
            await delivery.ack()
            return None
        early = (status.next_try_at - now()).total_seconds() if status.next_try_at else 0.0
        if early > _EARLY:
            await delivery.nak(early)
            return UNTRIED
        return await self._try(delivery, item, job, status, envelope)

    async def _try(
        self, delivery: Delivery, item: WorkItem, job: ActiveJob, status: ItemStatus, envelope: Envelope[WorkItem]
    ) -> HoldLane | Untried | None:
        trace = envelope.trace
        # A try is known by the message, and by how often it was delivered.
        cause = f"{item.subject}:{delivery.sequence}:{delivery.delivered}"
        if status.state is ItemState.RUNNING:
            status = await self._show_interrupted(status, cause=cause, trace=trace)
            if (park := after_interruption(status)) is not None:
                await self._park(delivery, status, park, cause=cause, trace=trace)
                return None
        context = ItemContext(
            item=item,
            job=job,
            tries=status.tries,
            redelivered=delivery.delivered > 1,
            trace=trace,
            cause=f"{item.subject}:{delivery.sequence}:{status.tries}",
            planner=self._planner,
            on_bytes=self._on_bytes,
        )
        self._on_start(context)
        try:
            status = await self._journal.write(
                status,
                cause=cause,
                trace=trace,
                state=ItemState.RUNNING,
                worker=self._worker,
                started_at=context.started_at,
                ended_at=None,
                next_try_at=None,
                reason=None,
                max_tries=self._settings.max_tries,
            )
            return await self._handle(delivery, item, context, status, cause=cause)
        finally:
            self._on_end(context)

    async def _handle(
        self, delivery: Delivery, item: WorkItem, context: ItemContext, status: ItemStatus, *, cause: str
    ) -> HoldLane | Untried | None:
        lease = Lease(delivery=delivery, context=context, settings=self._settings)
        try:
            outcome = await lease.guard(self._handler(item, context))
        except Interrupted as interrupted:
            await self._interrupted(delivery, status, interrupted, cause=cause, trace=context.trace)
            return None
        except asyncio.CancelledError:
            context.canceled.set()
            reason = Reason(code="worker-stopped", message=f"The worker {self._worker} was stopped; another takes it.")
            await self._give_back(delivery, status, ItemState.INTERRUPTED, reason, cause=cause, trace=context.trace)
            raise
        except Exception as error:  # every type has its decision
            return await self._failed(delivery, status, error, cause=cause, trace=context.trace)
        await self._done(delivery, status, outcome, cause=cause, trace=context.trace)
        return None

    async def _done(self, delivery: Delivery, status: ItemStatus, outcome: Outcome, *, cause: str, trace: str) -> None:
        await self._journal.write(
            status,
            cause=cause,
            trace=trace,
            state=outcome.state,
            reason=outcome.reason,
            result=outcome.result,
            ended_at=now(),
        )
        # Not confirmed: it is redelivered, and its status says that it has ended.
        await delivery.ack()

    async def _failed(
        self, delivery: Delivery, status: ItemStatus, error: Exception, *, cause: str, trace: str
    ) -> HoldLane | Untried | None:
        decision = after_error(
            error,
            tries=status.tries,
            max_tries=self._settings.max_tries,
            base_delay=self._settings.retry_delay_seconds,
        )
        log = get_logger().bind(job=status.job_id, stage=str(status.stage), item=status.title)
        if decision.reason.code == "internal-error":
            log.error("item failed by a bug", exc_info=error)
        if isinstance(decision, Park):
            await self._park(delivery, status, decision, cause=cause, trace=trace)
            return None
        if isinstance(decision, HoldLane):
            log.warning("lane on hold", reason=decision.reason.message)
            if not isinstance(error, BusUnavailable):
                await self._give_back(delivery, status, ItemState.QUEUED, decision.reason, cause=cause, trace=trace)
            return decision
        await self._retry(delivery, status, decision, cause=cause, trace=trace)
        return None

    async def _retry(self, delivery: Delivery, status: ItemStatus, decision: Retry, *, cause: str, trace: str) -> None:
        await self._journal.write(
            status,
            cause=cause,
            trace=trace,
            state=ItemState.QUEUED,
            tries=status.tries + 1,
            reason=decision.reason,
            next_try_at=now() + timedelta(seconds=decision.delay),
        )
        await self._journal.log("warning", "tried again later", status, reason=decision.reason.message)
        await delivery.nak(decision.delay)

    async def _park(self, delivery: Delivery, status: ItemStatus, decision: Park, *, cause: str, trace: str) -> None:
        await self._journal.bury(
            subject=delivery.subject,
            payload=delivery.data,
            reason=decision.reason,
            job_id=status.job_id,
            stage=status.stage,
            tries=status.tries + 1,
        )
        await self._journal.write(
            status,
            cause=cause,
            trace=trace,
            state=ItemState.FAILED,
            tries=status.tries + 1,
            permanent=decision.permanent,
            reason=decision.reason,
            ended_at=now(),
        )
        await self._journal.log("error", "failed", status, reason=decision.reason.message)
        await delivery.term()

    async def _show_interrupted(self, status: ItemStatus, *, cause: str, trace: str) -> ItemStatus:
        reason = Reason(
            code="worker-lost",
            message=f"The worker {status.worker or 'before'} ended without finishing; taken up again.",
        )
        return await self._journal.write(
            status,
            cause=cause,
            trace=trace,
            state=ItemState.INTERRUPTED,
            reason=reason,
            interruptions=status.interruptions + 1,
        )

    async def _interrupted(
        self, delivery: Delivery, status: ItemStatus, interrupted: Interrupted, *, cause: str, trace: str
    ) -> None:
        if interrupted.lane_gone:
            return  # canceled: whoever removed the consumer also says so of its items
        counted = status.model_copy(update={"interruptions": status.interruptions + 1})
        await self._give_back(delivery, counted, ItemState.INTERRUPTED, interrupted.reason, cause=cause, trace=trace)

    async def _give_back(
        self,
        delivery: Delivery,
        status: ItemStatus,
        state: ItemState,
        reason: Reason,
        *,
        cause: str,
        trace: str,
    ) -> None:
        await self._journal.write(status, cause=f"{cause}:back", trace=trace, state=state, reason=reason)
        await delivery.nak()

    async def _refuse(self, delivery: Delivery, why: str) -> None:
        """A payload that is not ours: kept in DEAD with its reason, and out of the way."""
        get_logger().error("undecodable item", subject=delivery.subject, reason=why)
        tokens = delivery.subject.split(".")
        job = next((int(token) for token in tokens if token.isdigit()), 0)
        await self._journal.bury(
            subject=delivery.subject,
            payload=delivery.data,
            reason=Reason(code="undecodable", message=f"This message is not one of ours: {why}."),
            job_id=job,
            stage=self._stage,
            tries=0,
        )
        await delivery.term()
