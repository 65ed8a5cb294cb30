"""The envelope that every message on the bus travels in, and the base of all payloads."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MAX_SAFE_INTEGER = 2**53 - 1
"""Ids stay exact in JavaScript, so that a browser or a Node subscriber can use them as they are."""


class Message(BaseModel):
    """Base of all payloads: frozen, and unknown fields are ignored, so that adding one breaks nobody."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    TYPE: ClassVar[str] = ""
    VERSION: ClassVar[int] = 1


T = TypeVar("T", bound=Message)


def now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC)


class Envelope(BaseModel, Generic[T]):
    """What surrounds a payload. Names are those of CloudEvents 1.0 where it has one."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str = Field(description="unique per cause; also the Nats-Msg-Id")
    type: str = Field(description="the payload's type, for instance file.stored")
    version: int = Field(default=1, description="the payload's version")
    time: datetime = Field(description="when it was made, RFC 3339, UTC")
    producer: str = Field(description="service and instance, for instance downloader.nas-1")
    job_id: int | None = Field(default=None, description="the job on whose behalf, if any")
    trace: str = Field(description="one id for everything that follows from one command")
    data: T


_ANY = Envelope[Any]


_ENVELOPES: dict[type[Message], type[Envelope[Any]]] = {}
"""Looking a parametrized model up costs pydantic more than parsing a small message."""


def _envelope_of(model: type[T]) -> type[Envelope[T]]:
    found = _ENVELOPES.get(model)
    if found is None:
        found = _ENVELOPES[model] = Envelope[model]  # type: ignore[valid-type]
    return found


class UndecodableMessage(ValueError):
    """The bytes are not a message of ours; the sentence says why."""


def wrap(data: T, *, id: str, producer: str, job_id: int | None = None, trace: str | None = None) -> Envelope[T]:
    """Put a payload into its envelope. A missing ``trace`` starts a new one."""
    return _ANY(
        id=id,
        type=data.TYPE,
        version=data.VERSION,
        time=now(),
        producer=producer,
        job_id=job_id,
        trace=trace or secrets.token_hex(8),
        data=data,
    )


def encode(envelope: Envelope[Any]) -> bytes:
    """The envelope as JSON bytes; unset optional values are left out."""
    return envelope.model_dump_json(exclude_none=True).encode()


def decode(payload: bytes, model: type[T]) -> Envelope[T]:
    """Parse ``payload`` as an envelope around ``model``.

    Raises :class:`UndecodableMessage` when it is not JSON, not of this type and version, or
    does not hold the fields that the type needs.
    """
    try:
        envelope = _envelope_of(model).model_validate_json(payload)
    except ValidationError as error:
        raise UndecodableMessage(_first_problem(payload, error)) from None
    if envelope.type != model.TYPE:
        raise UndecodableMessage(f"expected a message of type {model.TYPE}, got {envelope.type[:80]!r}")
    if envelope.version != model.VERSION:
        raise UndecodableMessage(
            f"{model.TYPE} version {envelope.version} is not known here (known: {model.VERSION}); "
            "upgrade this service first"
        )
    return envelope


def _first_problem(payload: bytes, error: ValidationError) -> str:
    try:
        json.loads(payload)
    except (ValueError, RecursionError):
        return f"not JSON that can be read ({len(payload)} bytes)"
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "message"
    return f"{where}: {first['msg']}"
