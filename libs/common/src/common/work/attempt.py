"""One try at one item, from its delivery to its ack."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from enum import Enum

from common.bus.connection import Bus
from common.bus.errors import WrongLastSequence
from common.bus.jobs import JobsFollower
from common.contracts.envelope import Envelope, UndecodableMessage, decode, now
from common.contracts.jobs import ActiveJob
from common.contracts.names import ItemState, Stage
from common.contracts.status import Reason
from common.contracts.work import ITEM_OF_STAGE, WorkItem
from common.settings import Settings
from common.telemetry import LogContext, get_logger
from common.work.context import Handler, ItemContext
from common.work.decide import (
    MAX_DELAY,
    SET_ASIDE_AFTER,
    HoldLane,
    Park,
    Retry,
    after_error,
    after_interruption,
)
from common.work.gate import Gate, Interrupted
from common.work.journal import Journal, Record
from common.work.lease import Lease
from common.work.outcome import Outcome
from common.work.planner import Planner
from common.work.pull import Delivery

_NOT_RUNNING_DELAY = 5.0
"""Seconds before an item of a job that nobody runs is offered again: a purge usually comes first."""
_EARLY = 0.5
"""Seconds by which a redelivery may come before its time."""


class Untried(Enum):
    """The item was not tried, or not to its end: it says nothing of its lane."""

    UNTRIED = "untried"


UNTRIED = Untried.UNTRIED

OnTry = Callable[[Stage, str, str, float], None]
"""Told of a try that has ended: stage, source or backend, how it ended, seconds that it took."""


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
        on_try: OnTry = lambda *_: None,
        in_hand: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """``in_hand``: whether this process works on the item of a subject already."""
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
        self._on_try = on_try
        self._in_hand = in_hand
        self._began = time.monotonic()

    async def run(self, delivery: Delivery) -> HoldLane | Untried | None:
        """Do the item, or give it back. Raises BusUnavailable; the item is then redelivered."""
        try:
            return await self._run(delivery)
        except WrongLastSequence:
            # Another worker has it, or a person decided about it. An answer to the queue would be
            # taken as that worker's, so there is none.
            get_logger().warning("item left to whoever wrote its status since", subject=delivery.subject)
            return UNTRIED

    async def _run(self, delivery: Delivery) -> HoldLane | Untried | None:
        try:
            envelope = decode(delivery.data, ITEM_OF_STAGE[self._stage])
            if envelope.data.subject != delivery.subject:
                raise UndecodableMessage(f"the payload belongs to {envelope.data.subject[:200]}")
        except UndecodableMessage as error:
            await self._refuse(delivery, str(error))
            return None
        item: WorkItem = envelope.data
        # The job state is read after the delivery: a pause that was confirmed before is seen.
        gate = Gate(self._jobs, item)
        _, record = await asyncio.gather(gate.job(), self._journal.read(item))
        # From here to on_start nothing may wait: a heartbeat would tell neither the item nor an older state.
        job, status = await gate.job(), record.status
        if job is None or not job.takes(item.STAGE, item.lane):
            await delivery.nak(_NOT_RUNNING_DELAY if job is None or job.state.ended else 0.0)
            return UNTRIED
        if status.state.ended:
            await delivery.ack()
            return None
        early = (status.next_try_at - now()).total_seconds() if status.next_try_at else 0.0
        if early > _EARLY:
            # Bounded, because another machine's clock may be wrong.
            await _set_aside(delivery, min(early, MAX_DELAY))
            return UNTRIED
        if self._in_hand(item.subject):
            # It was too busy to keep its lease, and has it all the same. This delivery is not answered: the
            # other one's answer counts, and if none comes, the item does.
            get_logger().warning("item delivered again while it is in hand", item=item.title)
            return UNTRIED
        # Threads and tasks of the handler inherit these fields, so that each line of theirs names its item.
        with LogContext(job=item.job_id, stage=str(self._stage), item=item.key, trace=envelope.trace):
            return await self._try(delivery, item, job, gate, record, envelope)

    async def _try(
        self,
        delivery: Delivery,
        item: WorkItem,
        job: ActiveJob,
        gate: Gate,
        record: Record,
        envelope: Envelope[WorkItem],
    ) -> HoldLane | Untried | None:
        trace, tries = envelope.trace, record.status.tries
        # A try is known by the message, and by how often it was delivered.
        cause = f"{item.subject}:{delivery.sequence}:{delivery.delivered}"
        context = ItemContext(
            item=item,
            job=job,
            tries=tries,
            redelivered=delivery.delivered > 1,
            trace=trace,
            cause=f"{item.subject}:{delivery.sequence}:{tries}",
            planner=self._planner,
            on_bytes=self._on_bytes,
        )
        self._on_start(context)
        self._began = time.monotonic()
        try:
            if record.status.state is ItemState.RUNNING:
                record = await self._show_interrupted(record, cause=cause, trace=trace)
                if (park := after_interruption(record.status)) is not None:
                    await self._park(delivery, record, park, cause=cause, trace=trace)
                    return None
            record = await self._journal.write(
                record,
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
            return await self._handle(delivery, item, context, gate, record, cause=cause)
        finally:
            self._on_end(context)

    async def _handle(
        self, delivery: Delivery, item: WorkItem, context: ItemContext, gate: Gate, record: Record, *, cause: str
    ) -> HoldLane | Untried | None:
        async def work() -> Outcome:
            await gate.begin()
            return await self._handler(item, context)

        lease = Lease(delivery=delivery, context=context, settings=self._settings, gate=gate)
        try:
            outcome = await lease.guard(work())
        except Interrupted as interrupted:
            await self._interrupted(delivery, record, interrupted, cause=cause, trace=context.trace)
            return UNTRIED
        except asyncio.CancelledError:
            context.canceled.set()
            reason = Reason(code="worker-stopped", message=f"The worker {self._worker} was stopped; another takes it.")
            self._ended(record, "interrupted")
            await self._give_back(delivery, record, ItemState.INTERRUPTED, reason, cause=cause, trace=context.trace)
            raise
        except Exception as error:  # every type has its decision
            return await self._failed(delivery, record, error, cause=cause, trace=context.trace)
        await self._done(delivery, record, outcome, cause=cause, trace=context.trace)
        return None

    async def _done(self, delivery: Delivery, record: Record, outcome: Outcome, *, cause: str, trace: str) -> None:
        await self._journal.write(
            record,
            cause=cause,
            trace=trace,
            state=outcome.state,
            reason=outcome.reason,
            result=outcome.result,
            ended_at=now(),
        )
        self._ended(record, outcome.state)
        # Not confirmed: it is redelivered, and its status says that it has ended.
        await delivery.ack()

    async def _failed(
        self, delivery: Delivery, record: Record, error: Exception, *, cause: str, trace: str
    ) -> HoldLane | Untried | None:
        status = record.status
        decision = after_error(
            error,
            tries=status.tries,
            max_tries=self._settings.max_tries,
            base_delay=self._settings.retry_delay_seconds,
        )
        log = get_logger().bind(source=status.lane, title=status.title)
        if decision.reason.code == "internal-error":
            log.error("item failed by a bug", exc_info=error)
        if isinstance(decision, Park):
            await self._park(delivery, record, decision, cause=cause, trace=trace)
            return None
        if isinstance(decision, HoldLane):
            log.warning("lane on hold", code=decision.reason.code, reason=decision.reason.message)
            await self._give_back(delivery, record, ItemState.QUEUED, decision.reason, cause=cause, trace=trace)
            self._ended(record, "held")
            return decision
        if decision.counts:
            log.warning("tried again later", code=decision.reason.code, reason=decision.reason.message)
        await self._retry(delivery, record, decision, cause=cause, trace=trace)
        return None

    async def _retry(self, delivery: Delivery, record: Record, decision: Retry, *, cause: str, trace: str) -> None:
        status = record.status
        await self._journal.write(
            record,
            cause=cause,
            trace=trace,
            state=ItemState.QUEUED,
            tries=status.tries + decision.counts,
            reason=decision.reason,
            next_try_at=now() + timedelta(seconds=decision.delay),
        )
        self._ended(record, "retried" if decision.counts else "held")
        if decision.counts:
            await self._journal.log("warning", "tried again later", status, reason=decision.reason.message)
        await _set_aside(delivery, decision.delay)

    async def _park(self, delivery: Delivery, record: Record, decision: Park, *, cause: str, trace: str) -> None:
        status = record.status
        await self._journal.bury(
            subject=delivery.subject,
            payload=delivery.data,
            reason=decision.reason,
            job_id=status.job_id,
            stage=status.stage,
            tries=status.tries + 1,
        )
        await self._journal.write(
            record,
            cause=cause,
            trace=trace,
            state=ItemState.FAILED,
            tries=status.tries + 1,
            permanent=decision.permanent,
            reason=decision.reason,
            ended_at=now(),
        )
        self._ended(record, ItemState.FAILED)
        get_logger().error("failed", title=status.title, code=decision.reason.code, reason=decision.reason.message)
        await self._journal.log("error", "failed", status, reason=decision.reason.message)
        await delivery.term()

    async def _show_interrupted(self, record: Record, *, cause: str, trace: str) -> Record:
        status = record.status
        reason = Reason(
            code="worker-lost",
            message=f"The worker {status.worker or 'before'} ended without finishing; taken up again.",
        )
        return await self._journal.write(
            record,
            cause=cause,
            trace=trace,
            state=ItemState.INTERRUPTED,
            reason=reason,
            interruptions=status.interruptions + 1,
        )

    async def _interrupted(
        self, delivery: Delivery, record: Record, interrupted: Interrupted, *, cause: str, trace: str
    ) -> None:
        self._ended(record, "interrupted")
        get_logger().warning("item interrupted", title=record.status.title, reason=interrupted.reason.message)
        if not interrupted.ours:
            return  # whoever has it now, or canceled it, says what becomes of it
        interruptions = record.status.interruptions + 1
        counted = replace(record, status=record.status.model_copy(update={"interruptions": interruptions}))
        await self._give_back(delivery, counted, ItemState.INTERRUPTED, interrupted.reason, cause=cause, trace=trace)

    async def _give_back(
        self,
        delivery: Delivery,
        record: Record,
        state: ItemState,
        reason: Reason,
        *,
        cause: str,
        trace: str,
    ) -> None:
        await self._journal.write(record, cause=cause, trace=trace, state=state, reason=reason)
        await delivery.nak()

    def _ended(self, record: Record, outcome: str) -> None:
        self._on_try(record.status.stage, record.status.lane, outcome, time.monotonic() - self._began)

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


async def _set_aside(delivery: Delivery, delay: float) -> None:
    """Let an item wait whose status says until when.

    Out of the queue, if that is long: the console puts it back in time. In it, many that wait would fill
    what one lane may have under way.
    """
    if delay > SET_ASIDE_AFTER:
        await delivery.ack()
    else:
        await delivery.nak(delay)
