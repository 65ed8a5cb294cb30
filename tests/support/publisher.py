"""A small publisher of catalogs for tests of mirrors: contents, signed manifests, packs, and a real HTTP server."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import secrets
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgpack

from mirror.format.digest import content_of
from mirror.format.keys import SigningKey
from mirror.format.manifest import sign
from mirror.format.pack import PackWriter
from mirror.format.schema import TABLES, Key, Row, create_tables

Content = dict[tuple[str, Key], tuple[Row, ...]]
"""Rows by table and group; a group that is not there has none."""

CATALOG = "somebody/music"
_START = datetime(2026, 1, 1, tzinfo=UTC)


def catalog(songs: int, *, first: int = 1, note: str = "") -> Content:
    """A content with so many songs, each with a file, all in one playlist and a toplist."""
    content: Content = {}
    numbers = range(first, first + songs)
    for number in numbers:
        name = f"歌 {number}{note}"
        content["catalog_tracks", number] = ((number, "p", str(number), name, "It's 谁", "mp3", 8_000_000, None),)
        content["catalog_track_files", number] = (
            (number, "main", "mp3", 8_000_000, "filesystem", "library", f"p/{number}.mp3", None, "active", 1),
        )
    content["catalog_playlists", 1] = ((1, "p", "1", f"All{note}", None, "https://c", None, songs),)
    content["catalog_playlist_tracks", 1] = tuple((1, number, place) for place, number in enumerate(numbers))
    content["catalog_toplists", "top"] = (("top", "p", "All", None, None, None, songs, "Best"),)
    return content


def write_database(content: Content, path: Path | str) -> sqlite3.Connection:
    """A database with a content; the connection stays open."""
    connection = sqlite3.connect(path)
    create_tables(connection)
    for (table, _), rows in content.items():
        marks = ", ".join("?" * len(TABLES[table].columns))
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
    connection.commit()
    return connection


def pack_of(want: Content, have: Content | None, *, manifest: bytes, ids: tuple[str, str | None]) -> tuple[bytes, int]:
    """(the pack that leads from one content to another, its number of blobs)."""
    file = io.BytesIO()
    writer = PackWriter(file, want=ids[0], have=ids[1], manifest=manifest)
    keys = set(want) if have is None else {key for key in {*want, *have} if want.get(key) != have.get(key)}
    for table in TABLES:
        for key in sorted(key for name, key in keys if name == table):
            writer.add(table, key, want.get((table, key), ()))
    info = writer.close()
    return file.getvalue(), info.blob_count


@dataclass(frozen=True)
class Published:
    """A snapshot as its publisher has it."""

    id: str
    manifest: dict[str, Any]
    content: Content

    @property
    def manifest_bytes(self) -> bytes:
        return json.dumps(self.manifest, ensure_ascii=False, indent=2).encode()


@dataclass(kw_only=True)
class Publisher:
    """Makes snapshots, each a minute after the one before."""

    key: SigningKey = field(default_factory=SigningKey.generate)
    listed: list[SigningKey] = field(default_factory=list)
    """Keys that manifests list; without any, the one that signs."""
    lineage: str = field(default_factory=lambda: secrets.token_hex(16))
    snapshots: list[Published] = field(default_factory=list)

    def publish(self, content: Content, **changes: Any) -> Published:
        """Make a signed snapshot; ``changes`` go into its manifest."""
        made = self.made(content, **changes)
        self.snapshots.append(made)
        return made

    def made(self, content: Content, **changes: Any) -> Published:
        """A signed snapshot that is kept nowhere."""
        with contextlib.closing(write_database(content, ":memory:")) as connection:
            tables = content_of(connection)
        number = len(self.snapshots) + 1
        manifest: dict[str, Any] = {
            "snapshot_id": tables.snapshot_id,
            "generated_at": (_START + timedelta(minutes=number)).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "schema_version": 1,
            "playlist_count": tables.tables["catalog_playlists"].rows,
            "track_count": tables.tables["catalog_tracks"].rows,
            "file_count": tables.tables["catalog_track_files"].rows,
            "cover_count": 0,
            "parent": self.snapshots[-1].id if self.snapshots else None,
            "lineage": self.lineage,
            "revision": number,
            "keys": [
                {"key_id": key.key_id, "public_key": _base64(key.public_key)} for key in (self.listed or [self.key])
            ],
            "tables": {
                name: {"rows": table.rows, "size": table.size, "digest": table.digest}
                for name, table in tables.tables.items()
            },
            **changes,
        }
        return Published(tables.snapshot_id, sign(manifest, self.key), content)

    def find(self, id: str) -> Published | None:
        return next((one for one in reversed(self.snapshots) if one.id == id), None)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """How one request is answered. ``announce``: the length that is claimed, and ``sized`` whether one is at all;
    ``cut``: bytes after which the connection ends; ``held``: bytes after which nothing more comes; ``endless``: the
    body again and again; ``pause``: seconds before each ``chunk`` bytes."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    announce: int | None = None
    sized: bool = True
    cut: int | None = None
    held: int | None = None
    endless: bool = False
    pause: float = 0.0
    chunk: int = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request that came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class PublisherServer:
    """Serves a publisher's snapshots as CATALOG: refs, fetch, packs with ranges; and lies where it is told to.

    ``replies``: answers to the next requests for ``refs``, ``fetch`` or ``pack``, instead of the true ones;
    ``tamper``: changes the bytes of a pack before its id is taken; ``announced``: the size that is told. With
    ``files`` it is a bucket instead, and serves those by their paths.
    """

    def __init__(self, publisher: Publisher, *, port: int = 0) -> None:
        self.publisher = publisher
        self.newest: Published | None = None
        self.token: str | None = None
        self.forgotten: set[str] = set()
        self.replies: dict[str, list[Reply | Callable[[Asked], Reply | None]]] = {"refs": [], "fetch": [], "pack": []}
        self.tamper: Callable[[bytes], bytes] = lambda data: data
        self.pack_host: str | None = None
        self.shows_manifest = True
        self.announced: int | None = None
        self.files: dict[str, bytes] = {}
        self.asked: list[Asked] = []
        self.stopping = threading.Event()
        self.packs: dict[str, bytes] = {}
        self._server = _Server(("127.0.0.1", port), _handler(self))
        self.origin = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.url = f"{self.origin}/{CATALOG}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def requests(self, kind: str) -> list[Asked]:
        """Those for ``refs``, ``fetch`` or ``pack``."""
        return [one for one in self.asked if _kind(one.path) == kind]

    def wait_for(self, kind: str, count: int, *, seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while len(self.requests(kind)) < count:
            assert time.monotonic() < deadline, f"{kind} was asked for {len(self.requests(kind))} times"
            time.sleep(0.01)

    def reply(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        if self.files:
            data = self.files.get(asked.path)
            return Reply(status=403) if data is None else Reply(body=data)
        kind = _kind(asked.path)
        script = self.replies.get(kind, [])
        if script:
            one = script.pop(0)
            given = one(asked) if callable(one) else one
            if given is not None:
                return given
        if kind == "pack":
            return self.pack(asked)
        if asked.path != f"/{CATALOG}/{kind}" or (
            self.token and asked.headers.get("authorization") != f"Bearer {self.token}"
        ):
            return Reply(status=404)
        return {"refs": self._refs, "fetch": self._fetch}.get(kind, lambda _: Reply(status=404))(asked)

    def _refs(self, asked: Asked) -> Reply:
        newest = self.newest or self.publisher.snapshots[-1]
        etag = f'"{newest.id} {newest.manifest["generated_at"]}"'
        if asked.headers.get("if-none-match") == etag:
            return Reply(status=304)
        answer = (
            {"snapshot_id": newest.id, "manifest": newest.manifest}
            if self.shows_manifest
            else {"snapshot_id": newest.id}
        )
        return Reply(body=json.dumps(answer).encode(), headers={"Content-Type": "application/json", "ETag": etag})

    def _fetch(self, asked: Asked) -> Reply:
        question = msgpack.unpackb(asked.body)
        newest = self.newest or self.publisher.snapshots[-1]
        want = newest if question["want"] == [newest.id] else self.publisher.find(question["want"][0])
        if want is None:
            return Reply(status=404)
        if want.id in question["have"]:
            return _packed({"mpack_url": None, "mpack_id": None, "commit_count": 0, "blob_count": 0})
        known = [self.publisher.find(id) for id in question["have"] if id not in self.forgotten]
        have = next((one for one in known if one is not None), None)
        pack, blobs = pack_of(
            want.content,
            have.content if have else None,
            manifest=want.manifest_bytes,
            ids=(want.id, have.id if have else None),
        )
        return self.offer(self.tamper(pack), blobs)

    def offer(self, pack: bytes, blobs: int = 1) -> Reply:
        """Say that a pack with these bytes is there, and have it there."""
        id = f"sha256:{_sha256(pack)}"
        self.packs[id.removeprefix("sha256:")] = pack
        place = f"{self.pack_host or ''}/packs/{id.removeprefix('sha256:')}?signature={secrets.token_hex(8)}"
        answer = {"mpack_url": place, "mpack_id": id, "commit_count": 1, "blob_count": blobs}
        return _packed(answer if self.announced is None else {**answer, "size": self.announced})

    def pack(self, asked: Asked) -> Reply:
        """The true answer to a request for a pack."""
        pack = self.packs.get(asked.path.partition("?")[0].rpartition("/")[2])
        if pack is None:
            return Reply(status=403)
        etag = f'"{_sha256(pack)[:8]}"'
        wanted = asked.headers.get("range")
        if wanted is None or asked.headers.get("if-range", etag) != etag:
            return Reply(body=pack, headers={"ETag": etag})
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(pack):
            return Reply(status=416)
        place = f"bytes {start}-{len(pack) - 1}/{len(pack)}"
        return Reply(status=206, body=pack[start:], headers={"ETag": etag, "Content-Range": place})


@contextlib.contextmanager
def serving(publisher: Publisher, *, port: int = 0) -> Iterator[PublisherServer]:
    server = PublisherServer(publisher, port=port)
    try:
        yield server
    finally:
        server.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""


def being_made(code: str = "pack-not-ready", *, retry_after: int = 0) -> Reply:
    """How the exporter refuses a pack that it cannot give yet."""
    body = msgpack.packb({"code": code, "message": "Ask again."})
    headers = {"Content-Type": "application/x-msgpack", "Retry-After": str(retry_after)}
    return Reply(status=503, headers=headers, body=body)


def _handler(owner: PublisherServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: object) -> None:
            return

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = owner.reply(Asked(method=self.command, path=self.path, headers=headers, body=body))
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.endless or not reply.sized:
                self.send_header("Connection", "close")
                self.close_connection = True
            elif reply.status != 304:
                self.send_header("Content-Length", str(len(reply.body) if reply.announce is None else reply.announce))
            self.end_headers()
            self._send(reply)

        def _send(self, reply: Reply) -> None:
            while True:
                body = reply.body[: reply.cut if reply.held is None else reply.held]
                for place in range(0, len(body), reply.chunk):
                    if reply.pause and owner.stopping.wait(reply.pause):
                        break
                    self.wfile.write(body[place : place + reply.chunk])
                if not reply.endless or owner.stopping.is_set():
                    break
            if reply.held is not None:
                self.wfile.flush()
                owner.stopping.wait()
            if reply.cut is not None:
                self.close_connection = True
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)

    return Handler


def _kind(path: str) -> str:
    place = path.partition("?")[0]
    return "pack" if place.startswith("/packs/") else place.rpartition("/")[2]


def _packed(answer: Mapping[str, Any]) -> Reply:
    return Reply(body=msgpack.packb(answer), headers={"Content-Type": "application/x-msgpack"})


def _base64(data: bytes) -> str:

    return base64.b64encode(data).decode()


def _sha256(data: bytes) -> str:

    return hashlib.sha256(data).hexdigest()
