"""The folder of a mirror: one writer, whole snapshots, and nothing left behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mirror.copying import copy_file
from mirror.folder import Folder, Snapshot
from mirror.format.manifest import parse
from mirror.problems import Busy, LocalProblem
from tests.support.publisher import Publisher, catalog, write_database


def put(folder: Folder, publisher: Publisher, songs: int, *, keep: int = 1) -> Snapshot:
    """Place a snapshot as a pull does."""
    published = publisher.publish(catalog(songs))
    with folder.locked(), folder.staging() as staging:
        write_database(published.content, staging / "catalog_read.db").close()
        (staging / "manifest.json").write_bytes(published.manifest_bytes)
        return folder.put(staging, parse(published.manifest_bytes), keep=keep)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    one, other = Folder(tmp_path), Folder(tmp_path)

    with one.locked(), pytest.raises(Busy, match="at work"), other.locked():
        raise AssertionError("both are in")

    with other.locked():
        pass


def test_current_changes_in_one_step_and_the_one_before_is_kept(tmp_path: Path) -> None:
    folder, publisher = Folder(tmp_path), Publisher()
    first = put(folder, publisher, 1)
    link = os.readlink(tmp_path / "current")

    second = put(folder, publisher, 2)

    assert (tmp_path / link).resolve() == first.folder
    assert folder.kept() == [first.folder, second.folder]
    current = folder.current()
    assert current is not None
    assert current.folder == second.folder
    assert current.database.stat().st_mode & 0o222 == 0


@pytest.mark.parametrize("keep", [0, 1, 3])
def test_as_many_are_kept_as_was_asked(tmp_path: Path, keep: int) -> None:
    folder, publisher = Folder(tmp_path), Publisher()

    folders = [put(folder, publisher, songs, keep=keep).folder for songs in range(1, 6)]

    assert folder.kept() == folders[4 - keep :]


def test_the_one_before_is_kept_though_its_name_is_the_oldest(tmp_path: Path) -> None:
    folder, publisher = Folder(tmp_path), Publisher()
    put(folder, publisher, 1, keep=9)
    newer = put(folder, publisher, 2, keep=9)
    oldest_date = {"generated_at": "2020-01-01T00:00:00.000Z"}
    older = publisher.made(catalog(3), **oldest_date)
    with folder.locked(), folder.staging() as staging:
        write_database(older.content, staging / "catalog_read.db").close()
        (staging / "manifest.json").write_bytes(older.manifest_bytes)
        back = folder.put(staging, parse(older.manifest_bytes), keep=1)

    assert set(folder.kept()) == {back.folder, newer.folder}
    with folder.locked():
        assert set(folder.kept()) == {back.folder, newer.folder}, "nor does the next start take it"


def test_the_same_snapshot_again_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    folder, publisher = Folder(tmp_path), Publisher()
    first = put(folder, publisher, 1)
    again = publisher.snapshots[0]
    with folder.locked(), folder.staging() as staging:
        write_database(again.content, staging / "catalog_read.db").close()
        (staging / "manifest.json").write_bytes(again.manifest_bytes)
        second = folder.put(staging, parse(again.manifest_bytes), keep=1)

    assert first.folder != second.folder
    current = folder.current()
    assert current is not None
    assert current.folder == second.folder


@pytest.mark.parametrize("renamed", [False, True], ids=["before it placed a snapshot", "before it switched to it"])
def test_what_a_killed_process_left_is_removed_at_the_next_start(tmp_path: Path, renamed: bool) -> None:
    folder, publisher = Folder(tmp_path), Publisher()
    first = put(folder, publisher, 1)
    (tmp_path / ".staging").mkdir()
    (tmp_path / ".staging" / "catalog_read.db").write_bytes(b"half")
    placed = tmp_path / "snapshots" / "20990101T000000000Z-0123456789abcdef"
    (tmp_path / ".current.new").symlink_to(f"snapshots/{placed.name}")
    if renamed:
        placed.mkdir()
        (placed / "catalog_read.db").write_bytes(b"whole")

    with folder.locked():
        assert folder.kept() == [first.folder]
        assert not (tmp_path / ".staging").exists()
        assert not (tmp_path / ".current.new").is_symlink()
    current = folder.current()
    assert current is not None
    assert current.folder == first.folder


@pytest.mark.parametrize("damage", ["manifest.json", "catalog_read.db", ""])
def test_a_current_that_cannot_be_read_is_none(tmp_path: Path, damage: str) -> None:
    folder = Folder(tmp_path)
    snapshot = put(folder, Publisher(), 1)

    if damage:
        (snapshot.folder / damage).unlink()
    else:
        (tmp_path / "current").unlink()

    assert folder.current() is None


def test_a_place_that_is_no_folder_is_a_problem_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")

    with pytest.raises(LocalProblem, match="cannot be used"), Folder(tmp_path / "file").locked():
        raise AssertionError("it was taken")


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_a_copy_has_the_same_bytes_and_is_independent(tmp_path: Path, size: int) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    data = os.urandom(size)
    source.write_bytes(data)

    copy_file(source, target)
    with target.open("ab") as file:
        file.write(b"more")

    assert source.read_bytes() == data
    assert target.read_bytes() == data + b"more"
    with pytest.raises(FileExistsError):
        copy_file(source, target)
