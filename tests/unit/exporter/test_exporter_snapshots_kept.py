"""The folder of snapshots: what is kept, for whom, and how the newest is signed."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from common.contracts.facts import PlaylistCollected
from exporter.adapters.database import close_catalog, move_aside, open_catalog
from exporter.adapters.pair import digest_of
from exporter.adapters.read_database import ReadDatabase, name_catalog
from exporter.adapters.snapshots import SnapshotFolder, folder_name
from exporter.errors import SnapshotError
from exporter.service.manifest import Manifest, Signing, point_in_time
from exporter.service.projection import Projection, read_batch
from mirror.format.digest import content_of
from mirror.format.keys import SigningKey
from mirror.format.manifest import parse, verify
from mirror.trust import Accepted, check_progress
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


def _missing(database: Path) -> None:
    database.unlink()


def _cut(database: Path) -> None:
    os.truncate(database, 4096)


def _flipped(database: Path) -> None:
    data = bytearray(database.read_bytes())
    data[len(data) // 2] ^= 1
    database.write_bytes(data)


def _without_manifest(database: Path) -> None:
    database.with_name("manifest.json").unlink()


@pytest.mark.parametrize("spoil", [_missing, _cut, _flipped, _without_manifest])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_lost_or_damaged_file_of_the_newest_is_put_anew(
    exporter: Exporter, spoil: Callable[[Path], None], restarted: bool
) -> None:
    key = SigningKey.generate()

    def folder() -> SnapshotFolder:
        return SnapshotFolder(exporter.snapshots, keep=5, signing=Signing(key=key))

    keeper = folder()
    older = exporter.made(keeper, "one")
    newest = exporter.made(keeper, "two")
    assert keeper.is_sound(newest)
    spoil(exporter.snapshots / "current" / "catalog_read.db")
    if restarted:
        keeper = folder()
        exporter.read = ReadDatabase(folder=exporter.read.path.parent, catalog=exporter.catalog)
    # What has been read through is not, whenever one looks; unless somebody asks for it.
    assert keeper.is_sound(newest) == (spoil is _flipped and not restarted)
    assert not keeper.is_sound(newest, thorough=True)

    again, _ = keeper.make(exporter.read, thorough=not restarted)
    current = exporter.snapshots / "current"
    parsed = parse((current / "manifest.json").read_bytes())
    assert parsed.raw == again == keeper.current()
    assert again["file"]["digest"] == digest_of(current / "catalog_read.db")
    assert content_of(current / "catalog_read.db").snapshot_id == again["snapshot_id"] == newest["snapshot_id"]
    assert (again["lineage"], again["revision"]) == (newest["lineage"], newest["revision"])
    if spoil is not _without_manifest:
        assert again["parent"] == older["snapshot_id"]
        check_progress(parsed, Accepted.of(parse(json.dumps(newest).encode())))
        assert again["generated_at"] > newest["generated_at"], "mirrors take up only what is newer"
    assert keeper.is_sound(again, thorough=True)
    assert keeper.make(exporter.read) == (again, 2), "once"
    assert kept(exporter) == {older["snapshot_id"], newest["snapshot_id"]}


@pytest.mark.parametrize("lost", [1, 3])
@pytest.mark.parametrize("changed", [False, True])
def test_a_state_put_back_from_an_older_copy_begins_a_new_lineage(
    exporter: Exporter, tmp_path: Path, lost: int, changed: bool
) -> None:
    """Mirrors have the revisions that the copy knows nothing of, and take a lower one for a step back."""
    folder = SnapshotFolder(exporter.snapshots, keep=5)
    exporter.made(folder, "one")
    exporter.made(folder, "two")
    close_catalog(exporter.connection)
    state = (exporter.catalog, exporter.read.path, exporter.read.lineage.path)
    copies = {path: path.read_bytes() for path in state}
    exporter.open()
    for number in range(lost):
        last = exporter.made(folder, f"later {number}")
    close_catalog(exporter.connection)
    for path, data in copies.items():
        path.write_bytes(data)
    exporter.open()
    # The bus still holds what came since.
    exporter.projection.apply(read_batch(exporter.log.all[2:]))
    if changed:
        exporter.write(song("a", name="now"))

    read = ReadDatabase(folder=exporter.read.path.parent, catalog=exporter.catalog)
    made, _ = folder.make(read)
    check_progress(parse(json.dumps(made).encode()), Accepted.of(parse(json.dumps(last).encode())))
    assert made["lineage"] != last["lineage"]
    assert (made["snapshot_id"] == last["snapshot_id"]) == (not changed)
    assert folder.make(read)[0] == made
    exporter.read = read
    following = exporter.made(folder, "and on")
    assert (following["lineage"], following["revision"]) == (made["lineage"], 2)


def test_what_was_not_finished_is_not_older_than_what_was_signed_meanwhile(
    exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export that failed after its rows were written takes up their time; mirrors have a newer one by then."""
    old, new = SigningKey.generate(), SigningKey.generate()
    folder = SnapshotFolder(exporter.snapshots, keep=5, signing=Signing(key=old, next_key=new))
    exporter.made(folder, "one")
    with monkeypatch.context() as patch, pytest.raises(SnapshotError):
        patch.setattr("exporter.adapters.snapshots.put_in_place", _no_room)
        exporter.made(folder, "two")
    written = exporter.read.update()
    while datetime.now(UTC) <= datetime.fromisoformat(written.generated_at) + timedelta(milliseconds=1):
        time.sleep(0.001)
    folder = SnapshotFolder(exporter.snapshots, keep=5, signing=Signing(key=new))
    renewed = folder.renew()
    assert renewed is not None
    assert renewed["generated_at"] > written.generated_at
    made, _ = folder.make(exporter.read)
    assert made["snapshot_id"] == written.content.snapshot_id
    assert made["generated_at"] > renewed["generated_at"]


def _no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


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
