"""An export that is killed at any step, or finds no room at any step, leaves the old snapshot or the new one."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from common.contracts.facts import Fact
from exporter.adapters.database import close_catalog, open_catalog
from exporter.adapters.export import export_snapshot
from exporter.adapters.read_database import ReadDatabase, name_catalog
from exporter.adapters.snapshots import SnapshotFolder
from exporter.errors import SnapshotError
from exporter.service.projection import Projection, read_batch
from mirror.format.digest import content_of
from mirror.format.schema import TABLES
from tests.support.catalog_facts import Log, playlist, pool, song, stored
from tests.support.disks import fill, in_memory, small_disk
from tests.support.export_steps import copy, export

ROOT = Path(__file__).resolve().parents[2]


class Prepared:
    """A catalog that was exported, and has changed since."""

    def __init__(self, folder: Path, *, songs: int = 40, snapshots: Path | None = None) -> None:
        self.folder = folder
        self.catalog = folder / "state" / "catalog.db"
        log = Log()
        names = [f"s{number}" for number in range(songs)]
        first: list[Fact] = [*[song(name) for name in names], *[stored(name) for name in names]]
        log.write(*first, *playlist("p", [*names, "later"]), pool("top", ["p"]))
        changed = len(log.all)
        log.write(*[song(name, name="other") for name in names[::3]], song("later"), song(names[1], removed=True))
        self.catalog.parent.mkdir(parents=True)
        connection = open_catalog(self.catalog)
        projection = Projection(connection)
        name_catalog(connection)
        projection.apply(read_batch(log.all[:changed]))
        if snapshots is None:
            export(folder)
        projection.apply(read_batch(log.all[changed:]))
        close_catalog(connection)
        offline = export_snapshot(self.catalog, folder / "offline")
        self.new = str(offline["snapshot_id"])


def current(folder: Path) -> dict[str, Any]:
    """The newest snapshot, which is whole."""
    place = folder / "snapshots" / "current"
    manifest: dict[str, Any] = json.loads((place / "manifest.json").read_text())
    database = place / "catalog_read.db"
    assert f"sha256:{hashlib.sha256(database.read_bytes()).hexdigest()}" == manifest["file"]["digest"]
    assert content_of(database).snapshot_id == manifest["snapshot_id"]
    return manifest


def groups(database: Path) -> dict[tuple[str, Any], list[Any]]:
    found: dict[tuple[str, Any], list[Any]] = {}
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        for name, table in TABLES.items():
            for row in connection.execute(f"SELECT * FROM {name} ORDER BY {', '.join(table.order)}"):
                found.setdefault((name, row[table.group_index]), []).append(row)
    return found


def assert_right_in_the_end(folder: Path, old: dict[str, Any], new: str) -> None:
    """What was left is the old snapshot or the new one, and the next export makes the new one, with its history."""
    assert current(folder)["snapshot_id"] in {old["snapshot_id"], new}
    before = groups(folder / "snapshots" / old["snapshot_id"].removeprefix("sha256:") / "catalog_read.db")
    export(folder)
    manifest = current(folder)
    assert manifest["snapshot_id"] == new
    lineage = ReadDatabase(folder=folder / "state" / "read", catalog=folder / "state" / "catalog.db").lineage
    known = lineage.find(old["snapshot_id"])
    assert known is not None
    assert manifest["lineage"] == known.lineage == old["lineage"], "a kill does not cost the history"
    after = groups(folder / "snapshots" / "current" / "catalog_read.db")
    changed = set(lineage.changes(after=known.revision))
    assert {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)} <= changed
    left = {entry.name for entry in (folder / "snapshots").iterdir()}
    assert left == {"current", old["snapshot_id"].removeprefix("sha256:"), new.removeprefix("sha256:")}


@contextmanager
def limited(disk: Path, room: int) -> Iterator[None]:
    """So many KiB are free meanwhile."""
    filler = fill(disk)
    with filler.open("r+b") as file:
        file.truncate(max(0, filler.stat().st_size - room * 1024))
    try:
        yield
    finally:
        filler.unlink()


def killed_at_each_step(prepared: Path, work: Path, *options: str) -> Iterator[Path]:
    program = [sys.executable, "-m", "tests.support.export_steps", str(prepared), str(work), *options]
    killed = 0
    with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        # Looked at while the next one is killed.
        for line in running.stdout:
            name, how = line.split()
            killed += how == "killed"
            yield work / name
            shutil.rmtree(work / name)
    assert running.returncode == 0
    assert killed > 100


def test_kill_9_at_each_step_of_an_export_after_changes(tmp_path: Path) -> None:
    with in_memory(tmp_path / "folder") as folder:
        prepared = Prepared(folder / "prepared")
        old = current(prepared.folder)
        for left in killed_at_each_step(prepared.folder, folder / "work", "--within", "15"):
            assert_right_in_the_end(left, old, prepared.new)


def test_kill_9_at_each_step_of_an_export_from_nothing(tmp_path: Path) -> None:
    with in_memory(tmp_path / "folder") as place:
        prepared = Prepared(place / "prepared", snapshots=place / "none")
        for folder in killed_at_each_step(prepared.folder, place / "work"):
            _assert_made_in_the_end(folder, prepared.new)


def _assert_made_in_the_end(folder: Path, new: str) -> None:
    if (folder / "snapshots" / "current").exists():
        assert current(folder)["snapshot_id"] == new
    export(folder)
    assert current(folder)["snapshot_id"] == new
    names = {entry.name for entry in (folder / "snapshots").iterdir()}
    assert names == {"current", new.removeprefix("sha256:")}


def test_a_disk_that_is_full_at_any_step_leaves_the_old_snapshot(tmp_path: Path) -> None:
    prepared = Prepared(tmp_path / "prepared", songs=200)
    old = current(prepared.folder)
    refused = 0
    with small_disk(tmp_path / "disk", size="4m") as disk:
        for room in range(0, 200, 8):
            for name in ("state/read", "snapshots"):
                (disk / name).mkdir(parents=True)
                copy(prepared.folder / name, disk / name)
            read = ReadDatabase(folder=disk / "state" / "read", catalog=prepared.catalog)
            folder = SnapshotFolder(disk / "snapshots", keep=2)
            # Every second time as a process does that has exported before: it copies while it counts.
            read._checked = room % 16 == 0
            with limited(disk, room):
                try:
                    folder.make(read)
                except SnapshotError as error:
                    assert error.code == "disk-full", error.message
                    assert current(disk) == old
                    refused += 1
            folder.make(read)
            made = current(disk)
            assert made["snapshot_id"] == prepared.new
            assert made["lineage"] == old["lineage"]
            shutil.rmtree(disk / "state")
            shutil.rmtree(disk / "snapshots")
    assert 5 < refused < 24, "the sizes must reach from the first step to the last"


@pytest.mark.parametrize("room", [0, 40, 200])
def test_a_full_disk_at_the_first_export_is_one_sentence_and_mends_itself(tmp_path: Path, room: int) -> None:
    prepared = Prepared(tmp_path / "prepared", songs=400, snapshots=tmp_path / "none")
    with small_disk(tmp_path / "disk", size="4m") as disk:
        read = ReadDatabase(folder=disk / "read", catalog=prepared.catalog)
        folder = SnapshotFolder(disk / "snapshots", keep=2)
        with limited(disk, room), pytest.raises(SnapshotError, match="disk is full"):
            folder.make(read)
        assert folder.current() is None
        manifest, _ = folder.make(read)
        assert manifest["snapshot_id"] == prepared.new
