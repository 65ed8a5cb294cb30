"""Nothing outside the folder is opened or written, whatever links say."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

import pytest

from common.errors import DependencyDown
from common.storage.beneath import open_beneath
from common.storage.content_types import CONTENT_TYPES, content_type
from common.storage.filesystem import FilesystemStorage
from common.storage.port import FileMissing


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret.mp3").write_bytes(b"secret")
    root = tmp_path / "library"
    (root / "qq").mkdir(parents=True)
    (root / "qq/song.mp3").write_bytes(b"music")
    return root


def opened(root: Path, locator: str) -> bytes:
    descriptor = open_beneath(root, locator)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def test_files_and_links_that_stay_inside_are_opened(root: Path) -> None:
    (root / "relative.mp3").symlink_to("qq/song.mp3")
    (root / "absolute.mp3").symlink_to(root / "qq/song.mp3")
    (root / "folder").symlink_to("qq")
    (root.parent / "alias").symlink_to(root)

    for locator in ("qq/song.mp3", "relative.mp3", "absolute.mp3", "folder/song.mp3"):
        assert opened(root, locator) == b"music"
        assert opened(root.parent / "alias", locator) == b"music"


def test_links_that_lead_outside_are_no_files(root: Path) -> None:
    (root / "file.mp3").symlink_to(root.parent / "outside/secret.mp3")
    (root / "up.mp3").symlink_to("../outside/secret.mp3")
    (root / "folder").symlink_to("../outside")
    (root / "loop").symlink_to("loop")
    (root / "proc").symlink_to("/proc/self")
    (root.parent / "library-2").mkdir()
    (root.parent / "library-2/song.mp3").write_bytes(b"a neighbor whose name begins alike")
    (root / "neighbor").symlink_to("../library-2")

    for locator in ("file.mp3", "up.mp3", "folder/secret.mp3", "loop", "proc/environ", "neighbor/song.mp3"):
        with pytest.raises(FileMissing) as caught:
            open_beneath(root, locator)
        assert str(root.parent) not in caught.value.message


def test_only_regular_files_are_opened(root: Path) -> None:
    os.mkfifo(root / "pipe.mp3")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(root / "s"))
    for locator in ("pipe.mp3", "s", "qq", "nothing", "qq/song.mp3/more", "x" * 300):
        with pytest.raises(FileMissing):
            open_beneath(root, locator)
    listening.close()


def test_a_folder_that_is_not_mounted_is_not_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DependencyDown, match="mounted") as caught:
        open_beneath(tmp_path / "gone", "a.mp3")
    assert str(tmp_path) not in caught.value.message
    with pytest.raises(DependencyDown):
        FilesystemStorage(root=tmp_path / "gone").check()


def test_nothing_is_written_or_removed_through_a_link_that_leads_outside(root: Path) -> None:
    (root / "folder").symlink_to("../outside")
    (root / "file.mp3").symlink_to("../outside/secret.mp3")
    storage = FilesystemStorage(root=root)
    source = root / "qq/song.mp3"
    digest = hashlib.sha256(b"music").hexdigest()

    with pytest.raises(FileMissing):
        storage.put_file(source, "folder/secret.mp3", sha256=digest, size=5)
    storage.delete("folder/secret.mp3")
    storage.put_file(source, "file.mp3", sha256=digest, size=5)

    assert (root.parent / "outside/secret.mp3").read_bytes() == b"secret"
    assert sorted(path.name for path in (root.parent / "outside").iterdir()) == ["secret.mp3"]
    assert not (root / "file.mp3").is_symlink()


def test_descriptors_are_closed(root: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for locator in ("qq/song.mp3", "nothing", "qq", "folder/x"):
        try:
            os.close(open_beneath(root, locator))
        except FileMissing:
            continue
    FilesystemStorage(root=root).delete("nothing/here.mp3")

    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_content_types_never_let_a_browser_run_a_file() -> None:
    assert content_type("a/b.FLAC") == "audio/flac"
    assert content_type("a.html") == content_type("a.svg") == content_type("a") == "application/octet-stream"
    assert not any("html" in kind or "svg" in kind or "xml" in kind for kind in CONTENT_TYPES.values())
