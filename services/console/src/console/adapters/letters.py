"""The stream DEAD: what could not be handled, with its reason and itself."""

from __future__ import annotations

import base64
import contextlib
import secrets
from typing import Any

import nats.errors
from nats.js.errors import APIError, NotFoundError

from common.bus.connection import Bus
from common.contracts.envelope import UndecodableMessage, decode
from common.contracts.status import DeadLetter
from common.contracts.streams import DEAD
from common.errors import BusUnavailable
from console.ports import Letter

_PREVIEW = 2_000
"""Characters of a payload that a list shows."""


class DeadLetters:
    """Reads, puts back and removes dead letters. Raises BusUnavailable."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def page(self, *, after: int, limit: int) -> list[Letter]:
        """Letters with a sequence above ``after``, oldest first."""
        letters: list[Letter] = []
        sequence = after
        while len(letters) < limit and (letter := await self._read(sequence + 1, following=True)) is not None:
            letters.append(letter)
            sequence = letter.sequence
        return letters

    async def last(self) -> int:
        """The sequence of the newest letter there ever was."""
        try:
            return (await self._bus.js.stream_info(DEAD)).state.last_seq
        except APIError as error:
            raise BusUnavailable(f"the bus refused: {error.description}") from None
        except (nats.errors.Error, TimeoutError):
            raise BusUnavailable("the bus did not answer") from None

    async def get(self, sequence: int) -> Letter | None:
        """One letter, if it is still there."""
        return await self._read(sequence, following=False)

    async def put_back(self, letter: Letter) -> None:
        """Publish what the letter keeps where it came from. Raises SubjectTaken when an item is there already."""
        await self._bus.publish_raw(letter.from_subject, letter.payload, msg_id=secrets.token_hex(8))

    async def remove(self, sequence: int) -> None:
        """Forget a letter; nothing where it is gone."""
        try:
            with contextlib.suppress(NotFoundError):
                await self._bus.js.delete_msg(DEAD, sequence)
        except APIError as error:
            # Servers say it in several ways when it is gone already.
            if await self.get(sequence) is not None:
                raise BusUnavailable(f"the bus refused: {error.description}") from None
        except (nats.errors.Error, TimeoutError):
            raise BusUnavailable("the bus did not answer") from None

    async def _read(self, sequence: int, *, following: bool) -> Letter | None:
        try:
            if following:
                raw = await self._bus.js.get_msg(DEAD, sequence, subject="dead.>", next=True, direct=True)
            else:
                raw = await self._bus.js.get_msg(DEAD, sequence, direct=True)
        except NotFoundError:
            return None
        except APIError as error:
            raise BusUnavailable(f"the bus refused: {error.description}") from None
        except (nats.errors.Error, TimeoutError):
            raise BusUnavailable("the bus did not answer") from None
        return _letter(raw.seq or sequence, raw.subject or "", raw.data or b"")


def letter_view(letter: Letter) -> dict[str, Any]:
    """A letter as it is listed."""
    return {
        "id": letter.sequence,
        "subject": letter.subject,
        "from_subject": letter.from_subject,
        "reason": {"code": letter.code, "message": letter.message},
        "job_id": letter.job_id,
        "stage": letter.stage,
        "tries": letter.tries,
        "at": letter.at.isoformat() if letter.at else None,
        "payload": letter.payload[:_PREVIEW].decode("utf-8", "replace"),
    }


def _letter(sequence: int, subject: str, data: bytes) -> Letter:
    try:
        envelope = decode(data, DeadLetter)
        payload = base64.b64decode(envelope.data.payload, validate=True)
    except (UndecodableMessage, ValueError):
        return Letter(
            sequence=sequence,
            subject=subject,
            from_subject="",
            code="undecodable",
            message="This dead letter is not one of ours.",
            payload=data,
        )
    letter = envelope.data
    return Letter(
        sequence=sequence,
        subject=subject,
        from_subject=letter.from_subject,
        code=letter.reason.code,
        message=letter.reason.message,
        payload=payload,
        job_id=letter.job_id,
        stage=letter.stage,
        tries=letter.tries,
        at=envelope.time,
    )
