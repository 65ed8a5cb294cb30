"""Streaming over real HTTP, from real files."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from common.tokens import create_origin_token
from common.web import HttpServer
from origin.adapters.files import FolderFiles
from origin.routes import CHUNK, PREFIX, StreamApp

SECRET = b"a secret of the tests that is long enough to be one"
NAME = "qq/周杰倫/晴天 'Live' 🎵.flac"
CONTENT = random.Random(1).randbytes(2 * CHUNK + 12_345)


class Origin:
    """A running origin and its folders."""

    def __init__(self, root: Path) -> None:
        self.library, self.local = root / "library", root / "local"
        for folder in (self.library / "qq/周杰倫", self.local):
            folder.mkdir(parents=True)
        (self.library / NAME).write_bytes(CONTENT)
        (self.local / "own.mp3").write_bytes(b"my own")
        self.app = StreamApp(
            secrets=[SECRET], files=FolderFiles(folders={"library": self.library, "local": self.local}, threads=4)
        )
        self.base = ""

    def path(self, locator: str = NAME, *, seconds: float = 60, backend: str = "library") -> str:
        return PREFIX + create_origin_token(SECRET, locator, time.time() + seconds, backend=backend)


@pytest.fixture
async def origin(tmp_path: Path) -> AsyncIterator[Origin]:
    origin = Origin(tmp_path)
    server = HttpServer(origin.app, host="127.0.0.1", port=0)
    origin.base = f"http://127.0.0.1:{server.port}"
    stop = asyncio.Event()
    serving = asyncio.create_task(server.run(stop))
    yield origin
    stop.set()
    await serving


@pytest.fixture
async def client(origin: Origin) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=origin.base, trust_env=False) as client:
        yield client


async def test_a_token_plays_the_file(origin: Origin, client: httpx.AsyncClient) -> None:
    answer = await client.get(origin.path())

    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-type"] == "audio/flac"
    head = await client.head(origin.path())
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "etag", "last-modified", "content-type", "accept-ranges"):
        assert head.headers[name] == answer.headers[name]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-99", CONTENT[:100]),
        (f"bytes={CHUNK - 5}-{CHUNK + 5}", CONTENT[CHUNK - 5 : CHUNK + 6]),
        ("bytes=100-", CONTENT[100:]),
        ("bytes=-100", CONTENT[-100:]),
    ],
)
async def test_a_range_plays_a_part(origin: Origin, client: httpx.AsyncClient, header: str, expected: bytes) -> None:
    answer = await client.get(origin.path(), headers={"Range": header})

    assert (answer.status_code, answer.content) == (206, expected)
    assert answer.headers["content-range"].endswith(f"/{len(CONTENT)}")


async def test_several_ranges_play_the_whole_file(origin: Origin, client: httpx.AsyncClient) -> None:
    answer = await client.get(origin.path(), headers={"Range": "bytes=0-1,5-6"})

    assert (answer.status_code, answer.content) == (200, CONTENT)


async def test_conditions(origin: Origin, client: httpx.AsyncClient) -> None:
    first = await client.head(origin.path())
    tag, modified = first.headers["etag"], first.headers["last-modified"]

    assert (await client.get(origin.path(), headers={"If-None-Match": tag})).status_code == 304
    assert (await client.get(origin.path(), headers={"If-Modified-Since": modified})).status_code == 304
    resumed = await client.get(origin.path(), headers={"Range": "bytes=10-19", "If-Range": tag})
    assert (resumed.status_code, resumed.content) == (206, CONTENT[10:20])
    assert (await client.get(origin.path(), headers={"Range": "bytes=999999999-"})).status_code == 416

    (origin.library / "new").write_bytes(b"other content")
    (origin.library / "new").replace(origin.library / NAME)

    assert (await client.get(origin.path(), headers={"If-None-Match": tag})).content == b"other content"
    restarted = await client.get(origin.path(), headers={"Range": "bytes=1-2", "If-Range": tag})
    assert (restarted.status_code, restarted.content) == (200, b"other content")


async def test_another_backend(origin: Origin, client: httpx.AsyncClient) -> None:
    assert (await client.get(origin.path("own.mp3", backend="local"))).content == b"my own"
    assert (await client.get(origin.path("own.mp3"))).status_code == 404
    assert (await client.get(origin.path("own.mp3", backend="objects"))).status_code == 404


async def test_tokens_that_do_not_open_anything(origin: Origin, client: httpx.AsyncClient) -> None:
    good = origin.path()
    cases = {
        origin.path(seconds=-1): "token-expired",
        good[:-3] + "AAA": "token-invalid",
        PREFIX: "token-invalid",
        PREFIX + "nonsense": "token-invalid",
        PREFIX + "../../etc/passwd": None,
        PREFIX + "%2e%2e%2f%2e%2e%2fetc%2fpasswd": "token-invalid",
        good + "/more": "token-invalid",
        PREFIX + "x" * 40_000: "token-invalid",
    }
    for path, code in cases.items():
        answer = await client.get(path)
        assert answer.status_code == (401 if code else 404), path[:80]
        if code:
            assert answer.json()["code"] == code
            assert "www-authenticate" in answer.headers


async def test_a_link_ends_while_it_is_in_use(tmp_path: Path) -> None:
    moment = [1000.0]
    origin = Origin(tmp_path)
    origin.app._clock = lambda: moment[0]
    path = PREFIX + create_origin_token(SECRET, NAME, 1010)
    transport = httpx.ASGITransport(origin.app)
    async with httpx.AsyncClient(base_url="http://origin", transport=transport) as client:
        assert (await client.head(path)).status_code == 200
        moment[0] = 1010.0
        assert (await client.head(path)).status_code == 401


async def test_files_that_are_gone_or_no_files(origin: Origin, client: httpx.AsyncClient) -> None:
    os.mkfifo(origin.library / "pipe.mp3")
    (origin.library / "out.mp3").symlink_to("/etc/hostname")
    (origin.library / "up").symlink_to("..")
    for locator in ("nothing.mp3", "qq", "pipe.mp3", "out.mp3", "up/local/own.mp3", "x" * 300, "qq/" * 900 + "x"):
        answer = await client.get(origin.path(locator))
        assert (answer.status_code, answer.json()["code"]) == (404, "file-gone"), locator[:40]


async def test_other_methods_and_pages(origin: Origin, client: httpx.AsyncClient) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        answer = await client.request(method, origin.path())
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert (await client.get("/")).status_code == 404
    assert (await client.get("/docs")).json()["code"] == "not-found"


async def test_without_a_secret_it_says_what_is_missing(tmp_path: Path) -> None:
    app = StreamApp(secrets=[], files=FolderFiles(folders={}, threads=1))
    async with httpx.AsyncClient(base_url="http://origin", transport=httpx.ASGITransport(app)) as client:
        answer = await client.get(PREFIX + "token")
        assert (answer.status_code, answer.json()["code"]) == (503, "origin-not-configured")
        assert "openssl rand -base64 48" in answer.json()["message"]


async def test_a_library_that_is_not_mounted_is_not_a_file_that_is_gone(
    origin: Origin, client: httpx.AsyncClient
) -> None:
    origin.library.rename(origin.library.with_name("elsewhere"))

    answer = await client.get(origin.path())

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


async def test_no_answer_shows_a_path_of_the_machine(origin: Origin, client: httpx.AsyncClient) -> None:
    (origin.library / "out.mp3").symlink_to("/etc/hostname")
    paths = [origin.path(), origin.path("nothing.mp3"), origin.path("out.mp3"), PREFIX + "x", origin.path(seconds=-1)]
    answers = [await client.get(path) for path in paths]
    answers.append(await client.get(origin.path(), headers={"Range": "bytes=999999999-"}))
    origin.library.rename(origin.library.with_name("elsewhere"))
    answers.append(await client.get(origin.path()))

    for answer in answers:
        seen = str(answer.headers) + ("" if answer.content == CONTENT else answer.text)
        assert str(origin.library.parent) not in seen
        assert "/etc" not in seen


async def test_a_listener_who_leaves_or_takes_nothing_costs_nothing(origin: Origin) -> None:
    big = origin.library / "big.flac"
    with big.open("wb") as file:
        file.truncate(300 * 1024 * 1024)
    host, port = "127.0.0.1", int(origin.base.rpartition(":")[2])
    slow, before = [], resident_mb()
    for _ in range(20):
        connection = socket.create_connection((host, port))
        connection.sendall(f"GET {origin.path('big.flac')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        slow.append(connection)
    await until(lambda: origin.app.streams == 20)
    assert open_files(big) == 20
    assert resident_mb() - before < 150, "they are read as far as they listen"

    for connection in slow:
        connection.close()

    await until(lambda: origin.app.streams == 0)
    assert open_files(big) == 0


async def test_a_listener_who_takes_nothing_is_let_go(origin: Origin) -> None:
    big = origin.library / "big.flac"
    with big.open("wb") as file:
        file.truncate(300 * 1024 * 1024)
    origin.app._stall = 0.2
    connection = socket.create_connection(("127.0.0.1", int(origin.base.rpartition(":")[2])))
    connection.sendall(f"GET {origin.path('big.flac')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    await until(lambda: open_files(big) == 1)
    await until(lambda: open_files(big) == 0)
    connection.close()


async def test_a_file_that_becomes_shorter_ends_the_connection(origin: Origin) -> None:
    big = origin.library / "big.flac"
    with big.open("wb") as file:
        file.truncate(300 * 1024 * 1024)
    async with httpx.AsyncClient(base_url=origin.base, trust_env=False) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            async with client.stream("GET", origin.path("big.flac")) as answer:
                os.truncate(big, 1024)
                async for _ in answer.aiter_raw():
                    continue


async def test_many_listeners_at_once_get_their_own_bytes(origin: Origin, client: httpx.AsyncClient) -> None:
    starts = [n * 50_000 for n in range(20)]

    answers = await asyncio.gather(
        *(client.get(origin.path(), headers={"Range": f"bytes={start}-"}) for start in starts)
    )

    assert [answer.content for answer in answers] == [CONTENT[start:] for start in starts]


async def until(condition: object, *, seconds: float = 20) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def open_files(path: Path) -> int:
    """How many descriptors of this process name ``path``."""
    count = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            count += os.readlink(descriptor) == str(path)
        except FileNotFoundError:
            continue
    return count


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
