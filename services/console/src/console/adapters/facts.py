"""The facts that the console answers for, and what it looks up in CATALOG and DEAD."""

from __future__ import annotations

import base64
import secrets
from typing import Any

from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.errors import NotFoundError

from common.bus.connection import Bus
from common.bus.facts import FactWriter
from common.contracts.envelope import UndecodableMessage, decode
from common.contracts.facts import BackendDefined, FileStored
from common.contracts.names import LIBRARY_BACKEND, MAIN_VARIANT
from common.contracts.status import DeadLetter
from common.contracts.streams import CATALOG, DEAD
from common.errors import BusUnavailable

LOCAL_BACKEND = "local"
"""The mounted folder, where its files are referred to in place."""
_PREVIEW = 2_000
"""Characters of a dead letter's payload that a list shows."""


class CatalogDesk:
    """Reads and writes single facts."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._writer = FactWriter(bus)

    async def define(self, backend: BackendDefined) -> None:
        """Publish where files are kept, if that is not known so."""
        known = await self._bus.last_message(CATALOG, backend.subject, BackendDefined)
        if known is not None and known.data.model_copy(update={"revision": 0}) == backend:
            return
        await self._writer.publish(backend, cause=f"settings:{secrets.token_hex(8)}")

    async def stored(self, song_id: int, *, backend: str | None) -> FileStored | None:
        """The file of a song, in ``backend`` or in the first file system that has one."""
        for name in (backend,) if backend else (LIBRARY_BACKEND, LOCAL_BACKEND):
            found = await self._bus.last_message(CATALOG, f"file.stored.{name}.{song_id}.{MAIN_VARIANT}", FileStored)
            if found is not None and not found.data.removed:
                return found.data
        return None

    async def dead_letters(self, *, after: int, limit: int) -> list[dict[str, Any]]:
        """Dead letters with a sequence above ``after``, oldest first."""
        letters: list[dict[str, Any]] = []
        sequence = after
        while len(letters) < limit:
            try:
                raw = await self._bus.js.get_msg(DEAD, sequence + 1, subject="dead.>", next=True, direct=True)
            except NotFoundError:
                break
            except (NatsTimeout, NoRespondersError):
                raise BusUnavailable("the bus did not answer") from None
            sequence = raw.seq or sequence + 1
            letters.append(_letter(sequence, raw.subject or "", raw.data or b""))
        return letters


def _letter(sequence: int, subject: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": sequence, "subject": subject}
    try:
        envelope = decode(data, DeadLetter)
    except UndecodableMessage:
        reason = {"code": "undecodable", "message": "This dead letter is not one of ours."}
        return entry | {"reason": reason, "payload": data[:_PREVIEW].decode("utf-8", "replace")}
    letter = envelope.data
    try:
        payload = base64.b64decode(letter.payload, validate=True)[:_PREVIEW].decode("utf-8", "replace")
    except ValueError:
        payload = letter.payload[:_PREVIEW]
    return entry | {
        "from_subject": letter.from_subject,
        "reason": letter.reason.model_dump(),
        "job_id": letter.job_id,
        "stage": letter.stage,
        "tries": letter.tries,
        "at": envelope.time.isoformat(),
        "payload": payload,
    }
