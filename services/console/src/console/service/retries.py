"""Asking for an item again, from what its last status keeps of it."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import ValidationError

from common.contracts.envelope import now
from common.contracts.jobs import Lane
from common.contracts.names import Command, ItemState
from common.contracts.status import ItemStatus, Reason
from common.contracts.work import ITEM_OF_STAGE, WorkItem
from common.telemetry import get_logger
from console.errors import NotFound, Refused
from console.ports import Item, Items, Job, PendingCommand, Wish, WorkQueue
from console.service.drafts import lanes_of
from console.service.lifecycle import check_retry


def request_of(status: ItemStatus, *, force: bool) -> WorkItem:
    """The work item that ``status`` tells of. Raises Refused when its request is not kept or not readable."""
    changes: dict[str, Any] = {"force": True} if force else {}
    model = ITEM_OF_STAGE[status.stage]
    try:
        item = model.model_validate({**status.request, **{k: v for k, v in changes.items() if k in model.model_fields}})
    except ValidationError:
        raise Refused("What this item asked for is not known any more; start a new job.", code="request-lost") from None
    if item.status_subject != status.subject:
        raise Refused("What is kept of this item belongs to another one; start a new job.", code="request-lost")
    return item


def fresh(status: ItemStatus) -> ItemStatus:
    """The status of an item that waits as if it had never been tried."""
    return status.model_copy(
        update={
            "state": ItemState.QUEUED,
            "tries": 0,
            "interruptions": 0,
            "permanent": False,
            "worker": None,
            "reason": None,
            "next_try_at": None,
            "queued_at": now(),
            "started_at": None,
            "ended_at": None,
            "result": {},
        }
    )


def canceled(status: ItemStatus) -> ItemStatus:
    """The status of an item that was canceled with its job."""
    reason = Reason(code="canceled", message="The job was canceled.")
    return status.model_copy(
        update={"state": ItemState.CANCELED, "reason": reason, "next_try_at": None, "ended_at": now()}
    )


def lost(status: ItemStatus) -> ItemStatus:
    """The status of an item that vanished from the queue again and again."""
    reason = Reason(
        code="item-lost",
        message="This item left the queue several times without an answer. Retry it when the bus is well.",
    )
    return status.model_copy(
        update={"state": ItemState.FAILED, "reason": reason, "next_try_at": None, "ended_at": now()}
    )


def prepare(job: Job, item: Item, *, force: bool) -> tuple[WorkItem, Lane]:
    """The work item and its lane. Raises Refused when it cannot be asked for again."""
    work = request_of(item.status, force=force)
    for lane in lanes_of(job.job_id, job.draft):
        if lane.stage is work.STAGE and lane.name == work.lane:
            return work, lane
    raise Refused(f"This job does not serve {work.lane!r}; start a new job with that source.", code="no-lane")


async def ask_again(queue: WorkQueue, job: Job, item: Item, *, force: bool, cause: str, stranded: bool = False) -> None:
    """Queue an item anew, shown first. ``stranded``: no worker has it. Raises Refused when that cannot be."""
    work, lane = prepare(job, item, force=force)
    await queue.ask_again(fresh(item.status), work, lane, cause=cause, trace=job.trace, stranded=stranded)


_PAGE = 200
_AT_ONCE = 1000
"""Items that one command asks for again before others have their turn."""


class Retries:
    """Carries out retries. Done again after a crash, it asks for what still counts as failed."""

    def __init__(self, *, items: Items, queue: WorkQueue) -> None:
        self._items = items
        self._queue = queue
        self._reached: dict[int, int] = {}

    def check(self, job: Job, wish: Wish) -> str | None:
        """The title of the one item that ``wish`` asks for; None where it asks for all that failed. Blocks.

        Raises NotFound, and Refused when nothing of it can be done.
        """
        if wish.item_id is None:
            self._check_failed(job, wish)
            return None
        item = self._items.get(job.job_id, wish.item_id)
        if item is None:
            raise NotFound(f"Job {job.job_id} has no item {wish.item_id}.", code="no-such-item")
        force = wish.command is Command.FORCE_RETRY_ITEM
        check_retry(item.status.state, force=force, set_aside=item.status.next_try_at is not None)
        prepare(job, item, force=force)
        return item.status.title

    def _check_failed(self, job: Job, wish: Wish) -> None:
        kind = f" for the reason {wish.error_code!r}" if wish.error_code else ""
        why, after = Refused(f"Nothing of job {job.job_id} has failed{kind}.", code="nothing-failed"), 0
        while page := self._items.failed(job.job_id, error_code=wish.error_code, after=after, limit=_PAGE):
            for item in page:
                try:
                    prepare(job, item, force=False)
                except Refused as refused:
                    why = refused
                else:
                    return
            after = page[-1].item_id
        raise why

    async def carry_out(self, job: Job, pending: PendingCommand) -> bool:
        """Ask for the items again; False when some are left for the next time. Raises BusUnavailable."""
        wish = pending.wish
        cause = f"command:{job.trace}:{pending.command_id}"
        if wish.item_id is not None:
            item = await asyncio.to_thread(self._items.get, job.job_id, wish.item_id)
            if item is not None:
                await self._ask_again(job, item, force=wish.command is Command.FORCE_RETRY_ITEM, cause=cause)
            return True
        asked = 0
        while page := await asyncio.to_thread(
            self._items.failed,
            job.job_id,
            error_code=wish.error_code,
            after=self._reached.get(pending.command_id, 0),
            limit=_PAGE,
        ):
            if asked >= _AT_ONCE:
                return False
            await asyncio.gather(*(self._ask_again(job, item, force=False, cause=cause) for item in page))
            self._reached[pending.command_id] = page[-1].item_id
            asked += len(page)
        self._reached.pop(pending.command_id, None)
        return True

    async def _ask_again(self, job: Job, item: Item, *, force: bool, cause: str) -> None:
        try:
            await ask_again(self._queue, job, item, force=force, cause=cause)
        except Refused as refused:
            # It could be done when it was accepted; what is gone since is not waited for.
            get_logger().warning("a retry cannot be done any more", job=job.job_id, reason=refused.message)
