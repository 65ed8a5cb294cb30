"""How answers look: JSON, or msgpack for whoever speaks it; a refusal is a code and a sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgpack
from starlette.requests import Request
from starlette.responses import Response

from exporter.errors import RequestRefused

JSON = "application/json"
MSGPACK = "application/x-msgpack"
_MSGPACK_TYPES = {MSGPACK, "application/msgpack", "application/vnd.msgpack"}

_BODY_LEFT = {408, 413}
"""More of the body may come, for ever."""


def media_type(text: str) -> str | None:
    """JSON or MSGPACK by the value of a Content-Type or Accept header; None for anything else."""
    for part in text.lower().split(","):
        name = part.partition(";")[0].strip()
        if name in _MSGPACK_TYPES:
            return MSGPACK
        if name == JSON:
            return JSON
    return None


def answer(content: Any, *, kind: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """``content`` in one of the two types."""
    if kind == MSGPACK:
        body: bytes = msgpack.packb(content)
    else:
        body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(
        body, status, {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})}, kind
    )


def refusal(error: RequestRefused, *, kind: str = JSON) -> Response:
    """The refusal as an answer."""
    headers = {} if error.retry_after is None else {"Retry-After": str(max(1, round(error.retry_after)))}
    if error.status in _BODY_LEFT:
        headers["Connection"] = "close"
    return answer({"code": error.code, "message": error.message}, kind=kind, status=error.status, headers=headers)


def is_known(request: Request, tag: str) -> bool:
    """Whether the one who asks has what bears this ETag."""
    return tag in (part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(","))


def wanted_type(request: Request) -> str:
    """In which type a request is to be answered: as it was sent, else as it says that it accepts."""
    sent, accepted = (request.headers.get(name, "")[:256] for name in ("content-type", "accept"))
    return media_type(sent) or media_type(accepted) or JSON
