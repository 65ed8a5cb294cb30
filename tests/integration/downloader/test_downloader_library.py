"""Filing: import modes, names that collide, upgrades, adoption after a crash, a full disk."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.contracts.names import ImportMode
from common.errors import DependencyDown, PermanentError
from downloader.errors import DiskFull
from downloader.ports import Placing
from downloader.service.store import Already, Ready
from sources.port import FileCandidate
from tests.integration.downloader.harness import Pipeline, make_song
from tests.support.audio import make_audio

STORE_MANY = """
import sys
from pathlib import Path
from sources.port import FileCandidate
from tests.integration.downloader.harness import Pipeline, make_song
root, first = Path(sys.argv[1]), int(sys.argv[2])
pipeline = Pipeline(root)
for number in range(first, first + 20):
    name = ("Same", "SAME", "same")[number % 3]
    song = make_song(f"{number}.flac", source="local", name=name)
    path = root / "music" / f"{number}.flac"
    pipeline.complete(pipeline.request(song, FileCandidate(source="local", path=path, locator=f"{number}.flac")))
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "music"
    folder.mkdir()
    return folder


def candidate(path: Path) -> FileCandidate:
    return FileCandidate(source="local", path=path, locator=path.name)


@pytest.mark.parametrize("mode", [ImportMode.COPY, ImportMode.REFLINK, ImportMode.HARDLINK])
def test_a_file_enters_the_library(pipeline: Pipeline, source: Path, mode: ImportMode) -> None:
    path = make_audio(source / "a.flac")
    before = path.read_bytes()
    song = make_song("a.flac", source="local", album="Album", fingerprint="f1")
    fact = pipeline.complete(pipeline.request(song, candidate(path), mode=mode))
    stored = pipeline.library / fact.locator
    assert fact.sha256 == hashlib.sha256(stored.read_bytes()).hexdigest()
    assert fact.listing_fingerprint == "f1"
    assert path.read_bytes() == before, "the source is never written"
    if mode is ImportMode.HARDLINK:
        assert stored.samefile(path)
        assert fact.import_mode is mode
        assert fact.tags.title is None, "a file with two names gets no tags"
    else:
        assert not stored.samefile(path)
        assert fact.import_mode in (ImportMode.COPY, ImportMode.REFLINK)
        assert fact.tags.album == "Album"
    assert pipeline.leftovers() == []


def test_by_reference_nothing_is_written(pipeline: Pipeline, source: Path) -> None:
    path = make_audio(source / "a.flac", title="T")
    song = make_song("a.flac", source="local")
    result = pipeline.run(pipeline.request(song, candidate(path), mode=ImportMode.REFERENCE))
    assert isinstance(result, Ready)
    assert (result.fact.backend, result.fact.locator) == ("local", "a.flac")
    assert pipeline.files() == []
    again = pipeline.run(pipeline.request(song, candidate(path), mode=ImportMode.REFERENCE, referenced=result.fact))
    assert isinstance(again, Already)


def test_a_hard_link_over_file_systems_has_its_reason(pipeline: Pipeline, other_disk: Path) -> None:
    path = make_audio(other_disk / "a.wav", ext="wav", seconds=0.2)
    with pytest.raises(PermanentError) as caught:
        pipeline.run(pipeline.request(make_song("a.wav", source="local"), candidate(path), mode=ImportMode.HARDLINK))
    assert caught.value.code == "hardlink-impossible"
    assert "IMPORT_MODE" in caught.value.message
    assert pipeline.leftovers() == []


def test_a_reflink_over_file_systems_is_a_copy(pipeline: Pipeline, other_disk: Path) -> None:
    path = make_audio(other_disk / "a.wav", ext="wav", seconds=0.2)
    fact = pipeline.complete(pipeline.request(make_song("a.wav", source="local"), candidate(path)))
    assert fact.import_mode is ImportMode.COPY


@pytest.mark.parametrize("kind", ["gone", "pipe", "folder", "link"])
def test_what_is_not_a_plain_file_has_its_reason(pipeline: Pipeline, source: Path, kind: str) -> None:
    path = source / "a.flac"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("/etc/passwd")
    with pytest.raises(PermanentError) as caught:
        pipeline.run(pipeline.request(make_song("a.flac", source="local"), candidate(path)))
    assert caught.value.code == ("source-file-missing" if kind == "gone" else "source-file-unreadable")
    assert pipeline.leftovers() == []


@pytest.mark.parametrize(("first", "second"), [("Name", "Name"), ("Name", "NAME"), ("Caf\u00e9", "Cafe\u0301")])
def test_two_songs_with_one_target_name(pipeline: Pipeline, source: Path, first: str, second: str) -> None:
    one = make_audio(source / "1.flac", frequency=300)
    two = make_audio(source / "2.flac", frequency=600)
    song_one = make_song("1.flac", source="local", name=first)
    song_two = make_song("2.flac", source="local", name=second)
    fact_one = pipeline.complete(pipeline.request(song_one, candidate(one)))
    fact_two = pipeline.complete(pipeline.request(song_two, candidate(two)))
    assert str(song_two.song_id) in fact_two.locator
    assert str(song_one.song_id) not in fact_one.locator
    assert len(pipeline.files()) == 2


def test_folders_that_differ_in_case_are_one(pipeline: Pipeline, source: Path) -> None:
    for number, singer in enumerate(("Band", "BAND", "band")):
        path = make_audio(source / f"{number}.flac", frequency=300 + number)
        song = make_song(path.name, source="local", name=f"Song {number}", singers=(singer,))
        pipeline.complete(pipeline.request(song, candidate(path)))
    assert [entry.name for entry in (pipeline.library / "local").iterdir()] == ["Band"]


def test_a_link_in_the_library_leads_nowhere(pipeline: Pipeline, source: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (pipeline.library / "local").symlink_to(outside)
    path = make_audio(source / "a.flac")
    with pytest.raises(PermanentError) as caught:
        pipeline.run(pipeline.request(make_song("a.flac", source="local"), candidate(path)))
    assert caught.value.code == "outside-library"
    assert list(outside.iterdir()) == []


def test_what_is_stored_is_not_fetched_again(pipeline: Pipeline, source: Path) -> None:
    path = make_audio(source / "a.flac")
    song = make_song("a.flac", source="local", fingerprint="f1")
    fact = pipeline.complete(pipeline.request(song, candidate(path)))
    path.unlink()
    again = pipeline.run(pipeline.request(song, candidate(path), known=fact))
    assert isinstance(again, Already)
    changed = song.model_copy(update={"fingerprint": "f2"})
    with pytest.raises(PermanentError):
        pipeline.run(pipeline.request(changed, candidate(path), known=fact))


def test_a_stored_file_may_go_within_one_tick_of_the_clock(pipeline: Pipeline, source: Path) -> None:
    path = make_audio(source / "a.flac")
    song = make_song("a.flac", source="local")
    fact = pipeline.complete(pipeline.request(song, candidate(path)))
    stored = pipeline.library / fact.locator
    stamp = stored.parent.stat().st_mtime_ns
    stored.unlink()
    os.utime(stored.parent, ns=(stamp, stamp))
    again = pipeline.complete(pipeline.request(song, candidate(path), known=fact))
    assert again.locator == fact.locator
    assert stored.is_file()


def test_a_stored_file_that_is_gone_is_fetched_again(pipeline: Pipeline, source: Path) -> None:
    path = make_audio(source / "a.flac")
    song = make_song("a.flac", source="local")
    fact = pipeline.complete(pipeline.request(song, candidate(path)))
    (pipeline.library / fact.locator).unlink()
    again = pipeline.complete(pipeline.request(song, candidate(path), known=fact))
    assert pipeline.files() == [again.locator] == [fact.locator]


def test_an_upgrade_takes_the_name_and_the_old_file_goes_to_the_trash(pipeline: Pipeline, source: Path) -> None:
    path = make_audio(source / "a.flac", frequency=300)
    song = make_song("a.flac", source="local", force=True)
    old = pipeline.complete(pipeline.request(song, candidate(path)))
    old_bytes = (pipeline.library / old.locator).read_bytes()
    make_audio(path, frequency=600)
    new = pipeline.complete(pipeline.request(song, candidate(path), known=old, cause="try-2"))
    assert new.locator == old.locator
    assert new.sha256 != old.sha256
    assert [trashed.read_bytes() for trashed in pipeline.trash()] == [old_bytes]
    make_audio(path, ext="wav", frequency=600)
    other = pipeline.complete(pipeline.request(song, candidate(path), known=new, cause="try-3"))
    assert pipeline.files() == [other.locator]
    assert other.locator.endswith(".wav")
    assert len(pipeline.trash()) == 2


def test_the_same_bytes_by_force_move_nothing(pipeline: Pipeline, source: Path) -> None:
    path = make_audio(source / "a.flac")
    song = make_song("a.flac", source="local", force=True)
    fact = pipeline.complete(pipeline.request(song, candidate(path)))
    inode = (pipeline.library / fact.locator).stat().st_ino
    again = pipeline.complete(pipeline.request(song, candidate(path), known=fact, cause="try-2"))
    assert again.locator == fact.locator
    assert (pipeline.library / fact.locator).stat().st_ino == inode
    assert pipeline.trash() == []


def placing_of(pipeline: Pipeline, song_id: int) -> Placing:
    placing = pipeline.spool.recall(song_id)
    assert isinstance(placing, Placing)
    return placing


def test_a_crash_after_the_rename_is_adopted(pipeline: Pipeline, source: Path) -> None:
    path = make_audio(source / "a.flac")
    song = make_song("a.flac", source="local")
    first = pipeline.run(pipeline.request(song, candidate(path)))
    path.unlink()
    again = pipeline.run(pipeline.request(song, candidate(path)))
    assert isinstance(first, Ready)
    assert isinstance(again, Ready)
    assert again.fact == first.fact
    pipeline.store.finish(again)
    assert pipeline.files() == [first.fact.locator]
    assert pipeline.leftovers() == []


def test_a_crash_before_the_rename_is_completed(pipeline: Pipeline, source: Path) -> None:
    path = make_audio(source / "a.flac")
    song = make_song("a.flac", source="local")
    first = pipeline.run(pipeline.request(song, candidate(path)))
    placing = placing_of(pipeline, song.song_id)
    os.rename(pipeline.library / first.fact.locator, placing.path)
    path.unlink()
    again = pipeline.run(pipeline.request(song, candidate(path)))
    assert again.fact == first.fact
    assert pipeline.files() == [first.fact.locator]


def test_a_record_that_a_power_cut_spoiled(pipeline: Pipeline, source: Path) -> None:
    path = make_audio(source / "a.flac")
    song = make_song("a.flac", source="local")
    first = pipeline.run(pipeline.request(song, candidate(path)))
    (pipeline.spool.root / f"{song.song_id}.json").write_bytes(b"")
    again = pipeline.complete(pipeline.request(song, candidate(path)))
    assert pipeline.files() == [again.locator] == [first.fact.locator]
    assert pipeline.leftovers() == []


def test_after_a_crash_another_songs_file_with_the_same_content_is_not_adopted(
    pipeline: Pipeline, source: Path
) -> None:
    path = make_audio(source / "a.flac", title="T", artist="A", album="L")
    other = make_song("other.flac", source="local")
    theirs = pipeline.complete(pipeline.request(other, candidate(path)))
    song = make_song("a.flac", source="local")
    first = pipeline.run(pipeline.request(song, candidate(path)))
    assert isinstance(first, Ready)
    assert first.fact.sha256 == theirs.sha256
    again = pipeline.run(pipeline.request(song, candidate(path)))
    assert again.fact.locator == first.fact.locator != theirs.locator


def test_a_forced_try_is_done_once(pipeline: Pipeline, source: Path) -> None:
    path = make_audio(source / "a.flac")
    song = make_song("a.flac", source="local", force=True)
    first = pipeline.run(pipeline.request(song, candidate(path), cause="try-1"))
    again = pipeline.run(pipeline.request(song, candidate(path), cause="try-1"))
    assert isinstance(again, Ready)
    assert again.result.get("adopted") == "yes"
    published = pipeline.run(pipeline.request(song, candidate(path), cause="try-1", known=first.fact, mine="library"))
    assert isinstance(published, Already)
    assert published.mine


def test_another_copys_file_stays_when_ours_is_withdrawn(pipeline: Pipeline, source: Path) -> None:
    path = make_audio(source / "a.flac")
    ready = pipeline.run(pipeline.request(make_song("a.flac", source="local"), candidate(path)))
    assert isinstance(ready, Ready)
    pipeline.store.withdraw(ready)
    assert pipeline.files() == []
    assert pipeline.leftovers() == []


def test_several_processes_share_one_library(tmp_path: Path, source: Path, pipeline: Pipeline) -> None:
    whole = make_audio(source / "0.flac", seconds=0.2, title="T", artist="A", album="L").read_bytes()
    for number in range(1, 60):
        (source / f"{number}.flac").write_bytes(whole)
    processes = [
        subprocess.Popen([sys.executable, "-c", STORE_MANY, str(tmp_path), str(first)], cwd=Path(__file__).parents[3])
        for first in (0, 20, 40)
    ]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    files = pipeline.files()
    assert len(files) == 60
    assert len({name.casefold() for name in files}) == 60, "no two names differ in case only"
    assert pipeline.leftovers() == []


def test_threads_of_one_process_share_one_library(source: Path, pipeline: Pipeline) -> None:
    whole = make_audio(source / "0.flac", seconds=0.2, title="T", artist="A", album="L").read_bytes()
    paths = [source / f"{number}.flac" for number in range(24)]
    for path in paths:
        path.write_bytes(whole)

    def store(path: Path) -> None:
        pipeline.complete(pipeline.request(make_song(path.name, source="local"), candidate(path)))

    threads = [threading.Thread(target=store, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pipeline.files()) == len(paths)


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a tmpfs cannot be mounted here: it takes root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_holds_and_leaves_nothing(other_disk: Path, source: Path) -> None:
    small = Pipeline(other_disk)
    big = make_audio(source / "big.wav", ext="wav", seconds=45.0)
    assert big.stat().st_size > 3 * 1024**2
    with pytest.raises(DiskFull) as caught:
        small.run(small.request(make_song("big.wav", source="local"), candidate(big)))
    assert isinstance(caught.value, DependencyDown)
    assert caught.value.code == "disk-full"
    assert "space" in caught.value.message
    assert small.leftovers() == []
    # There is room for a small one, and the next try goes on.
    little = make_audio(source / "little.wav", ext="wav", seconds=1.0)
    assert small.complete(small.request(make_song("little.wav", source="local"), candidate(little))).size
    small.close()


def test_a_disk_that_fills_up_meanwhile_holds_and_leaves_nothing(other_disk: Path, source: Path) -> None:
    small = Pipeline(other_disk)
    big = make_audio(source / "big.wav", ext="wav", seconds=30.0)
    free = os.statvfs(other_disk)
    filler = other_disk / "filler"

    def fill(done: int, total: int | None, note: str) -> None:
        if not filler.exists():
            filler.write_bytes(b"x" * (free.f_bavail * free.f_frsize - 1_000_000))

    small.watch = small.watch.__class__(progress=fill, canceled=small.canceled.is_set)
    with pytest.raises(DiskFull):
        small.run(small.request(make_song("big.wav", source="local"), candidate(big)))
    assert small.leftovers() == []
    small.close()


def test_the_reserve_is_kept_free(tmp_path: Path, source: Path) -> None:
    greedy = Pipeline(tmp_path, reserve=1 << 60)
    path = make_audio(source / "a.flac")
    with pytest.raises(DiskFull):
        greedy.run(greedy.request(make_song("a.flac", source="local"), candidate(path)))
    greedy.close()


def test_permissions_follow_the_umask(pipeline: Pipeline, source: Path) -> None:
    path = make_audio(source / "a.flac")
    path.chmod(0o600)
    before = os.umask(0o027)
    try:
        fact = pipeline.complete(pipeline.request(make_song("a.flac", source="local"), candidate(path)))
    finally:
        os.umask(before)
    stored = pipeline.library / fact.locator
    assert stored.stat().st_mode & 0o777 == 0o640
    assert stored.parent.stat().st_mode & 0o777 == 0o750
