"""The fetch protocol over HTTP, every row of its table: what is asked, what is answered, what the pack then holds."""

from __future__ import annotations

import asyncio
import hashlib
import io
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import msgpack
import pytest

from mirror.format.digest import content_of
from mirror.format.manifest import parse
from mirror.format.pack import PackReader
from tests.support.fetching import MSGPACK, PATH, Site, site
from tests.support.shelf import library

NEVER = f"sha256:{'0' * 64}"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as running:
        yield running


@pytest.mark.parametrize("kind", ["msgpack", "json"])
async def test_an_empty_mirror_gets_everything(here: Site, tmp_path: Path, kind: str) -> None:
    newest = here.shelf.publish(library(range(1, 50)))
    found = await here.fetch(newest, kind=kind)
    assert found.status_code == 200
    assert found.headers["content-type"] == ("application/json" if kind == "json" else "application/x-msgpack")
    answer = found.json() if kind == "json" else msgpack.unpackb(found.content)
    assert answer["commit_count"] == 1
    assert answer["blob_count"] == 4

    pack = (await here.http.get(answer["mpack_url"])).content
    assert answer["mpack_id"] == f"sha256:{hashlib.sha256(pack).hexdigest()}"
    reader = PackReader(io.BytesIO(pack))
    (commit,) = reader.header.commits
    assert (reader.header.have, commit.id) == (None, newest)
    assert parse(commit.manifest).raw == here.shelf.newest
    await here.mirror(tmp_path / "mirror.db", newest)
    assert content_of(tmp_path / "mirror.db").snapshot_id == newest


async def test_a_mirror_that_has_it_gets_nothing(here: Site) -> None:
    newest = here.shelf.publish(library(range(5)))
    answer = await here.answer(newest, newest)
    assert answer == {"mpack_url": None, "mpack_id": None, "commit_count": 0, "blob_count": 0}
    assert here.answers == ["nothing"]
    # Also when what it has is not kept here any more.
    here.shelf.publish(library(range(6)))
    here.shelf.drop(newest)
    assert (await here.answer(newest, newest))["mpack_url"] is None


async def test_an_older_mirror_gets_only_what_changed(here: Site, tmp_path: Path) -> None:
    first = here.shelf.publish(library(range(1, 500)))
    changed = library([n for n in range(1, 501) if n != 7])
    changed["catalog_tracks"][3] = (4, "feed", "4", "Another name", None, None, None, None)
    second = here.shelf.publish(changed)
    await here.mirror(tmp_path / "mirror.db", first)

    answer = await here.answer(second, first)
    reader = PackReader(io.BytesIO((await here.http.get(answer["mpack_url"])).content))
    assert reader.header.have == first
    assert [commit.id for commit in reader.header.commits] == [second]
    assert {(table, key): len(rows) for table, key, rows in reader.groups()} == {
        ("catalog_playlist_tracks", 1): 499,
        ("catalog_track_files", 7): 0,
        ("catalog_track_files", 500): 1,
        ("catalog_tracks", 4): 1,
        ("catalog_tracks", 7): 0,
        ("catalog_tracks", 500): 1,
    }
    await here.mirror(tmp_path / "mirror.db", second, first)
    assert content_of(tmp_path / "mirror.db").snapshot_id == second


async def test_what_the_server_never_had_is_ignored_and_the_nearest_wins(here: Site, tmp_path: Path) -> None:
    ids = [here.shelf.publish(library(range(1, 20 + n))) for n in range(4)]
    for id in ids[:3]:
        here.shelf.drop(id)
    answer = await here.answer(ids[3], NEVER, ids[0], ids[2], ids[1])
    assert answer["have"] == ids[2]
    assert here.built[-1].after == 3
    assert (await here.answer(ids[3], NEVER))["have"] is None


async def test_a_wanted_snapshot_need_not_be_the_newest(here: Site, tmp_path: Path) -> None:
    older = here.shelf.publish(library(range(1, 30)))
    newer = here.shelf.publish(library(range(1, 40), name="Other"))
    await here.mirror(tmp_path / "older.db", older)
    assert content_of(tmp_path / "older.db").snapshot_id == older
    # Even from the newer one back.
    await here.mirror(tmp_path / "newer.db", newer)
    assert (await here.mirror(tmp_path / "newer.db", older, newer))["have"] == newer
    assert content_of(tmp_path / "newer.db").snapshot_id == older


async def test_every_pair_of_snapshots_leads_to_the_same_content(here: Site, tmp_path: Path) -> None:
    contents = [
        library(range(1, 8)),
        library(range(3, 12), files=2),
        {},
        library([9, 2, 4], name="Third"),
        {"catalog_toplists": [("hot:1", "feed", "Hot", None, None, 1, 2, "hot"), ("热歌", *[None] * 7)]},
    ]
    ids = [here.shelf.publish(content) for content in contents]
    for id in ids:
        await here.mirror(tmp_path / f"{id[7:]}.db", id)
    for have in ids:
        for want in ids:
            copy = tmp_path / "copy.db"
            shutil.copy(tmp_path / f"{have[7:]}.db", copy)
            await here.mirror(copy, want, have)
            assert content_of(copy).snapshot_id == want


async def test_after_a_rebuild_a_kept_snapshot_still_makes_a_delta(here: Site, tmp_path: Path) -> None:
    before = here.shelf.publish(library(range(1, 400)))
    here.shelf.rebuilt()
    after = here.shelf.publish(library([*range(1, 399), 500]))
    await here.mirror(tmp_path / "mirror.db", before)
    assert (await here.mirror(tmp_path / "mirror.db", after, before))["have"] == before
    assert content_of(tmp_path / "mirror.db").snapshot_id == after
    assert here.built[-1].after is None

    here.shelf.drop(before)
    last = here.shelf.publish(library(range(1, 401)))
    assert (await here.answer(last, before))["have"] is None


async def test_a_content_that_comes_back_is_offered_with_its_newest_manifest(here: Site) -> None:
    one = here.shelf.publish(library(range(5)))
    await here.answer(one)
    here.shelf.publish(library(range(6)))
    assert here.shelf.publish(library(range(5))) == one
    answer = await here.answer(one)
    reader = PackReader(io.BytesIO((await here.http.get(answer["mpack_url"])).content))
    assert parse(reader.header.commits[0].manifest).revision == 3


async def test_refs_name_the_newest(here: Site) -> None:
    empty = await here.http.get(f"{PATH}/refs")
    assert (empty.status_code, empty.json()["code"]) == (503, "no-snapshot")
    assert int(empty.headers["retry-after"]) > 0

    newest = here.shelf.publish(library(range(5)))
    found = await here.http.get(f"{PATH}/refs")
    assert found.json()["snapshot_id"] == newest
    assert found.json()["manifest"] == here.shelf.newest
    packed = await here.http.get(f"{PATH}/refs", headers={"Accept": "application/x-msgpack"})
    assert msgpack.unpackb(packed.content) == found.json()

    asked = {"If-None-Match": found.headers["etag"]}
    assert (await here.http.get(f"{PATH}/refs", headers=asked)).status_code == 304
    assert (await here.http.head(f"{PATH}/refs")).status_code == 200
    here.shelf.publish(library(range(6)))
    assert (await here.http.get(f"{PATH}/refs", headers=asked)).status_code == 200


async def test_the_files_of_a_snapshot_are_asked_for_again_and_sent_when_they_changed(here: Site) -> None:
    """A manifest is signed with other keys; a content that comes back lies in another file."""
    place = here.folder.with_name("snapshots") / ("0" * 64)
    place.mkdir(parents=True)
    tag = ""
    for name in ("manifest.json", "catalog_read.db"):
        for content in (b"first", b"other"):
            # In place at once, as the exporter does it, and of the same size.
            (place / "new").write_bytes(content)
            (place / "new").rename(place / name)
            found = await here.http.get(f"/snapshots/{'0' * 64}/{name}", headers={"If-None-Match": tag} if tag else {})
            assert (found.status_code, found.content) == (200, content)
            assert found.headers["cache-control"] == "no-cache"
            tag = found.headers["etag"]
            again = await here.http.get(f"/snapshots/{'0' * 64}/{name}", headers={"If-None-Match": f'"x", {tag}'})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
            rest = {"Range": "bytes=2-", "If-Range": tag}
            assert (await here.http.get(f"/snapshots/{'0' * 64}/{name}", headers=rest)).content == content[2:]


REFUSED: list[tuple[object, object, int, str]] = [
    ([], [], 422, "request-invalid"),
    (None, [], 422, "request-invalid"),
    ("sha256:", [], 422, "request-invalid"),
    ({}, [], 422, "request-invalid"),
    (["sha256:abc"], [], 422, "id-invalid"),
    ([f"sha256:{'A' * 64}"], [], 422, "id-invalid"),
    ([f"{NEVER}\n"], [], 422, "id-invalid"),
    ([7], [], 422, "id-invalid"),
    ([[NEVER]], [], 422, "id-invalid"),
    ([NEVER, "x"], [], 422, "id-invalid"),
    ([NEVER], ["../../etc/passwd"], 422, "id-invalid"),
    ([NEVER], 5, 422, "request-invalid"),
    ([NEVER] * 257, [], 422, "too-many-ids"),
    ([NEVER], [NEVER] * 257, 422, "too-many-ids"),
    ([NEVER], [], 404, "snapshot-unknown"),
    ([NEVER], [NEVER], 404, "snapshot-unknown"),
]


@pytest.mark.parametrize("kind", ["msgpack", "json"])
async def test_what_cannot_be_answered_is_refused(here: Site, kind: str) -> None:
    here.shelf.publish(library(range(5)))
    for want, have, status, code in REFUSED:
        content = {"want": want, "have": have}
        if kind == "json":
            found = await here.http.post(f"{PATH}/fetch", json=content)
            answer = found.json()
        else:
            found = await here.http.post(f"{PATH}/fetch", content=msgpack.packb(content), headers=MSGPACK)
            answer = msgpack.unpackb(found.content)
        assert (found.status_code, answer["code"]) == (status, code), content
        assert answer["message"].endswith(".")


async def test_several_wanted_snapshots_are_asked_for_one_at_a_time(here: Site) -> None:
    one, two = (here.shelf.publish(library(range(n))) for n in (5, 6))
    assert (await here.fetch([one, two])).status_code == 422
    assert (await here.answer(two, one))["want"] == two
    # What is there already is not wanted any more.
    found = msgpack.unpackb((await here.fetch([one, two, two], [one])).content)
    assert (found["want"], found["have"]) == (two, one)


async def test_a_snapshot_that_is_not_kept_is_gone(here: Site) -> None:
    old = here.shelf.publish(library(range(5)))
    here.shelf.publish(library(range(6)))
    here.shelf.drop(old)
    found = await here.fetch(old, kind="json")
    assert (found.status_code, found.json()["code"]) == (404, "snapshot-gone")


BODIES: list[tuple[bytes, dict[str, str], int]] = [
    (b"", MSGPACK, 400),
    (b"\xc1", MSGPACK, 400),
    (b"\x91" * 60_000, MSGPACK, 400),
    (b"\xdd\xff\xff\xff\xff", MSGPACK, 400),
    (b"\xc7\xff\x05" + b"\0" * 255, MSGPACK, 422),
    (msgpack.packb({"want": []}) + b"x", MSGPACK, 400),
    (msgpack.packb({1: 2}), MSGPACK, 400),
    (msgpack.packb([NEVER]), MSGPACK, 422),
    (b"{", {"Content-Type": "application/json"}, 400),
    (b"[" * 60_000, {"Content-Type": "application/json"}, 400),
    (b"9" * 60_000, {"Content-Type": "application/json"}, 400),
    (b"\xff\xfe", {"Content-Type": "application/json; charset=utf-8"}, 400),
    (b'{"want": ["\\ud800"]}', {"Content-Type": "application/json"}, 422),
    (b"want=1", {"Content-Type": "application/x-www-form-urlencoded"}, 400),
    (msgpack.packb({"want": [NEVER]}), {}, 400),
    (b"\xa1" * 70_000, MSGPACK, 413),
]


async def test_a_body_that_is_none_is_refused(here: Site) -> None:
    here.shelf.publish(library(range(5)))
    for body, headers, status in BODIES:
        found = await here.http.post(f"{PATH}/fetch", content=body, headers={**headers, "Accept": "application/json"})
        answer = msgpack.unpackb(found.content) if headers is MSGPACK else found.json()
        assert found.status_code == status, (body[:20], answer)
        assert set(answer) == {"code", "message"}


async def test_a_body_without_an_end_is_cut_off(here: Site) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", here.http.base_url.port)
    writer.write(f"POST {PATH}/fetch HTTP/1.1\r\nHost: x\r\n".encode())
    writer.write(b"Content-Type: application/x-msgpack\r\nTransfer-Encoding: chunked\r\n\r\n")
    sent = 0
    with pytest.raises(ConnectionError):
        while sent < 200 * 1024 * 1024:
            writer.write(b"2000\r\n" + b"\x90" * 8192 + b"\r\n")
            await writer.drain()
            sent += 8192
    writer.close()
    assert here.answers == ["refused"]


async def test_another_catalog_is_not_here(here: Site) -> None:
    newest = here.shelf.publish(library(range(5)))
    url = (await here.answer(newest))["mpack_url"]
    for path in ("/you/songs", "/me/other", "/me/songs2", "/Me/songs", "/me/songs%2F..%2Fsongs", "/", "/%00/ü"):
        for found in (
            await here.http.get(f"{path}/refs"),
            await here.http.post(f"{path}/fetch", json={"want": [newest]}),
            await here.http.get(url.replace(PATH, path)),
        ):
            assert (found.status_code, found.json()["code"]) == (404, "not-found"), path


async def test_the_wrong_method_is_refused(here: Site) -> None:
    found = await here.http.get(f"{PATH}/fetch")
    assert (found.status_code, found.json()["code"], found.headers["allow"]) == (405, "method-not-allowed", "POST")


async def test_pages_of_other_sites_may_read_a_public_catalog(here: Site) -> None:
    here.shelf.publish(library(range(5)))
    origin = {"Origin": "https://somewhere.example"}
    assert (await here.http.get(f"{PATH}/refs", headers=origin)).headers["access-control-allow-origin"] == "*"
    asked = {**origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    assert (await here.http.options(f"{PATH}/fetch", headers=asked)).status_code == 200
