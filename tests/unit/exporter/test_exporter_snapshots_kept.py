"""The folder of snapshots: what is kept, for whom, and how the newest is signed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from common.contracts.facts import PlaylistCollected
from exporter.adapters.database import close_catalog, move_aside, open_catalog
from exporter.adapters.read_database import ReadDatabase, name_catalog
from exporter.adapters.snapshots import SnapshotFolder, folder_name
from exporter.service.manifest import Manifest, Signing, point_in_time
from exporter.service.projection import Projection, read_batch
from mirror.format.keys import SigningKey
from mirror.format.manifest import parse, verify
from tests.support.catalog_facts import Log, playlist, pool, rows, song


class Exporter:
    """A catalog, its read database and its snapshots."""

    def __init__(self, root: Path) -> None:
        self.catalog = root / "catalog.db"
        self.log = Log()
        self.open()
        self.read = ReadDatabase(folder=root / "read", catalog=self.catalog)
        self.snapshots = root / "snapshots"

    def open(self) -> None:
        self.connection = open_catalog(self.catalog)
        self.projection = Projection(self.connection)
        name_catalog(self.connection)

    def write(self, *facts: object) -> None:
        before = len(self.log.all)
        self.log.write(*facts)  # type: ignore[arg-type]
        self.projection.apply(read_batch(self.log.all[before:]))

    def made(self, folder: SnapshotFolder, name: str) -> Manifest:
        self.write(song("a", name=name))
        return folder.make(self.read)[0]


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[Exporter]:
    one = Exporter(tmp_path)
    yield one
    close_catalog(one.connection)


def kept(exporter: Exporter) -> set[str]:
    return {f"sha256:{entry.name}" for entry in exporter.snapshots.iterdir() if len(entry.name) == 64}


def test_so_many_are_kept_and_none_too_old_but_the_newest(exporter: Exporter) -> None:
    folder = SnapshotFolder(exporter.snapshots, keep=3, keep_days=10)
    made = [exporter.made(folder, f"name {number}") for number in range(5)]
    assert kept(exporter) == {one["snapshot_id"] for one in made[2:]}
    for one, days in zip(made[2:], (9, 11, 12), strict=True):
        place = exporter.snapshots / folder_name(one) / "manifest.json"
        at = (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        place.write_text(json.dumps({**one, "generated_at": at}))
    folder.prune()
    assert kept(exporter) == {made[2]["snapshot_id"], made[4]["snapshot_id"]}
    assert folder.current() is not None


def test_what_somebody_holds_stays_until_he_lets_it_go(exporter: Exporter) -> None:
    folder = SnapshotFolder(exporter.snapshots, keep=1)
    first = exporter.made(folder, "one")
    with folder.hold(first["snapshot_id"]), folder.hold(first["snapshot_id"]):
        database = folder.database(first["snapshot_id"])
        second = exporter.made(folder, "two")
        assert database is not None
        assert database.is_file()
        assert folder.manifest(first["snapshot_id"]) == first
    third = exporter.made(folder, "three")
    assert kept(exporter) == {third["snapshot_id"]}
    assert folder.manifest(first["snapshot_id"]) is None
    assert folder.database(second["snapshot_id"]) is None
    assert exporter.read.lineage.find(first["snapshot_id"]) is not None, "remembered longer than its files"
    assert folder.database("sha256:../../x") is None


def test_a_snapshot_that_came_back_is_the_newest_again(exporter: Exporter) -> None:
    folder = SnapshotFolder(exporter.snapshots, keep=5)
    one, two = exporter.made(folder, "one"), exporter.made(folder, "two")
    again = exporter.made(folder, "one")
    assert again["snapshot_id"] == one["snapshot_id"]
    assert again["parent"] == two["snapshot_id"]
    assert (one["revision"], two["revision"], again["revision"]) == (1, 2, 3)
    assert again["revisions"] == {"first": 1, "last": 3}
    assert one["generated_at"] < two["generated_at"] < again["generated_at"]
    assert folder.current() == again
    assert exporter.made(folder, "one") == again, "the same content is not made again"


def test_the_newest_is_signed_anew_when_the_keys_change(exporter: Exporter) -> None:
    old, new = SigningKey.generate(), SigningKey.generate()
    unsigned = exporter.made(SnapshotFolder(exporter.snapshots, keep=2), "one")
    steps = [Signing(key=old), Signing(key=old, next_key=new), Signing(key=new)]
    listed = [{old.key_id}, {old.key_id, new.key_id}, {new.key_id}]
    trusted, before = {old.key_id: old.public_key}, unsigned["generated_at"]
    for signing, keys in zip(steps, listed, strict=True):
        folder = SnapshotFolder(exporter.snapshots, keep=2, signing=signing)
        manifest = folder.renew()
        assert manifest is not None
        parsed = parse((exporter.snapshots / "current" / "manifest.json").read_bytes())
        assert parsed.raw == manifest
        assert verify(parsed, trusted) == signing.key.key_id
        assert set(parsed.keys) == keys
        trusted |= parsed.keys
        assert manifest["snapshot_id"] == unsigned["snapshot_id"]
        assert manifest["generated_at"] > before, "mirrors take up only what is newer"
        before = manifest["generated_at"]
        place = exporter.snapshots / "current" / "manifest.json"
        written = os.stat(place).st_ino
        assert folder.renew() == manifest
        assert os.stat(place).st_ino == written, "written once"


def test_a_rebuilt_catalog_keeps_its_id_and_tells_its_new_lineage(exporter: Exporter) -> None:
    folder = SnapshotFolder(exporter.snapshots, keep=5)
    exporter.made(folder, "one")
    before = exporter.made(folder, "two")
    close_catalog(exporter.connection)
    move_aside(exporter.catalog)
    exporter.open()
    exporter.projection.apply(read_batch(exporter.log.compacted()))
    after = folder.make(exporter.read)[0]
    assert after["snapshot_id"] == before["snapshot_id"]
    assert after["lineage"] != before["lineage"]
    assert after == folder.current() == parse((exporter.snapshots / "current" / "manifest.json").read_bytes()).raw


def test_no_manifest_is_older_than_the_one_before_whatever_the_clock_says() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert point_in_time(now, after=None) == "2026-01-01T00:00:00.000Z"
    assert point_in_time(now, after="2025-12-31T23:59:59.000Z") == "2026-01-01T00:00:00.000Z"
    assert point_in_time(now, after="2026-05-01T00:00:00.500Z") == "2026-05-01T00:00:00.501Z"
    assert point_in_time(now, after="no time") == "2026-01-01T00:00:00.000Z"


def test_toplists_keep_their_ids_when_a_pool_gains_a_playlist(exporter: Exporter) -> None:
    """Ids of ours are hashes: whichever comes to a pool later may have the lowest."""
    folder = SnapshotFolder(exporter.snapshots, keep=1)
    keys = [f"p{number}" for number in range(8)]

    def toplists(listed: list[str], *others: PlaylistCollected) -> dict[str, str]:
        exporter.write(*others, pool("26", listed))
        folder.make(exporter.read)
        found = rows(exporter.snapshots / "current" / "catalog_read.db", ["catalog_toplists"])["catalog_toplists"]
        return {str(row[2]): str(row[0]) for row in found}

    named = toplists(keys[:1], *playlist(keys[0], []))
    assert named == {"Playlist p0": "26"}
    for number in range(2, 9):
        more = toplists(keys[:number], *playlist(keys[number - 1], []))
        assert more == {**named, f"Playlist {keys[number - 1]}": f"26:{keys[number - 1]}"}
        named = more
    late = toplists(["late", *keys])
    assert late == {**named, "Playlist p0": "26:p0"}, "who stands first has the pool's id, read or not"
    assert toplists(["late", *keys], *playlist("late", [])) == {**late, "Playlist late": "26"}
