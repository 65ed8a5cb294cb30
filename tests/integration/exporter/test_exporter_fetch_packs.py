"""Packs as files: URLs that end, resumed downloads, one build for many, a cache with limits, and private catalogs."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from common.errors import ConfigurationError
from exporter.settings import ExporterSettings
from mirror.format.digest import content_of
from tests.support.disks import fill, small_disk
from tests.support.fetching import PATH, Site, site
from tests.support.shelf import Shelf, library

TOKEN = "a token of the tests that is long enough"
PATIENCE = 20.0
OLD_TOKEN = "the token before it that some mirrors have"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as running:
        yield running


class Gated(Shelf):
    """A shelf whose databases cannot be read while the gate is closed: a build that takes long."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.open = threading.Event()
        self.open.set()
        self.begun: list[str] = []

    def database(self, snapshot_id: str) -> Path | None:
        self.begun.append(snapshot_id)
        self.open.wait(PATIENCE)
        return super().database(snapshot_id)


@contextlib.asynccontextmanager
async def gated(root: Path, **options: Any) -> AsyncIterator[tuple[Site, Gated]]:
    shelf = Gated(root / "shelf")
    async with site(root, shelf=shelf, **options) as running:
        try:
            yield running, shelf
        finally:
            shelf.open.set()


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        await asyncio.sleep(0.01)


async def test_a_download_that_broke_off_goes_on(here: Site) -> None:
    url = (await here.answer(here.shelf.publish(library(range(300)))))["mpack_url"]
    whole = await here.http.get(url)
    tag, half = whole.headers["etag"], len(whole.content) // 2
    rest = await here.http.get(url, headers={"Range": f"bytes={half}-", "If-Range": tag})
    assert (rest.status_code, rest.headers["etag"]) == (206, tag)
    assert rest.headers["content-range"] == f"bytes {half}-{len(whole.content) - 1}/{len(whole.content)}"
    assert whole.content[:half] + rest.content == whole.content
    other = await here.http.get(url, headers={"Range": f"bytes={half}-", "If-Range": '"another"'})
    assert (other.status_code, other.content) == (200, whole.content)
    assert (await here.http.get(url, headers={"Range": "bytes=99999999-"})).status_code == 416
    head = await here.http.head(url)
    assert (head.status_code, int(head.headers["content-length"]), head.content) == (200, len(whole.content), b"")


async def test_the_same_pack_made_again_has_the_same_bytes(tmp_path: Path) -> None:
    """So that a download resumes after a restart of the server, too."""
    shelf = Shelf(tmp_path / "shelf")
    newest = shelf.publish(library(range(300), files=3))
    ids, urls = [], []
    for _ in range(2):
        async with site(tmp_path, shelf=shelf) as running:
            answer = await running.answer(newest)
            ids.append(answer["mpack_id"])
            urls.append(urlsplit(answer["mpack_url"])._replace(scheme="", netloc="").geturl())
            assert (await running.http.get(urls[-1])).status_code == 200
            # A URL from before the restart opens nothing.
            assert (await running.http.get(urls[0])).status_code == (200 if len(urls) == 1 else 404)
    assert ids[0] == ids[1]


async def test_a_url_ends_and_cannot_be_changed(here: Site) -> None:
    newest = here.shelf.publish(library(range(5)))
    url = httpx.URL((await here.answer(newest))["mpack_url"])
    signature, expires = url.params["signature"], url.params["expires"]
    forged = [
        url.copy_set_param("expires", str(int(expires) + 1)),
        url.copy_set_param("expires", f" {expires}"),
        url.copy_set_param("expires", "9" * 500),
        url.copy_set_param("expires", "-1"),
        url.copy_set_param("signature", "0" * 64),
        url.copy_set_param("signature", signature.upper()),
        url.copy_set_param("signature", "ü"),
        url.copy_remove_param("signature"),
        url.copy_remove_param("expires"),
        url.copy_with(path=f"{PATH}/packs/{'0' * 64}.pack"),
        url.copy_with(path=url.path.removesuffix(".pack")),
        url.copy_with(raw_path=f"{PATH}/packs/..%2f..%2fpacks?{url.query.decode()}".encode()),
        url.copy_with(path=f"{PATH}/packs/.making-x"),
    ]
    for one in forged:
        found = await here.http.get(one)
        assert (found.status_code, found.json()["code"]) == (404, "not-found"), one
    here.clock.now += 899
    assert (await here.http.get(url)).status_code == 200
    here.clock.now += 2
    found = await here.http.get(url)
    assert (found.status_code, found.json()["code"]) == (403, "url-expired")
    assert (await here.http.get((await here.answer(newest))["mpack_url"])).status_code == 200


async def test_many_who_ask_at_once_wait_for_one_pack(tmp_path: Path) -> None:
    async with gated(tmp_path) as (slow, shelf):
        newest = shelf.publish(library(range(50)))
        shelf.open.clear()
        asked = [asyncio.create_task(slow.fetch(newest, kind="json")) for _ in range(20)]
        await until(lambda: shelf.begun == [newest], "the build")
        shelf.open.set()
        answers = [(await one).json() for one in asked]
        assert len({answer["mpack_id"] for answer in answers}) == 1
        assert len(slow.built) == len(shelf.begun) == 1


async def test_a_pack_that_takes_long_is_asked_for_again(tmp_path: Path) -> None:
    async with gated(tmp_path, patience=0.05) as (slow, shelf):
        newest = shelf.publish(library(range(50)))
        shelf.open.clear()
        found = await slow.fetch(newest, kind="json")
        assert (found.status_code, found.json()["code"]) == (503, "pack-not-ready")
        assert int(found.headers["retry-after"]) >= 1
        # It is being made all the same, and everything else is answered meanwhile.
        assert (await slow.http.get(f"{PATH}/refs")).status_code == 200
        assert shelf.held == [newest]
        shelf.open.set()
        await slow.answer(newest)
        assert len(slow.built) == 1
        assert shelf.held == []


async def test_a_pack_that_was_asked_for_is_given_however_many_snapshots_come(tmp_path: Path) -> None:
    """Else who needs everything from a catalog that changes all the time would begin anew for ever."""
    async with gated(tmp_path, patience=0.05) as (slow, shelf):
        shelf.open.clear()
        base = shelf.publish(library(range(40)))
        ids = [shelf.publish(library(range(50 + number))) for number in range(3)]
        for id, have in ((base, []), (ids[0], []), (ids[1], [base])):
            assert (await slow.fetch(id, have)).status_code == 503
        for gone in (base, ids[0], ids[1]):
            assert gone in shelf.held, "also of a pack that waits for its turn"
        shelf.open.set()
        await until(lambda: len(slow.built) == 3 and not shelf.held, "the packs")
        for gone in (base, ids[0], ids[1]):
            shelf.drop(gone)

        await slow.mirror(tmp_path / "full.db", ids[0])
        assert content_of(tmp_path / "full.db").snapshot_id == ids[0]
        # By what a mirror has: here all that there is was made for another one.
        found = await slow.fetch(ids[1], kind="json")
        assert (found.status_code, found.json()["code"]) == (404, "snapshot-gone")
        await slow.mirror(tmp_path / "delta.db", base)
        assert (await slow.mirror(tmp_path / "delta.db", ids[1], base))["have"] == base
        assert content_of(tmp_path / "delta.db").snapshot_id == ids[1]


async def test_a_pack_that_nobody_waits_for_any_more_lets_the_others_go_first(tmp_path: Path) -> None:
    async with gated(tmp_path, patience=0.05) as (slow, shelf):
        ids = [shelf.publish(library(range(number))) for number in range(5, 9)]
        shelf.open.clear()
        for id in ids[:3]:
            assert (await slow.fetch(id)).status_code == 503
        slow.clock.now += 61
        assert (await slow.fetch(ids[2])).status_code == 503
        assert (await slow.fetch(ids[3])).status_code == 503
        shelf.open.set()
        await until(lambda: len(slow.built) == 4, "the packs")
        assert [plan.want for plan in slow.built] == [ids[0], ids[2], ids[3], ids[1]]


async def test_a_rebuild_while_a_delta_is_made_spoils_no_pack(tmp_path: Path) -> None:
    async with gated(tmp_path) as (slow, shelf):
        first, second = shelf.publish(library(range(50))), shelf.publish(library(range(60)))
        await slow.mirror(tmp_path / "mirror.db", first)
        shelf.open.clear()
        asked = asyncio.create_task(slow.fetch(second, [first], kind="json"))
        await until(lambda: second in shelf.begun, "the build")
        # What changed before is not known to the new lineage.
        shelf.rebuilt()
        shelf.forget_changes()
        shelf.open.set()
        found = await asked
        assert (found.status_code, found.json()["code"]) == (503, "lineage-ended")
        third = shelf.publish(library(range(61)))
        await slow.mirror(tmp_path / "mirror.db", third, first)
        assert content_of(tmp_path / "mirror.db").snapshot_id == third


async def test_more_packs_than_can_wait_are_put_off(tmp_path: Path) -> None:
    async with gated(tmp_path, patience=0.05) as (slow, shelf):
        ids = [shelf.publish(library(range(number))) for number in range(18)]
        shelf.open.clear()
        found = [await slow.fetch(id, kind="json") for id in ids]
        assert [one.json()["code"] for one in found] == [*["pack-not-ready"] * 16, *["too-many-packs"] * 2]
        assert shelf.begun == ids[:1]
        # Those that nobody waits for any more make way, first the one that was asked for longest ago.
        slow.clock.now += 61
        for id in (ids[1], ids[16]):
            assert (await slow.fetch(id, kind="json")).json()["code"] == "pack-not-ready"
        shelf.open.set()
        await until(lambda: len(slow.built) == 16 and not shelf.held, "the packs")
        assert [plan.want for plan in slow.built] == [ids[0], ids[1], ids[16], *ids[3:16]]


async def test_the_oldest_packs_make_room_but_never_those_in_use(tmp_path: Path) -> None:
    async with site(tmp_path, max_count=2) as here:
        ids = [here.shelf.publish(library(range(n))) for n in (5, 6, 7, 8)]
        first = await here.answer(ids[0])
        second = await here.answer(ids[1])
        found = await here.fetch(ids[2], kind="json")
        assert (found.status_code, found.json()["code"]) == (503, "pack-cache-full")
        # What is ready is given all the same.
        assert (await here.answer(ids[0]))["mpack_id"] == first["mpack_id"]

        here.clock.now += 901
        await here.answer(ids[0])
        await here.answer(ids[2])
        left = {path.name for path in here.folder.iterdir()}
        assert second["mpack_id"][7:] + ".pack" not in left
        assert len(left) == 2


async def test_a_pack_stays_while_it_is_read(tmp_path: Path) -> None:
    async with site(tmp_path, max_count=1) as here:
        # More than the sockets between the two can hold.
        words = random.Random(1)
        big = {"catalog_playlists": [(n, words.randbytes(1000).hex(), *[None] * 6) for n in range(12_000)]}
        one, two = here.shelf.publish(big), here.shelf.publish(library(range(6)))
        answer = await here.answer(one)
        async with here.http.stream("GET", answer["mpack_url"]) as reading:
            chunks = reading.aiter_raw(1000)
            await anext(chunks)
            here.clock.now += 1000
            assert (await here.fetch(two)).status_code == 503
        here.clock.now += 1000
        await here.answer(two)
        assert [path.name for path in here.folder.iterdir()] == [f"{(await here.answer(two))['mpack_id'][7:]}.pack"]


async def test_bytes_are_limited_too(tmp_path: Path) -> None:
    async with site(tmp_path, max_bytes=1) as here:
        ids = [here.shelf.publish(library(range(n))) for n in (5, 6)]
        await here.answer(ids[0])
        assert (await here.fetch(ids[1])).status_code == 503
        here.clock.now += 901
        await here.answer(ids[1])
        assert len(list(here.folder.iterdir())) == 1


async def test_a_pack_that_cannot_be_made_leaves_nothing(here: Site) -> None:
    newest = here.shelf.publish(library(range(50)))
    database = here.shelf.database(newest)
    assert database is not None
    good = database.read_bytes()
    for spoil in (lambda: database.write_bytes(good[:4096] + b"\0" * (len(good) - 4096)), database.unlink):
        spoil()
        found = await here.fetch(newest, kind="json")
        # It is not gone: asking again helps when it is mended.
        assert (found.status_code, found.json()["code"]) == (503, "pack-failed")
        assert str(here.folder.parent) not in found.text
        assert int(found.headers["retry-after"]) >= 1
        assert list(here.folder.iterdir()) == []
    database.write_bytes(good)
    assert (await here.answer(newest))["blob_count"] == 4


async def test_a_pack_that_somebody_removed_is_made_again(here: Site) -> None:
    newest = here.shelf.publish(library(range(50)))
    url = (await here.answer(newest))["mpack_url"]
    for path in here.folder.iterdir():
        path.unlink()
    found = await here.http.get(url)
    assert (found.status_code, found.json()["code"]) == (404, "pack-gone")
    assert (await here.http.get((await here.answer(newest))["mpack_url"])).status_code == 200


async def test_a_full_disk_costs_only_the_pack(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "shelf")
    one, two = shelf.publish(library(range(50))), shelf.publish(library(range(5_000)))
    with small_disk(tmp_path / "disk", size="256k") as disk:
        async with site(disk, shelf=shelf) as here:
            ready = (await here.answer(one))["mpack_url"]
            filler = fill(disk)
            found = await here.fetch(two, kind="json")
            assert (found.status_code, found.json()["code"]) == (503, "disk-full")
            assert (await here.http.get(ready)).status_code == 200
            assert len(list(here.folder.iterdir())) == 1
            filler.unlink()
            assert (await here.answer(two))["blob_count"] > 0


async def test_packs_of_an_earlier_process_are_swept(tmp_path: Path) -> None:
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / ".making-x").write_bytes(b"half")
    async with site(tmp_path) as here:
        assert list(here.folder.iterdir()) == []


async def test_a_private_catalog_does_not_exist_without_its_token(tmp_path: Path) -> None:
    async with site(tmp_path, tokens=(TOKEN, OLD_TOKEN)) as here:
        newest = here.shelf.publish(library(range(5)))
        nowhere = [
            await here.http.get("/you/songs/refs"),
            await here.http.post("/you/songs/fetch", json={"want": [newest]}),
        ]
        for credential in (None, "", "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN, "Bearer ü"):
            headers = {} if credential is None else {b"Authorization": credential.encode()}
            for found, missing in zip(
                [
                    await here.http.get(f"{PATH}/refs", headers=headers),
                    # Whatever is wrong with the question is not told either.
                    await here.http.post(f"{PATH}/fetch", json={"want": []}, headers=headers),
                ],
                nowhere,
                strict=True,
            ):
                assert (found.status_code, found.content) == (404, missing.content), credential
                shown = {key: value for key, value in found.headers.items() if key not in ("date", "x-request-id")}
                assert shown == {
                    key: value for key, value in missing.headers.items() if key not in ("date", "x-request-id")
                }
            assert (await here.http.get("/snapshots/current", headers=headers)).json()["code"] == "not-found"

        for token in (TOKEN, OLD_TOKEN):
            known = {"Authorization": f"bearer {token}"}
            assert (await here.http.get(f"{PATH}/refs", headers=known)).json()["snapshot_id"] == newest
            answer = (await here.fetch(newest, kind="json", headers=known)).json()
        # The URL is the credential: it can be given to any program that downloads.
        pack = await here.http.get(answer["mpack_url"])
        assert (pack.status_code, pack.headers["cache-control"]) == (200, "private, no-store")
        asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}
        assert (await here.http.options(f"{PATH}/refs", headers=asked)).status_code == 405


@pytest.mark.parametrize("token", [None, "short", f"{TOKEN},short"])
def test_a_private_catalog_needs_a_token_that_cannot_be_guessed(token: str | None) -> None:
    settings = ExporterSettings.model_validate({"catalog_visibility": "private", "catalog_token": token})
    with pytest.raises(ConfigurationError, match="CATALOG_TOKEN"):
        _ = settings.catalog_tokens


async def test_a_delta_of_many_groups_with_gaps(here: Site, tmp_path: Path) -> None:
    """Many times the groups that are read at once; some gone at both ends."""
    first = here.shelf.publish(library(range(2, 3000, 2)))
    second = here.shelf.publish(library(range(1, 3000, 3), name="Other"))
    await here.mirror(tmp_path / "mirror.db", first)
    answer = await here.mirror(tmp_path / "mirror.db", second, first)
    assert answer["have"] == first
    assert content_of(tmp_path / "mirror.db").snapshot_id == second
