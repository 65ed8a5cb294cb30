"""Saying what happened to an item: its status, its dead letter, its line in the log."""

from __future__ import annotations

import base64
from typing import Any, Literal

from common.bus.connection import Bus
from common.bus.facts import message_id
from common.contracts.envelope import decode, now
from common.contracts.names import ItemState, Stage
from common.contracts.status import DeadLetter, ItemStatus, LogEntry, Reason
from common.contracts.streams import STATUS
from common.contracts.work import WorkItem

DEAD_PREFIX = "dead"


class Journal:
    """Writes STATUS, DEAD and LOG for one worker."""

    def __init__(self, *, bus: Bus, service: str, instance: str) -> None:
        self._bus = bus
        self._service = service
        self._instance = instance

    async def read(self, item: WorkItem) -> ItemStatus:
        """The item's last status; a fresh one where there is none."""
        stored = await self._bus.last(STATUS, item.status_subject)
        if stored is not None:
            return decode(stored.data, ItemStatus).data
        return ItemStatus(
            job_id=item.job_id,
            stage=item.STAGE,
            lane=item.lane,
            key=item.key,
            title=item.title,
            state=ItemState.QUEUED,
            request=item.model_dump(mode="json", exclude_defaults=True),
        )

    async def write(self, status: ItemStatus, *, cause: str, trace: str | None, **changes: Any) -> ItemStatus:
        """Publish the next status of an item, and return it."""
        status = status.model_copy(update=changes)
        subject = status.subject
        await self._bus.publish(
            subject,
            status,
            msg_id=message_id(subject, f"{cause}:{status.state}"),
            job_id=status.job_id,
            trace=trace,
        )
        return status

    async def bury(
        self, *, subject: str, payload: bytes, reason: Reason, job_id: int, stage: Stage, tries: int
    ) -> None:
        """Keep what could not be handled, with its reason and itself."""
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
