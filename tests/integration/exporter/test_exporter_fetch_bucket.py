"""Snapshots and packs in a real object store: presigned URLs, the manifest last, nothing left, nothing twice."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from common.settings import Settings
from common.storage.objects import object_store
from common.storage.s3 import S3Storage
from exporter.adapters.bucket import Bucket
from exporter.handlers.publish_objects import BucketPublisher
from mirror.format.digest import content_of
from tests.support.fetching import Site, site
from tests.support.http_server import Behavior, ScriptedServer
from tests.support.s3 import S3Bucket
from tests.support.shelf import Shelf, apply, library

PATIENCE = 30.0


@pytest.fixture
def http_server() -> Iterator[ScriptedServer]:
    running = ScriptedServer()
    yield running
    running.stop()


def bucket_of(
    bucket: S3Bucket, *, url_seconds: int = 900, base: str | None = None, endpoint: str | None = None
) -> Bucket:
    settings = Settings.model_validate({name.lower(): value for name, value in bucket.settings_env.items()})
    store = object_store(settings, bucket=bucket.name, prefix="public", endpoint=endpoint)
    links = object_store(settings, bucket=bucket.name, prefix="public")
    assert store is not None
    assert links is not None
    return Bucket(store=store, links=links, folder="me/songs", public_base_url=base, url_seconds=url_seconds)


@contextlib.asynccontextmanager
async def published(
    root: Path, place: Bucket, *, shelf: Shelf | None = None, url_seconds: int = 900
) -> AsyncIterator[tuple[Site, BucketPublisher]]:
    stop = asyncio.Event()
    async with site(root, shelf=shelf, bucket=place, url_seconds=url_seconds) as here:
        publisher = BucketPublisher(
            bucket=place,
            packs=here.packs,
            snapshots=here.shelf.snapshots,
            history=here.shelf.history,
            every=0,
            url_seconds=url_seconds,
            stop=stop,
            changed=lambda: None,
        )
        running = asyncio.create_task(publisher.run())
        try:
            yield here, publisher
        finally:
            stop.set()
            await running
            place.close()


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        await asyncio.sleep(0.05)


def read(bucket: S3Bucket, key: str) -> bytes:
    data: bytes = bucket.client.get_object(Bucket=bucket.name, Key=f"public/me/songs/{key}")["Body"].read()
    return data


def names(bucket: S3Bucket) -> set[str]:
    return {key.removeprefix("public/me/songs/") for key in sorted(bucket.keys())}


async def test_a_mirror_reads_packs_from_the_store(tmp_path: Path, s3_bucket: S3Bucket) -> None:
    async with published(tmp_path, bucket_of(s3_bucket)) as (here, publisher):
        first = here.shelf.publish(library(range(1, 200)))
        await until(lambda: publisher.state["snapshot_id"] == first, "the first snapshot")
        await here.mirror(tmp_path / "mirror.db", first)
        second = here.shelf.publish(library(range(2, 205)))
        await until(lambda: publisher.state["snapshot_id"] == second, "the second snapshot")

        answer = await here.answer(second, first)
        assert answer["mpack_url"].startswith(s3_bucket.server.endpoint)
        async with httpx.AsyncClient(trust_env=False) as http:
            whole = await http.get(answer["mpack_url"])
            assert f"sha256:{hashlib.sha256(whole.content).hexdigest()}" == answer["mpack_id"]
            rest = await http.get(answer["mpack_url"], headers={"Range": "bytes=100-"})
            assert (rest.status_code, rest.content) == (206, whole.content[100:])
            assert (await http.get(answer["mpack_url"].replace("Signature=", "Signature=0"))).status_code == 403
        apply(io.BytesIO(whole.content), tmp_path / "mirror.db")
        assert content_of(tmp_path / "mirror.db").snapshot_id == second


async def test_the_bucket_alone_is_enough(tmp_path: Path, s3_bucket: S3Bucket) -> None:
    async with published(tmp_path, bucket_of(s3_bucket)) as (here, publisher):
        ids = []
        for number in range(3):
            ids.append(here.shelf.publish(library(range(1, 50 + number))))
            await until(lambda: publisher.state["snapshot_id"] == ids[-1], "the snapshot")
        # What the folder keeps is kept in the bucket, what is gone from it goes.
        assert {name.split("/")[1] for name in names(s3_bucket) if "manifest.json" in name} == {id[7:] for id in ids}
        here.shelf.drop(ids[0])
        ids.append(here.shelf.publish(library(range(1, 60))))
        await until(lambda: publisher.state["snapshot_id"] == ids[-1], "the snapshot")
        await until(lambda: not any(ids[0][7:] in name for name in names(s3_bucket)), "the oldest to go")

        refs = json.loads(read(s3_bucket, "refs.json"))
        assert refs["snapshot_id"] == ids[-1]
        assert refs["manifest"] == here.shelf.newest
        snapshots = {name.split("/")[1] for name in names(s3_bucket) if name.startswith("snapshots/")}
        assert snapshots == {id[7:] for id in ids[1:]}
        database = read(s3_bucket, f"snapshots/{ids[-1][7:]}/catalog_read.db")
        assert f"sha256:{hashlib.sha256(database).hexdigest()}" == refs["manifest"]["file"]["digest"]
        assert json.loads(read(s3_bucket, f"snapshots/{ids[-1][7:]}/manifest.json")) == refs["manifest"]

        # From the bucket alone: everything, or step by step from an older snapshot.
        by_have = {(pack["have"], pack["want"]): pack for pack in refs["packs"]}
        full = by_have[None, ids[-1]]
        assert full["mpack_id"] == f"sha256:{hashlib.sha256(read(s3_bucket, full['path'])).hexdigest()}"
        copy = tmp_path / "copy.db"
        await here.mirror(copy, ids[1])
        for have, want in itertools.pairwise(ids[1:]):
            apply(io.BytesIO(read(s3_bucket, by_have[have, want]["path"])), copy)
        assert content_of(copy).snapshot_id == ids[-1]


async def test_a_manifest_never_stands_beside_a_file_that_it_does_not_name(
    tmp_path: Path, s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A content that comes back lies in another file under the same name."""
    pairs: list[tuple[str, str]] = []

    def look(*_: object) -> None:
        for name in names(s3_bucket):
            folder = name.removesuffix("/manifest.json")
            if folder != name:
                named = json.loads(read(s3_bucket, name))["file"]["digest"]
                found = hashlib.sha256(read(s3_bucket, f"{folder}/catalog_read.db")).hexdigest()
                pairs.append((named, f"sha256:{found}"))

    for step in ("put_file", "put_open_file", "delete"):
        true = getattr(S3Storage, step)

        def watched(*arguments: Any, true: Any = true, **options: Any) -> Any:
            try:
                return true(*arguments, **options)
            finally:
                look()

        monkeypatch.setattr(S3Storage, step, watched)
    contents = [library(range(5)), library(range(6)), library(range(5))]
    async with published(tmp_path, bucket_of(s3_bucket)) as (here, publisher):
        ids = []
        for content in contents:
            ids.append(here.shelf.publish(content))
            await until(lambda: publisher.state["snapshot_id"] == ids[-1], "the snapshot")
    assert json.loads(read(s3_bucket, f"snapshots/{ids[-1][7:]}/manifest.json")) == here.shelf.newest
    assert len({named for named, _ in pairs}) == len(contents)
    assert [pair for pair in pairs if len(set(pair)) > 1] == []


async def test_publishing_again_sends_nothing_twice_and_sweeps_what_is_left(
    tmp_path: Path, s3_bucket: S3Bucket
) -> None:
    shelf = Shelf(tmp_path / "shelf")
    newest = shelf.publish(library(range(50)))
    async with published(tmp_path, bucket_of(s3_bucket), shelf=shelf) as (_, publisher):
        await until(lambda: publisher.state["snapshot_id"] == newest, "the snapshot")
    listed = s3_bucket.client.list_objects_v2(Bucket=s3_bucket.name)["Contents"]
    before = {entry["Key"]: entry["LastModified"] for entry in listed}
    # What a process that was killed may leave: no name, and a snapshot that never became one.
    s3_bucket.client.delete_object(Bucket=s3_bucket.name, Key="public/me/songs/refs.json")
    for left in (f"snapshots/{'0' * 64}/catalog_read.db", f"packs/{'0' * 64}.pack"):
        s3_bucket.client.put_object(Bucket=s3_bucket.name, Key=f"public/me/songs/{left}", Body=b"left")
    s3_bucket.client.put_object(Bucket=s3_bucket.name, Key="public/other", Body=b"not ours")

    async with published(tmp_path, bucket_of(s3_bucket), shelf=shelf, url_seconds=0) as (_, publisher):
        await until(lambda: publisher.published_at is not None, "the snapshot")
        await until(lambda: not any("0" * 64 in name for name in names(s3_bucket)), "the rest to go")
    listed = s3_bucket.client.list_objects_v2(Bucket=s3_bucket.name)["Contents"]
    after = {entry["Key"]: entry["LastModified"] for entry in listed}
    assert after.pop("public/other")
    del after["public/me/songs/refs.json"], before["public/me/songs/refs.json"]
    assert after == before


async def test_packs_of_a_url_that_still_lives_are_not_swept(tmp_path: Path, s3_bucket: S3Bucket) -> None:
    orphan = f"packs/{'0' * 64}.pack"
    began = time.monotonic()
    async with published(tmp_path, bucket_of(s3_bucket), url_seconds=1) as (here, publisher):
        one = here.shelf.publish(library(range(50)))
        await until(lambda: publisher.state["snapshot_id"] == one, "the snapshot")
        # The clock of the site stands still, so this URL lives on.
        offered = f"packs/{(await here.answer(one))['mpack_id'][7:]}.pack"
        s3_bucket.client.put_object(Bucket=s3_bucket.name, Key=f"public/me/songs/{orphan}", Body=b"left")
        await until(lambda: time.monotonic() - began > 2, "URLs of an earlier process to end")
        here.shelf.publish(library(range(60)))
        here.shelf.drop(one)
        await until(lambda: orphan not in names(s3_bucket), "packs to be swept")
        assert offered in names(s3_bucket)

        here.clock.now += 100
        here.shelf.publish(library(range(70)))
        await until(lambda: offered not in names(s3_bucket), "the pack to be swept")


async def test_packs_come_from_here_while_the_store_is_away(tmp_path: Path, s3_bucket: S3Bucket) -> None:
    place = bucket_of(s3_bucket, endpoint="http://127.0.0.1:1")
    async with published(tmp_path, place) as (here, publisher):
        newest = here.shelf.publish(library(range(50)))
        answer = await here.mirror(tmp_path / "mirror.db", newest)
        assert urlsplit(answer["mpack_url"]).port == here.http.base_url.port
        await until(lambda: publisher.problem is not None, "the reason")
        assert "OBJECT_ENDPOINT" in str(publisher.problem)
        assert publisher.state["snapshot_id"] is None


async def test_a_name_that_breaks_off_is_asked_for_again_and_not_taken_for_none(
    tmp_path: Path, s3_bucket: S3Bucket, http_server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.handlers.publish_objects._RETRY_AFTER", 0.1)
    shelf = Shelf(tmp_path / "shelf")
    newest = shelf.publish(library(range(5)))
    refs = json.dumps({"snapshot_id": newest, "manifest": shelf.newest, "packs": []}).encode()
    http_server.serve(
        f"/{s3_bucket.name}/public/me/songs/refs.json",
        Behavior(body=refs, send=0),
        Behavior(body=refs, send=20),
        Behavior(body=refs),
    )
    problems = set()
    async with published(tmp_path, bucket_of(s3_bucket, endpoint=http_server.url("")), shelf=shelf) as (_, publisher):

        def named() -> bool:
            problems.add(publisher.problem)
            return bool(publisher.state["snapshot_id"] == newest and publisher.problem is None)

        await until(named, "the name")
    assert any("broke off" in str(problem) for problem in problems)


async def test_a_bucket_that_the_public_reads_needs_no_signature(tmp_path: Path, s3_bucket: S3Bucket) -> None:
    base = "https://cdn.example/music"
    async with published(tmp_path, bucket_of(s3_bucket, base=base)) as (here, _):
        answer = await here.answer(here.shelf.publish(library(range(5))))
        assert answer["mpack_url"] == f"{base}/me/songs/packs/{answer['mpack_id'][7:]}.pack"


@pytest.mark.parametrize(
    "refs",
    [
        b"[" * 100_000,
        json.dumps({"snapshot_id": f"sha256:{'0' * 64}", "packs": [1]}).encode(),
        json.dumps({"snapshot_id": f"sha256:{'0' * 64}", "packs": [{"want": 5}, {"mpack_id": {}}]}).encode(),
    ],
)
async def test_a_name_that_others_wrote_is_replaced(tmp_path: Path, s3_bucket: S3Bucket, refs: bytes) -> None:
    s3_bucket.client.put_object(Bucket=s3_bucket.name, Key="public/me/songs/refs.json", Body=refs)
    async with published(tmp_path, bucket_of(s3_bucket)) as (here, publisher):
        newest = here.shelf.publish(library(range(5)))
        await until(lambda: publisher.state["snapshot_id"] == newest, "the snapshot")
    assert json.loads(read(s3_bucket, "refs.json"))["snapshot_id"] == newest
