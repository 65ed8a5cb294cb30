"""The stream, as a plain ASGI application: frameworks and middleware cost a factor of 3 to 20 here."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from common.errors import DependencyDown
from common.storage.port import FileMissing
from common.tokens import OriginClaims, TokenError, read_origin_token
from origin.errors import (
    HttpError,
    bad_token,
    file_gone,
    no_such_page,
    not_configured,
    storage_down,
    wrong_method,
)
from origin.ports import Files, OpenFile
from origin.service.answer import Answer, Headers, answer

PREFIX = "/api/private-origin/stream/"
CHUNK = 512 * 1024
"""Bytes in one write. Twice this is what a slow listener holds in memory; larger ones are hardly faster."""
_KNOWN_TOKENS = 8192

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class StreamApp:
    """Serves files to whoever has a token. Knows no paths: it hands locators to ``files``, and logs neither."""

    def __init__(
        self,
        *,
        secrets: Sequence[bytes],
        files: Files,
        stall_seconds: float = 300.0,
        clock: Callable[[], float] = time.time,
        on_sent: Callable[[float], None] = lambda _: None,
        on_refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``on_sent`` is told of bytes when a stream ends, ``on_refused`` of the code of a refused token."""
        self._secrets = tuple(secrets)
        self._files = files
        self._stall = stall_seconds
        self._clock = clock
        self._read_token = functools.lru_cache(_KNOWN_TOKENS)(functools.partial(read_origin_token, self._secrets))
        self._on_sent = on_sent
        self._on_refused = on_refused
        self.streams = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        try:
            claims = self._claims(scope)
            file = await self._open(claims)
        except HttpError as error:
            await _refuse(error, send)
            return
        try:
            reply = answer(scope["method"], dict(scope["headers"]), file.facts, claims.locator)
            await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
            if scope["method"] == "HEAD" or reply.length == 0:
                await send({"type": "http.response.body"})
            else:
                await self._stream(file, reply, receive, send)
        finally:
            file.close()

    def _claims(self, scope: Message) -> OriginClaims:
        path: str = scope["path"]
        if not path.startswith(PREFIX):
            raise no_such_page()
        if scope["method"] not in ("GET", "HEAD"):
            raise wrong_method()
        if not self._secrets:
            raise not_configured()
        try:
            claims = self._read_token(path[len(PREFIX) :])
            claims.check_time(self._clock())
        except TokenError as error:
            self._on_refused(error.code)
            raise bad_token(error.code, error.message) from None
        return claims

    async def _open(self, claims: OriginClaims) -> OpenFile:
        try:
            return await self._files.open(claims.backend, claims.locator)
        except FileMissing:
            raise file_gone() from None
        except DependencyDown as error:
            raise storage_down(error.code, error.message, error.retry_after) from None

    async def _stream(self, file: OpenFile, reply: Answer, receive: Receive, send: Send) -> None:
        offset, left = reply.start, reply.length
        gone = asyncio.create_task(_disconnected(receive)) if left > CHUNK else None
        self.streams += 1
        try:
            while left:
                length = min(CHUNK, left)
                data = file.read_cached(offset, length)
                if data is None:
                    data = await file.read(offset, length)
                if not data:
                    return  # the file became shorter: the connection ends early, so that the client notices
                offset += len(data)
                left -= len(data)
                message = {"type": "http.response.body", "body": data, "more_body": left > 0}
                if gone is None:
                    await send(message)
                    continue
                async with asyncio.timeout(self._stall):
                    await send(message)
                if gone.done():
                    return
        except TimeoutError:
            return  # nobody listens
        finally:
            self.streams -= 1
            self._on_sent(reply.length - left)
            if gone is not None:
                gone.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(error: HttpError, send: Send) -> None:
    body = json.dumps({"code": error.code, "message": error.message}).encode()
    headers: Headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *error.headers,
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
