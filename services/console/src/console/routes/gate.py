"""The gate: every request passes it, and what is not named open needs a credential."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request, cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.contracts.envelope import now
from console.adapters.ledger import SessionStore
from console.errors import ClientError, Forbidden, TooLarge, TooManyTries, Unauthorized, Unavailable
from console.service.access import Throttle, host_allowed, same_origin

COOKIE = "music_cloud_console"
MAX_BODY = 256 * 1024
"""Bytes; the largest body that is asked for is a list of playlists."""
_OPEN = frozenset({"/healthz", "/login"})
_STATIC = "/static/"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Keeper:
    """Knows the credential, and slows down who does not."""

    def __init__(self, *, credential: str) -> None:
        self._digest = hashlib.sha256(credential.encode()).digest()
        self._throttle = Throttle()

    async def check(self, given: str, address: str) -> None:
        """Return for the right credential. Raises Unauthorized or TooManyTries, after a wait."""
        # Digests have one length, so that the comparison tells nothing of the credential's.
        if hmac.compare_digest(hashlib.sha256(given.encode("utf-8", "surrogatepass")).digest(), self._digest):
            return
        penalty = self._throttle.wrong(address, time.monotonic())
        await asyncio.sleep(penalty.delay)
        if penalty.too_many:
            raise TooManyTries("Too many wrong credentials. Wait a minute and try again.", retry_after=60)
        raise Unauthorized("This is not the console's credential. It was shown at the first start (CONSOLE_TOKEN).")


class Gate:
    """ASGI middleware: Host, credential, same origin, body size, and the headers of every answer."""

    def __init__(
        self, app: ASGIApp, *, keeper: Keeper, sessions: SessionStore, web_host: str, host_names: tuple[str, ...]
    ) -> None:
        self._app = app
        self._keeper = keeper
        self._sessions = sessions
        self._web_host = web_host
        self._host_names = host_names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        guarded = _with_headers(send, cache=scope["path"].startswith(_STATIC))
        try:
            await self._admit(scope)
            receive = _limited(receive, Headers(scope=scope))
        except ClientError as error:
            await self._refuse(error, scope, receive, guarded)
            return
        answering = False

        async def answer(message: Message) -> None:
            nonlocal answering
            answering = True
            await guarded(message)

        try:
            await self._app(scope, receive, answer)
        except asyncio.CancelledError:
            # The process ends. What was accepted is carried out at the next start; nobody can say here whether it was.
            if answering:
                raise
            ending = Unavailable(
                "The console is being stopped. Look whether it was done when it is back, or ask again.",
                code="stopping",
                retry_after=5,
            )
            await error_response(ending)(scope, receive, guarded)

    async def _admit(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if not host_allowed(headers.get("host"), web_host=self._web_host, names=self._host_names):
            raise ClientError(
                "The console does not answer under this name. If it is yours, add it to ALLOWED_HOSTS.",
                code="host-not-allowed",
            )
        if scope["path"] in _OPEN or scope["path"].startswith(_STATIC):
            return
        authorization = headers.get("authorization")
        if authorization is not None:
            scheme, _, given = authorization.partition(" ")
            if scheme.lower() != "bearer":
                raise Unauthorized("Send the credential as: Authorization: Bearer …")
            client = scope.get("client")
            await self._keeper.check(given.strip(), client[0] if client else "")
            return
        cookie = cookie_parser(headers.get("cookie", "")).get(COOKIE)
        if not cookie or not await asyncio.to_thread(self._sessions.valid, cookie, now()):
            raise Unauthorized("Log in, or send the credential as: Authorization: Bearer …")
        if not same_origin(scope["method"], headers):
            raise Forbidden("This request did not come from the console's own pages.", code="cross-origin")

    async def _refuse(self, error: ClientError, scope: Scope, receive: Receive, send: Send) -> None:
        response: Response
        page = not scope["path"].startswith("/api") and scope["method"] in {"GET", "HEAD"}
        if isinstance(error, Unauthorized) and page and not Headers(scope=scope).get("authorization"):
            query = scope.get("query_string", b"").decode("latin-1")
            target = Request(scope).url.path + (f"?{query}" if query else "")
            response = RedirectResponse(f"/login?next={quote(target, safe='')}", status_code=303)
        else:
            response = error_response(error)
        await response(scope, receive, send)


def error_response(error: ClientError) -> JSONResponse:
    """The answer to an expected error."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="music-cloud console"'
    return JSONResponse({"code": error.code, "message": error.message}, status_code=error.status, headers=headers)


def _with_headers(send: Send, *, cache: bool) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            if not cache:
                headers["Cache-Control"] = "no-store"
        await send(message)

    return guarded


def _limited(receive: Receive, headers: Headers) -> Receive:
    declared = headers.get("content-length", "0")
    if not declared.isdigit() or int(declared) > MAX_BODY:
        raise TooLarge(f"The body may have at most {MAX_BODY} bytes.")
    left = MAX_BODY

    async def limited() -> Message:
        nonlocal left
        message = await receive()
        if message["type"] == "http.request":
            left -= len(message.get("body", b""))
            if left < 0:
                raise TooLarge(f"The body may have at most {MAX_BODY} bytes.")
        return message

    return limited
