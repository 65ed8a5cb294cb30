"""The fetch protocol: which snapshot is the newest, which pack leads to it, and the pack itself."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgpack
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from common.errors import MusicCloudError
from exporter.adapters.bucket import Bucket
from exporter.adapters.pack_cache import Pack, PackCache
from exporter.errors import RequestRefused
from exporter.ports import History, Snapshots
from exporter.routes.answers import JSON, MSGPACK, answer, is_known, media_type, refusal, wanted_type
from exporter.routes.gate import Gate
from exporter.service.fetch import Way, manifest_bytes, plan, read_request
from exporter.service.links import PackLinks

MAX_BODY_BYTES = 64 * 1024
"""Twice what two full lists of ids take."""
_BODY_PATIENCE = 30.0
_STALL = 300.0
"""Seconds without a byte taken, after which a reader of a pack is let go; it may go on from there."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Handler = Callable[[Request], Awaitable[Response]]
T = TypeVar("T")


class FetchRoutes:
    """``refs``, ``fetch`` and ``packs`` of one catalog."""

    def __init__(
        self,
        *,
        gate: Gate,
        packs: PackCache,
        snapshots: Snapshots,
        history: History,
        links: PackLinks,
        public_url: str | None,
        bucket: Bucket | None = None,
        answered: Callable[[str], None] = lambda _: None,
        sent: Callable[[float], None] = lambda _: None,
    ) -> None:
        """``public_url``: where mirrors find this server, if not where they asked; ``answered`` is told how a
        fetch ended, ``sent`` the bytes of packs."""
        self._gate = gate
        self._packs = packs
        self._snapshots = snapshots
        self._history = history
        self._links = links
        self._public_url = public_url.rstrip("/") if public_url else None
        self._bucket = bucket
        self._answered = answered
        self._sent = sent
        # What is known of snapshots is read from disk.
        self._thread = ThreadPoolExecutor(2, thread_name_prefix="fetch")

    def routes(self) -> list[Route]:
        """For the application."""
        catalog = "/{owner}/{slug}"
        return [
            Route(f"{catalog}/refs", self._guarded(self.refs), methods=["GET"]),
            Route(f"{catalog}/fetch", self._guarded(self.fetch), methods=["POST"]),
            Route(f"{catalog}/packs/{{name}}", self._guarded(self.pack), methods=["GET"]),
        ]

    def close(self) -> None:
        """Let the threads go."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def refs(self, request: Request) -> Response:
        """The newest snapshot, with its manifest and the keys that are in use."""
        self._gate.check(request)
        manifest = await self._read(self._snapshots.current)
        if manifest is None:
            raise RequestRefused(503, "no-snapshot", "No snapshot has been made yet. Ask again later.", retry_after=10)
        kind = media_type(request.headers.get("accept", "")[:256]) or JSON
        tag = f'"{hashlib.sha256(manifest_bytes(manifest) + kind.encode()).hexdigest()}"'
        headers = {"Cache-Control": "no-cache", "ETag": tag, "Vary": "Accept"}
        if is_known(request, tag):
            return Response(status_code=304, headers=headers)
        content = {
            "snapshot_id": manifest["snapshot_id"],
            "generated_at": manifest["generated_at"],
            "manifest": manifest,
            "keys": manifest.get("keys", []),
        }
        return answer(content, kind=kind, headers=headers)

    async def fetch(self, request: Request) -> Response:
        """Where the pack is that brings what a mirror lacks."""
        self._gate.check(request)
        kind = media_type(request.headers.get("content-type", "")[:256])
        if kind is None:
            raise RequestRefused(
                400, "body-unknown", f"Send {MSGPACK} or {JSON}, and say which in the header Content-Type."
            )
        asked = read_request(_decoded(await _body(request), kind))
        packs = self._packs.plans
        found = await self._read(lambda: plan(asked, snapshots=self._snapshots, history=self._history, packs=packs))
        if found is None:
            self._answered("nothing")
            return answer({"mpack_url": None, "mpack_id": None, "commit_count": 0, "blob_count": 0}, kind=kind)
        pack = await self._packs.offer(found)
        self._answered("full" if found.way is Way.FULL else "delta")
        content = {
            "mpack_url": self._url(request, pack),
            "mpack_id": pack.info.pack_id,
            "commit_count": pack.info.commit_count,
            "blob_count": pack.info.blob_count,
            "size": pack.info.size,
            "want": found.want,
            "have": found.have,
        }
        return answer(content, kind=kind)

    async def pack(self, request: Request) -> Response:
        """The bytes of a pack, whole or in part."""
        self._gate.check_name(request)
        query, name = request.query_params, request.path_params["name"]
        self._links.check(f"{self._gate.path}/packs/{name}", query.get("expires", ""), query.get("signature", ""))
        pack = self._packs.find(f"sha256:{name.removesuffix('.pack')}")
        if pack is None:
            raise RequestRefused(404, "pack-gone", "This pack is not kept any more. Fetch again to get another one.")
        return _PackResponse(pack, cache=self._packs, public=self._gate.public, sent=self._sent)

    def _url(self, request: Request, pack: Pack) -> str:
        if self._bucket is not None and pack.locator is not None:
            return self._bucket.url(pack.locator)
        base = self._public_url or f"{request.url.scheme}://{request.url.netloc}"
        return base + self._links.sign(f"{self._gate.path}/packs/{pack.path.name}")

    async def _read(self, read: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, read)

    def _guarded(self, handle: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestRefused as error:
                refused = error
            except MusicCloudError as error:
                refused = RequestRefused(
                    503, error.code, "The pack cannot be made now. Ask again later.", retry_after=30
                )
            if handle == self.fetch:
                self._answered("waiting" if refused.status == 503 else "refused")
            return refusal(refused, kind=wanted_type(request))

        return guarded


class _PackResponse(FileResponse):
    """A pack never changes under its name, and stays while it is read."""

    def __init__(self, pack: Pack, *, cache: PackCache, public: bool, sent: Callable[[float], None]) -> None:
        headers = {
            "ETag": f'"{pack.info.pack_id}"',
            "Cache-Control": "public, max-age=31536000, immutable" if public else "private, no-store",
            "X-Content-Type-Options": "nosniff",
        }
        super().__init__(pack.path, media_type="application/octet-stream", headers=headers, filename=pack.path.name)
        self._pack = pack
        self._cache = cache
        self._on_sent = sent

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        sent = 0

        async def patient(message: Message) -> None:
            nonlocal sent
            async with asyncio.timeout(_STALL):
                await send(message)
            sent += len(message.get("body", b""))

        with self._cache.reading(self._pack):
            try:
                await super().__call__(scope, receive, patient)
            except TimeoutError:
                return  # nobody listens
            finally:
                self._on_sent(sent)


async def _body(request: Request) -> bytes:
    too_large = RequestRefused(413, "body-too-large", f"The body has more than {MAX_BODY_BYTES} bytes.")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > 9 or int(length) > MAX_BODY_BYTES):
        raise too_large
    data = bytearray()
    try:
        async with asyncio.timeout(_BODY_PATIENCE):
            async for chunk in request.stream():
                data += chunk
                if len(data) > MAX_BODY_BYTES:
                    raise too_large
    except TimeoutError:
        raise RequestRefused(408, "body-too-slow", "The body did not arrive in time.") from None
    except ClientDisconnect:
        raise RequestRefused(400, "body-incomplete", "The body did not arrive.") from None
    return bytes(data)


def _decoded(body: bytes, kind: str) -> object:
    try:
        return msgpack.unpackb(body) if kind == MSGPACK else json.loads(body)
    except (ValueError, RecursionError, OverflowError, msgpack.UnpackException):
        name = kind.rpartition("-")[2] if kind == MSGPACK else "JSON"
        raise RequestRefused(400, "body-invalid", f"The body is not {name}, or nested too deeply.") from None
