"""The facts of stored files on the bus."""

from __future__ import annotations

from dataclasses import dataclass

from common.bus import Bus, FactWriter, WrongLastSequence
from common.bus.facts import message_id
from common.contracts.envelope import UndecodableMessage, decode
from common.contracts.facts import FileStored
from common.contracts.names import MAIN_VARIANT
from common.contracts.streams import CATALOG
from common.errors import PermanentError
from common.work import ItemContext


@dataclass(frozen=True, kw_only=True)
class Known:
    """The last fact of a song's file in one backend. ``sequence`` 0: there is none."""

    fact: FileStored | None
    sequence: int
    id: str


class StoredFacts:
    """Reads and writes ``file.stored``."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._writer = FactWriter(bus)

    async def read(self, backend: str, song_id: int) -> Known:
        """What is known of the song in ``backend``. Raises PermanentError when that cannot be read."""
        subject = subject_of(backend, song_id)
        stored = await self._bus.last(CATALOG, subject)
        if stored is None:
            return Known(fact=None, sequence=0, id="")
        try:
            envelope = decode(stored.data, FileStored)
        except UndecodableMessage as error:
            raise PermanentError(
                f"What is known of this song cannot be read: {error}.", code="fact-undecodable"
            ) from None
        return Known(fact=envelope.data, sequence=stored.sequence, id=envelope.id)

    async def publish(self, fact: FileStored, *, after: Known, context: ItemContext) -> None:
        """Publish ``fact`` as the next after ``after``.

        Raises WrongLastSequence when another copy published meanwhile.
        """
        revision = after.fact.revision + 1 if after.fact is not None else 1
        await self._bus.publish(
            fact.subject,
            fact.model_copy(update={"revision": revision}),
            msg_id=message_id(fact.subject, context.cause),
            job_id=context.job.job_id,
            trace=context.trace,
            expect_last=after.sequence,
        )

    async def replace(self, fact: FileStored, *, context: ItemContext) -> None:
        """Publish ``fact`` whatever was published meanwhile."""
        await self._writer.publish(fact, cause=context.cause, job_id=context.job.job_id, trace=context.trace)


def is_of(known: Known, backend: str, song_id: int, cause: str) -> bool:
    """Whether the fact came from the try that ``cause`` names."""
    return known.id == message_id(subject_of(backend, song_id), cause)


def subject_of(backend: str, song_id: int) -> str:
    return f"file.stored.{backend}.{song_id}.{MAIN_VARIANT}"


__all__ = ["Known", "StoredFacts", "WrongLastSequence", "is_of", "subject_of"]
