"""Mirroring from a bucket that the public reads, as the exporter fills it: no server answers, only files are there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mirror.client import Limits, Mirror, Pulled
from mirror.problems import NotOffered, Refused
from tests.support.mirrors import assert_shows
from tests.support.publisher import (
    CATALOG,
    Asked,
    Published,
    Publisher,
    PublisherServer,
    Reply,
    catalog,
    pack_of,
    serving,
)


class Bucket:
    """``refs.json``, the pack with everything, and one from each snapshot to the next."""

    def __init__(self, publisher: Publisher, server: PublisherServer) -> None:
        self._publisher, self._server = publisher, server
        self._deltas: list[dict[str, Any]] = []

    def publish(self, songs: int, note: str = "") -> Published:
        before = self._publisher.snapshots[-1] if self._publisher.snapshots else None
        made = self._publisher.publish(catalog(songs, note=note))
        if before:
            self._deltas.append(self._put(made, before))
        self.name(made, [self._put(made, None), *self._deltas])
        return made

    def sweep(self) -> None:
        """Remove all packs."""
        self._deltas.clear()
        for path in [path for path in self._server.files if path.endswith(".pack")]:
            del self._server.files[path]

    def name(self, newest: Published, packs: list[dict[str, Any]]) -> None:
        refs = {"snapshot_id": newest.id, "manifest": newest.manifest, "packs": packs}
        self._server.files[f"/{CATALOG}/refs.json"] = json.dumps(refs).encode()

    def _put(self, want: Published, have: Published | None) -> dict[str, Any]:
        data, blobs = pack_of(
            want.content,
            have.content if have else None,
            manifest=want.manifest_bytes,
            ids=(want.id, have.id if have else None),
        )
        digest = hashlib.sha256(data).hexdigest()
        self._server.files[f"/{CATALOG}/packs/{digest}.pack"] = data
        return {
            "want": want.id,
            "have": have.id if have else None,
            "mpack_id": f"sha256:{digest}",
            "size": len(data),
            "blob_count": blobs,
            "path": f"packs/{digest}.pack",
        }


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


@pytest.fixture
def server(publisher: Publisher) -> Iterator[PublisherServer]:
    with serving(publisher) as running:
        yield running


@pytest.fixture
def bucket(publisher: Publisher, server: PublisherServer) -> Bucket:
    return Bucket(publisher, server)


def pull(server: PublisherServer, folder: Path) -> Pulled:
    with Mirror(folder, server.url, limits=Limits(wait=0)) as mirror:
        return mirror.pull()


def packs_read(server: PublisherServer) -> int:
    return sum(".pack" in one.path for one in server.asked)


def test_everything_then_the_changes(bucket: Bucket, server: PublisherServer, tmp_path: Path) -> None:
    first = bucket.publish(2000)
    assert pull(server, tmp_path).first_keys
    assert_shows(tmp_path, first)

    second = bucket.publish(2001)
    pulled = pull(server, tmp_path)

    assert (pulled.delta, pulled.first_keys) == (True, {})
    assert_shows(tmp_path, second)
    assert not pull(server, tmp_path).changed


def test_a_mirror_that_missed_some_applies_one_after_the_other(
    bucket: Bucket, server: PublisherServer, tmp_path: Path
) -> None:
    bucket.publish(2000)
    pull(server, tmp_path)
    for songs in (2001, 2002, 2003):
        last = bucket.publish(songs)

    assert pull(server, tmp_path).delta

    assert_shows(tmp_path, last)
    assert packs_read(server) == 4


@pytest.mark.parametrize("behind", [False, True], ids=["the first pull", "one that follows"])
def test_a_publisher_who_moves_on_and_sweeps_meanwhile(
    bucket: Bucket, server: PublisherServer, tmp_path: Path, behind: bool
) -> None:
    bucket.publish(2000)
    if behind:
        pull(server, tmp_path)
        bucket.publish(2001)
    published: list[Published] = []
    true = server.reply

    def moving(asked: Asked) -> Reply:
        if ".pack" in asked.path and not published:
            bucket.sweep()
            published.append(bucket.publish(2002))
        return true(asked)

    server.reply = moving  # type: ignore[method-assign]
    assert pull(server, tmp_path).changed

    assert_shows(tmp_path, published[0])


def test_everything_again_where_that_is_less(bucket: Bucket, server: PublisherServer, tmp_path: Path) -> None:
    bucket.publish(2000)
    pull(server, tmp_path)
    bucket.publish(3000, note="!")
    last = bucket.publish(10)

    assert not pull(server, tmp_path).delta

    assert_shows(tmp_path, last)
    assert packs_read(server) == 2


def test_packs_that_lie_elsewhere_are_not_asked_for(
    bucket: Bucket, server: PublisherServer, publisher: Publisher, tmp_path: Path
) -> None:
    first = bucket.publish(10)
    pull(server, tmp_path)
    last = publisher.publish(catalog(11))
    away = {"want": last.id, "have": None, "mpack_id": last.id, "size": 1, "blob_count": 1, "path": "http://10.0.0.1/p"}
    bucket.name(last, [away])

    with pytest.raises(Refused) as refused:
        pull(server, tmp_path)

    assert refused.value.code == "url-not-encrypted"
    assert_shows(tmp_path, first)


@pytest.mark.parametrize("packs", [[], "none", [1, None], [{"want": "x", "path": "p"}]])
def test_a_list_that_leads_nowhere(
    bucket: Bucket, server: PublisherServer, publisher: Publisher, tmp_path: Path, packs: Any
) -> None:
    bucket.name(publisher.publish(catalog(3)), packs)

    with pytest.raises((NotOffered, Refused)):
        pull(server, tmp_path)
