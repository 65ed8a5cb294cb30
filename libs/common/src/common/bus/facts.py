"""Writing facts: a revision that grows per key, and no lost update."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from itertools import islice

from common.bus.connection import Bus
from common.bus.errors import WrongLastSequence
from common.contracts.envelope import UndecodableMessage, decode
from common.contracts.facts import Fact
from common.contracts.streams import CATALOG
from common.errors import TransientError

IN_FLIGHT = 500
"""Publications under way at once: enough for 50,000 a second, small enough to bound memory."""
_ATTEMPTS = 5


def message_id(subject: str, cause: str) -> str:
    """The Nats-Msg-Id: hash of the subject and what caused it, never of the content.

    Stored, removed and stored again are three facts: an id made from content would drop the third.
    """
    return hashlib.sha256(f"{subject}\n{cause}".encode()).hexdigest()[:32]


class FactWriter:
    """Publishes facts into CATALOG."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def publish(
        self, fact: Fact, *, cause: str, job_id: int | None = None, trace: str | None = None, fresh: bool = False
    ) -> int:
        """Publish ``fact`` with the next revision of its key; return its sequence.

        The same ``cause`` twice is one fact. ``fresh`` says that the key most likely has no fact
        yet, which saves a look; it may be wrong. Raises TransientError when others keep writing the key.
        """
        id = message_id(fact.subject, cause)
        for attempt in range(_ATTEMPTS):
            stored = None if fresh and attempt == 0 else await self._bus.last(CATALOG, fact.subject)
            revision, expected = 1, 0
            if stored is not None:
                expected = stored.sequence
                try:
                    last = decode(stored.data, type(fact))
                except UndecodableMessage:
                    # Not ours. A sequence is higher than any revision that was before it.
                    revision = stored.sequence
                else:
                    if last.id == id:
                        return stored.sequence
                    revision = last.data.revision + 1
            try:
                return await self._bus.publish(
                    fact.subject,
                    fact.model_copy(update={"revision": revision}),
                    msg_id=id,
                    job_id=job_id,
                    trace=trace,
                    expect_last=expected,
                )
            except WrongLastSequence:
                continue
        raise TransientError(f"{fact.TYPE} is being written by somebody else; it is tried again", code="fact-contended")

    async def add(self, fact: Fact, *, cause: str) -> bool:
        """Publish ``fact`` if its key has none, not even a withdrawn one; return whether it was published."""
        try:
            await self._bus.publish(
                fact.subject,
                fact.model_copy(update={"revision": 1}),
                msg_id=message_id(fact.subject, cause),
                expect_last=0,
            )
        except WrongLastSequence:
            return False
        return True

    async def publish_many(
        self,
        facts: Iterable[Fact],
        *,
        cause: str,
        job_id: int | None = None,
        trace: str | None = None,
        fresh: bool = False,
    ) -> int:
        """Publish facts of different keys, many in flight at once; return how many. Order is not kept."""
        rest, count = iter(facts), 0
        while chunk := list(islice(rest, IN_FLIGHT)):
            await asyncio.gather(
                *(self.publish(fact, cause=cause, job_id=job_id, trace=trace, fresh=fresh) for fact in chunk)
            )
            count += len(chunk)
        return count
