"""The example catalog over real HTTP, on snapshots that the real exporter made, playing through the real origin."""

from __future__ import annotations

import asyncio
import contextlib
import html
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from common.web import HttpServer
from origin.adapters.files import FolderFiles
from origin.routes import StreamApp
from public_catalog.settings import read
from tests.support.public_catalog import (
    EXAMPLE,
    PUBLIC,
    SECRET,
    CatalogProcess,
    Given,
    GivenList,
    MirrorFolder,
    make_snapshot,
    running,
)

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;{{7777*7777}}"
ORIGIN = "http://127.0.0.1:9"
MANY = range(1000, 1130)

SONGS = [
    Given(
        song_id=1,
        name="晴天",
        singers="周杰伦",
        files=[("library", "qq/周杰伦/晴天 'Live'.flac"), ("bucket", "qq/周杰伦/晴天.mp3")],
        metadata={"album": "叶惠美", "duration_seconds": 269.2},
    ),
    Given(song_id=2, name="Café del Mar", files=[("library", "qq/a/cafe.ape")]),
    Given(song_id=3, name=HOSTILE, singers=HOSTILE, files=[("bucket", "x.mp3")], metadata={"album": HOSTILE}),
    Given(song_id=4, name="Only listed"),
    *(Given(song_id=number, name=f"Song {number}", files=[("library", f"qq/{number}.mp3")]) for number in MANY),
]
PLAYLISTS = [
    GivenList(playlist_id=10, name="全部 Everything", songs=[*MANY, 1], plays=12_345),
    GivenList(playlist_id=11, name=HOSTILE, songs=[3], group=HOSTILE, cover="javascript:alert(1)"),
    GivenList(playlist_id=12, name="热歌榜", songs=[1], group="QQ 榜单", cover="https://covers.example/1.jpg"),
    GivenList(playlist_id=13, name="新歌榜", songs=[2], group="QQ 榜单"),
    GivenList(playlist_id=14, name="In no order", songs=[*MANY]),
    *(GivenList(playlist_id=100 + number, name=f"List {number}", plays=number % 7) for number in range(60)),
]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CatalogProcess]:
    folder = tmp_path_factory.mktemp("pages")
    manifest = make_snapshot(folder / "snapshot", SONGS, PLAYLISTS)
    with contextlib.closing(sqlite3.connect(folder / "snapshot" / "catalog_read.db", isolation_level=None)) as database:
        # Catalogs of the older system may lack positions.
        database.execute("UPDATE catalog_playlist_tracks SET position = NULL WHERE playlist_id = 14")
    mirror = MirrorFolder(folder / "mirror")
    mirror.show(folder / "snapshot")
    with running(
        folder, mirror.path, "--origin", ORIGIN, "--title", "Köln & 上海", ORIGIN_TOKEN_SECRET=SECRET
    ) as catalog:
        catalog.until_shown(manifest)
        yield catalog


@pytest.fixture
def client(catalog: CatalogProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=catalog.url, trust_env=False) as client:
        yield client


def text(page: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", page))


def test_the_pages_show_what_there_is(client: httpx.Client) -> None:
    home = client.get("/").text
    assert f"{len(SONGS)} songs in {len(PLAYLISTS)} playlists" in text(home)
    assert text(home).index("全部 Everything") < text(home).index("List 6")
    toplists = client.get("/toplists").text
    for name, playlist_id in (("热歌榜", 12), ("新歌榜", 13)):
        assert re.search(rf'href="/playlists/{playlist_id}"[^/]*.*?{name}', toplists, re.DOTALL)
    assert "QQ 榜单" in text(toplists)
    playlist = client.get("/playlists/12").text
    assert 'lang="zh">晴天</a>' in playlist
    assert "4:29" in playlist
    song = client.get("/songs/1").text
    assert "叶惠美" in text(song)
    assert 'href="/playlists/12"' in song
    about = text(client.get("/about").text)
    assert "sha256:" in about
    assert f"{len(SONGS):,}" in about


def test_every_list_is_read_to_its_end_by_its_own_links(client: httpx.Client) -> None:
    for start, pattern, expected in (
        ("/playlists/10", r'class="name"[^>]*href="/songs/(\d+)"', [*MANY, 1]),
        ("/playlists/14", r'class="name"[^>]*href="/songs/(\d+)"', [*MANY]),
        ("/playlists", r'href="/playlists/(\d+)"', None),
        ("/search?q=song", r'class="name"[^>]*href="/songs/(\d+)"', list(MANY)),
    ):
        address: str | None = start
        found: list[int] = []
        pages = 0
        while address is not None:
            page = client.get(address).raise_for_status().text
            found += [int(number) for number in re.findall(pattern, page)]
            link = re.search(r'rel="next" href="([^"]+)"', page)
            address = html.unescape(link[1]) if link else None
            pages += 1
        assert found == expected if expected else sorted(found) == sorted(one.playlist_id for one in PLAYLISTS)
        assert pages > 1


@pytest.mark.parametrize("query", ["cafe", "CAFÉ", "caf", "del mar"])
def test_latin_words_are_found(client: httpx.Client, query: str) -> None:
    assert 'href="/songs/2"' in client.get("/search", params={"q": query}).text


@pytest.mark.parametrize("query", ["晴天", "周杰", "周杰伦 晴", "天"])
def test_chinese_words_of_two_characters_are_found(client: httpx.Client, query: str) -> None:
    assert 'href="/songs/1"' in client.get("/search", params={"q": query}).text


@pytest.mark.parametrize(
    "query",
    [
        '"',
        "*",
        "name:x",
        "a OR b",
        "NEAR(a b)",
        "-x",
        "^a",
        "a\0b",
        "') --",
        "%",
        "{{7777*7777}}",
        HOSTILE,
        "é" * 3_000,
        "a b " * 2_500,
    ],
)
def test_whatever_is_asked_is_an_answer(client: httpx.Client, query: str) -> None:
    answer = client.get("/search", params={"q": query})

    assert answer.status_code == 200
    assert "<script>alert" not in answer.text
    assert client.get("/search", params={"q": query, "in": "playlists"}).status_code == 200


def test_nothing_of_the_catalog_is_taken_for_a_page(client: httpx.Client) -> None:
    for address in ("/", "/toplists", "/playlists/11", "/songs/3", "/search?q=script"):
        answer = client.get(address)
        assert answer.status_code == 200
        assert "alert(1)" in answer.text, address
        assert not re.search(r"<script>|<img src=x|javascript:|60481729", answer.text), address
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert 'src="https://covers.example/1.jpg"' in client.get("/toplists").text


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/nowhere", 404),
        ("/songs/5", 404),
        ("/songs/x", 404),
        ("/songs/99999999999999999999999999", 404),
        ("/playlists/-1", 404),
        ("/playlists?after=1", 400),
        ("/playlists/10?after=1.1%20OR%201", 400),
        ("/search?q=song&after=9.9", 400),
        ("/songs/1/files/0123456789abcdef", 404),
        ("/songs/1/files/..%2f..%2fetc", 404),
        ("/static/x/..%2fapp.py", 404),
    ],
)
def test_addresses_that_lead_nowhere_say_so_in_a_page(client: httpx.Client, address: str, status: int) -> None:
    answer = client.get(address)

    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert "etag" not in answer.headers
    assert client.post("/search").status_code == 405


def test_pages_are_kept_by_caches_until_the_snapshot_changes(client: httpx.Client) -> None:
    first = client.get("/playlists/12")
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "public, max-age=60"
    again = client.get("/playlists/12", headers={"If-None-Match": f'"other", {tag}'})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/playlists/12", headers={"If-None-Match": '"other"'}).status_code == 200
    head = client.head("/playlists/12")
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", tag)
    style = re.search(r'href="(/static/[^"]+/style.css)"', first.text)
    assert style is not None
    assert "immutable" in client.get(style[1]).headers["cache-control"]
    assert "no-cache" in client.get("/about").headers["cache-control"]


def test_a_song_plays_where_it_can_or_says_why_not(client: httpx.Client) -> None:
    both = client.get("/songs/1")
    sources = re.findall(r'<source src="([^"]+)" type="([^"]+)"', both.text)
    assert sources[0] == (f"{PUBLIC}/qq/%E5%91%A8%E6%9D%B0%E4%BC%A6/%E6%99%B4%E5%A4%A9.mp3", "audio/mpeg")
    assert sources[1][0].startswith("/songs/1/files/")
    policy = both.headers["content-security-policy"]
    assert f"media-src 'self' {ORIGIN} https://files.example.org;" in policy
    for song_id, reason in ((2, "It is kept as APE, which browsers do not play."), (4, "has no file of it yet")):
        page = client.get(f"/songs/{song_id}")
        assert "<audio" not in page.text
        assert reason in text(page.text)
        assert "media-src 'self';" in page.headers["content-security-policy"]


async def test_the_real_origin_plays_what_the_catalog_links_to(catalog: CatalogProcess, tmp_path: Path) -> None:
    content = bytes(range(256)) * 100
    (tmp_path / "qq/周杰伦").mkdir(parents=True)
    (tmp_path / "qq/周杰伦/晴天 'Live'.flac").write_bytes(content)
    app = StreamApp(secrets=[SECRET.encode()], files=FolderFiles(folders={"library": tmp_path}, threads=1))
    server = HttpServer(app, host="127.0.0.1", port=0)
    stop = asyncio.Event()
    serving = asyncio.create_task(server.run(stop))
    async with httpx.AsyncClient(trust_env=False) as client:
        page = (await client.get(f"{catalog.url}/songs/1")).text
        link = re.search(r'src="(/songs/1/files/[^"]+)"', page)
        assert link is not None
        redirect = await client.get(catalog.url + link[1])
        assert (redirect.status_code, redirect.headers["cache-control"]) == (302, "no-store")
        assert "Live" not in page
        address = redirect.headers["location"].replace(ORIGIN, f"http://127.0.0.1:{server.port}")
        answer = await client.get(address)
        part = await client.get(address, headers={"Range": "bytes=100-199"})
        changed = await client.get(address[:-2] + ("AA" if address[-2:] != "AA" else "BB"))
    stop.set()
    await serving
    assert (answer.status_code, answer.content) == (200, content)
    assert (part.status_code, part.content) == (206, content[100:200])
    assert changed.status_code == 401


def test_the_commands_of_its_readme_are_commands_that_it_has() -> None:
    told = re.findall(r"^(?:\S*/)?public-catalog (.+)$", (EXAMPLE / "README.md").read_text(), re.MULTILINE)
    assert told
    for line in told:
        settings = read(
            shlex.split(line.rstrip("& "), comments=True), {"ORIGIN_TOKEN_SECRET": SECRET, "ORIGIN_URL": ORIGIN}
        )
        assert settings.mirror.name


def test_it_imports_nothing_of_ours() -> None:
    code = "import sys, public_catalog.__main__; print(*{name.partition('.')[0] for name in sys.modules})"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(EXAMPLE / "src")}
    loaded = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    ours = {
        "common",
        "sources",
        "mirror",
        "cli",
        "collector",
        "downloader",
        "uploader",
        "exporter",
        "origin",
        "console",
    }
    assert ours & set(loaded.stdout.split()) == set()
