"""The exporter's HTTP side on a real port, over a shelf of snapshots."""

from __future__ import annotations

import asyncio
import contextlib
import io
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgpack

from common.web import HttpServer
from exporter.adapters.bucket import Bucket
from exporter.adapters.pack_cache import PackCache
from exporter.adapters.snapshots import SnapshotFolder
from exporter.routes import create_app
from exporter.routes.fetch import FetchRoutes
from exporter.routes.gate import Gate
from exporter.service.fetch import Plan
from exporter.service.links import PackLinks
from tests.support.shelf import Shelf, apply

PATH = "/me/songs"
MSGPACK = {"Content-Type": "application/x-msgpack"}


class Clock:
    """A wall clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Site:
    """A server, its shelf, and what it counted."""

    shelf: Shelf
    http: httpx.AsyncClient
    packs: PackCache
    clock: Clock
    answers: list[str]
    built: list[Plan] = field(default_factory=list)
    folder: Path = Path()

    async def fetch(self, want: Any, have: Any = (), *, kind: str = "msgpack", **options: Any) -> httpx.Response:
        """One question, as a mirror asks it."""
        content = {"want": [want] if isinstance(want, str) else list(want), "have": list(have)}
        if kind == "json":
            return await self.http.post(f"{PATH}/fetch", json=content, **options)
        headers = {**MSGPACK, **options.pop("headers", {})}
        return await self.http.post(f"{PATH}/fetch", content=msgpack.packb(content), headers=headers, **options)

    async def answer(self, want: str, *have: str) -> dict[str, Any]:
        """The answer to a question that succeeds, asked again while the pack is not ready."""
        while (found := await self.fetch(want, have)).status_code == 503:
            await asyncio.sleep(0.05)
        assert found.status_code == 200, found.content
        content: dict[str, Any] = msgpack.unpackb(found.content)
        return content

    async def mirror(self, database: Path, want: str, *have: str) -> dict[str, Any]:
        """Fetch and apply to ``database``; return the answer."""
        answer = await self.answer(want, *have)
        if answer["mpack_url"] is not None:
            data = (await self.http.get(answer["mpack_url"])).content
            header = apply(io.BytesIO(data), database)
            assert header.want == want
        return answer


@contextlib.asynccontextmanager
async def site(
    root: Path,
    *,
    shelf: Shelf | None = None,
    tokens: tuple[str, ...] = (),
    max_bytes: int = 1 << 30,
    max_count: int = 64,
    url_seconds: int = 900,
    bucket: Bucket | None = None,
    patience: float = 20.0,
) -> AsyncIterator[Site]:
    """Serve a shelf under ``/me/songs``; ``patience``: seconds that an answer waits for its pack."""
    shelf = shelf or Shelf(root / "shelf")
    clock, answers, built = Clock(), list[str](), list[Plan]()
    packs = PackCache(
        folder=root / "packs",
        snapshots=shelf.snapshots,
        history=shelf.history,
        max_bytes=max_bytes,
        max_count=max_count,
        url_seconds=url_seconds,
        bucket=bucket,
        patience=patience,
        built=lambda plan, _: built.append(plan),
        clock=clock,
    )
    gate = Gate(owner="me", slug="songs", tokens=tokens)
    fetch = FetchRoutes(
        gate=gate,
        packs=packs,
        snapshots=shelf.snapshots,
        history=shelf.history,
        links=PackLinks(seconds=url_seconds, clock=clock),
        public_url=None,
        bucket=bucket,
        answered=answers.append,
    )
    app = create_app(folder=SnapshotFolder(root / "snapshots", keep=5), gate=gate, fetch=fetch)
    server, stop = HttpServer(app, host="127.0.0.1", port=0), asyncio.Event()
    running = asyncio.create_task(server.run(stop))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as http:
            yield Site(
                shelf=shelf, http=http, packs=packs, clock=clock, answers=answers, built=built, folder=root / "packs"
            )
    finally:
        stop.set()
        await running
        fetch.close()
        packs.close()
        shutil.rmtree(root / "packs", ignore_errors=True)
