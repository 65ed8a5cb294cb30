"""Putting the items of jobs that have not ended back into WORK, from their last STATUS."""

from __future__ import annotations

import asyncio

from pydantic import ValidationError

from cli.backup.records import Record
from cli.backup.streams import read_stream, write_stream
from common.bus import Bus, StreamFull, SubjectTaken
from common.bus.facts import message_id
from common.contracts.envelope import Envelope, UndecodableMessage, decode, encode, now, wrap
from common.contracts.names import ItemState
from common.contracts.status import ItemStatus, Reason
from common.contracts.streams import STATUS
from common.contracts.work import ITEM_OF_STAGE

_IN_FLIGHT = 200
_BETWEEN = Reason(
    code="restored-between",
    message="Its job had ended when the backup was made, and this item was asked for again just then. Retry it.",
)


async def put_back(bus: Bus, unended: set[int] | None) -> int:
    """Queue what STATUS shows as not ended; return how many.

    Every item is shown in STATUS before it is in WORK, so that nothing is missed; its tries and its
    reason stand in STATUS, and stay. ``unended``: the jobs that the console knows as not ended; items of
    others can never run and are told as failed. None: no console's database, all are queued.
    """
    count = 0
    ended: list[Record] = []
    async for batch in read_stream(bus, STATUS):
        waiting = [found for record in batch if (found := _unended(record)) is not None]
        mine = [one for one in waiting if unended is None or one.data.job_id in unended]
        for start in range(0, len(mine), _IN_FLIGHT):
            count += sum(await asyncio.gather(*(_queue(bus, one) for one in mine[start : start + _IN_FLIGHT])))
        ended += [_failed(bus, one) for one in waiting if unended is not None and one.data.job_id not in unended]
    await write_stream(bus, ended)
    return count


def _unended(record: Record) -> Envelope[ItemStatus] | None:
    try:
        envelope = decode(record.data, ItemStatus)
    except UndecodableMessage:
        return None
    return None if envelope.data.state.ended else envelope


async def _queue(bus: Bus, envelope: Envelope[ItemStatus]) -> bool:
    status = envelope.data
    try:
        item = ITEM_OF_STAGE[status.stage].model_validate(status.request)
    except ValidationError:
        return False  # the console ends it with its reason, as it does for any item that was lost
    if item.status_subject != status.subject:
        return False
    cause = f"restore:{envelope.id}"
    try:
        await bus.publish(
            item.subject, item, msg_id=message_id(item.subject, cause), job_id=status.job_id, trace=envelope.trace
        )
    except (SubjectTaken, StreamFull):
        return False
    return True


def _failed(bus: Bus, envelope: Envelope[ItemStatus]) -> Record:
    status = envelope.data.model_copy(
        update={"state": ItemState.FAILED, "reason": _BETWEEN, "next_try_at": None, "ended_at": now()}
    )
    id = message_id(status.subject, f"restore:{envelope.id}")
    told = wrap(status, id=id, producer=bus.producer, job_id=status.job_id, trace=envelope.trace)
    return Record(0, status.subject, 0, encode(told), {"Nats-Msg-Id": id})
