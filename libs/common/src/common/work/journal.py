"""Saying what happened to an item: its status, its dead letter, its line in the log."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from typing import Any, Literal

from common.bus.connection import Bus
from common.bus.facts import message_id
from common.contracts.envelope import UndecodableMessage, decode, now
from common.contracts.names import ItemState, Stage
from common.contracts.status import DeadLetter, ItemStatus, LogEntry, Reason
from common.contracts.streams import STATUS
from common.contracts.work import WorkItem
from common.telemetry import get_logger

DEAD_PREFIX = "dead"
_ENVELOPE_ROOM = 16 * 1024
"""Bytes of a dead letter beside the payload that it keeps."""


@dataclass(frozen=True, slots=True)
class Record:
    """An item's last status, and its place in the stream: who writes the next must have seen this one."""

    status: ItemStatus
    sequence: int = 0


class Journal:
    """Writes STATUS, DEAD and LOG for one worker."""

    def __init__(self, *, bus: Bus, service: str, instance: str) -> None:
        self._bus = bus
        self._service = service
        self._instance = instance

    async def read(self, item: WorkItem) -> Record:
        """The item's last status; a fresh one where there is none, or none that can be read."""
        stored = await self._bus.last(STATUS, item.status_subject)
        if stored is not None:
            try:
                return Record(decode(stored.data, ItemStatus).data, stored.sequence)
            except UndecodableMessage as error:
                get_logger().warning("a status is not one of ours; begun anew", title=item.title, reason=str(error))
        fresh = ItemStatus(
            job_id=item.job_id,
            stage=item.STAGE,
            lane=item.lane,
            key=item.key,
            title=item.title,
            state=ItemState.QUEUED,
            request=item.model_dump(mode="json", exclude_defaults=True),
        )
        return Record(fresh, stored.sequence if stored is not None else 0)

    async def write(self, record: Record, *, cause: str, trace: str | None, **changes: Any) -> Record:
        """Publish the next status of an item, and return it.

        Raises WrongLastSequence when somebody else wrote one since: another worker has the item, or
        a person decided about it.
        """
        status = record.status.model_copy(update=changes)
        subject = status.subject
        # The id names the transition: from which status, by whom and to what.
        transition = f"{cause}:{record.sequence}:{self._instance}:{status.state}"
        sequence = await self._bus.publish(
            subject,
            status,
            msg_id=message_id(subject, transition),
            job_id=status.job_id,
            trace=trace,
            expect_last=record.sequence,
        )
        return replace(record, status=status, sequence=sequence)

    async def bury(
        self, *, subject: str, payload: bytes, reason: Reason, job_id: int, stage: Stage, tries: int
    ) -> None:
        """Keep what could not be handled, with its reason and itself."""
        # In base64 it grows by a third, and must fit into one message.
        room = self._bus.nc.max_payload * 3 // 4 - _ENVELOPE_ROOM
        if len(payload) > room:
            note = f"{reason.message} (Only the first {room} of {len(payload)} bytes are kept.)"
            reason, payload = Reason(code=reason.code, message=note), payload[:room]
        letter = DeadLetter(
            from_subject=subject,
            reason=reason,
            payload=base64.b64encode(payload).decode(),
            job_id=job_id,
            stage=stage,
            tries=tries,
        )
        where = f"{DEAD_PREFIX}.{subject}"
        await self._bus.publish(where, letter, msg_id=message_id(where, now().isoformat()), job_id=job_id)

    async def log(
        self, level: Literal["info", "warning", "error"], event: str, status: ItemStatus, **fields: Any
    ) -> None:
        """A line for the log on the console; sent, not waited for."""
        entry = LogEntry(
            service=self._service,
            instance=self._instance,
            level=level,
            event=event,
            job_id=status.job_id,
            stage=status.stage,
            item=status.title,
            fields=fields,
        )
        await self._bus.send(f"log.{self._service}.{status.job_id}", entry, id=message_id(event, now().isoformat()))
