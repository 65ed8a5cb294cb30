"""Every backend keeps the promises of the port: one suite, run on a real folder and on a real S3 server."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from common.errors import MusicCloudError
from common.storage.filesystem import FilesystemStorage
from common.storage.locators import InvalidLocator
from common.storage.port import FileChanged, FileMissing, PutResult, Storage, TransferCanceled
from common.storage.s3 import MIB, S3Config, S3Storage
from tests.support.s3 import S3Bucket

UNICODE = "qq/周杰倫 & 五月天/晴天 (Live) 'é' #1 100% + 🎵?.flac"


@pytest.fixture(params=["folder", "s3", "s3-prefix", "s3-parts"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param == "folder":
        root = tmp_path / "library"
        root.mkdir()
        yield FilesystemStorage(root=root)
        return
    bucket: S3Bucket = request.getfixturevalue("s3_bucket")
    prefix = "/some/prefix/" if request.param == "s3-prefix" else ""
    limit = 1 if request.param == "s3-parts" else 64 * MIB
    store = S3Storage(config=config(bucket, prefix=prefix, single_put_limit=limit))
    yield store
    store.close()


def config(bucket: S3Bucket, *, prefix: str = "", single_put_limit: int = 64 * MIB) -> S3Config:
    return S3Config(
        bucket=bucket.name,
        access_key=bucket.server.access_key,
        secret_key=bucket.server.secret_key,
        endpoint=bucket.server.endpoint,
        prefix=prefix,
        single_put_limit=single_put_limit,
        part_size=5 * MIB,
    )


def make(tmp_path: Path, content: bytes) -> tuple[Path, str, int]:
    path = tmp_path / f"source-{hashlib.md5(content).hexdigest()}"
    path.write_bytes(content)
    return path, hashlib.sha256(content).hexdigest(), len(content)


def put(storage: Storage, tmp_path: Path, locator: str, content: bytes) -> PutResult:
    path, sha256, size = make(tmp_path, content)
    return storage.put_file(path, locator, sha256=sha256, size=size)


def read(storage: Storage, locator: str) -> bytes:
    with closing(storage.open(locator)) as file:
        return file.read()


@pytest.mark.parametrize("locator", ["a.mp3", "qq/singer/song.flac", UNICODE])
def test_what_was_put_is_read_back(storage: Storage, tmp_path: Path, locator: str) -> None:
    content = b"music" * 10_000

    assert put(storage, tmp_path, locator, content) is PutResult.CREATED

    assert read(storage, locator) == content
    stat = storage.stat(locator)
    assert stat is not None
    assert stat.size == len(content)
    assert stat.sha256 in (None, hashlib.sha256(content).hexdigest())
    assert stat.content_type == ("audio/mpeg" if locator.endswith("mp3") else "audio/flac")


def test_the_same_content_twice_is_put_once(storage: Storage, tmp_path: Path) -> None:
    put(storage, tmp_path, "a/b.mp3", b"same")

    assert put(storage, tmp_path, "a/b.mp3", b"same") is PutResult.ALREADY_THERE


def test_other_content_replaces_it(storage: Storage, tmp_path: Path) -> None:
    put(storage, tmp_path, "a/b.mp3", b"old!")

    assert put(storage, tmp_path, "a/b.mp3", b"new!") is PutResult.CREATED
    assert read(storage, "a/b.mp3") == b"new!"


def test_an_empty_file_is_a_file(storage: Storage, tmp_path: Path) -> None:
    put(storage, tmp_path, "empty.mp3", b"")

    assert read(storage, "empty.mp3") == b""


@pytest.mark.parametrize("size", [5 * MIB, 11 * MIB + 17])
def test_large_files_arrive_whole(storage: Storage, tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    path, sha256, size = make(tmp_path, content)
    seen: list[int] = []

    assert storage.put_file(path, "big.flac", sha256=sha256, size=size, progress=seen.append) is PutResult.CREATED

    assert hashlib.sha256(read(storage, "big.flac")).hexdigest() == sha256
    assert max(seen) == size
    assert len(seen) > 1
    assert put(storage, tmp_path, "big.flac", content) is PutResult.ALREADY_THERE


@pytest.mark.parametrize("content", [b"0123456789", b"0123456789+"])
def test_a_file_that_changed_is_refused_and_leaves_nothing(storage: Storage, tmp_path: Path, content: bytes) -> None:
    path, sha256, size = make(tmp_path, b"abcdefghij")
    path.write_bytes(content)

    with pytest.raises(FileChanged) as caught:
        storage.put_file(path, "a/changed.mp3", sha256=sha256, size=size)

    assert caught.value.code == "file-changed"
    assert storage.stat("a/changed.mp3") is None
    assert left_behind(storage) == []


def test_a_file_that_is_gone_is_said_to_be_missing(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(FileMissing) as caught:
        storage.put_file(tmp_path / "gone.mp3", "a.mp3", sha256="0" * 64, size=1)

    assert caught.value.code == "file-missing"
    assert str(tmp_path) not in caught.value.message


def test_what_is_not_there(storage: Storage) -> None:
    assert storage.stat("no/such.mp3") is None
    with pytest.raises(FileMissing):
        storage.open("no/such.mp3")
    storage.delete("no/such.mp3")


def test_what_was_deleted_is_gone(storage: Storage, tmp_path: Path) -> None:
    put(storage, tmp_path, UNICODE, b"x")

    storage.delete(UNICODE)
    storage.delete(UNICODE)

    assert storage.stat(UNICODE) is None


@pytest.mark.parametrize("locator", ["", "/etc/passwd", "../up.mp3", "a/../../b", "a\\b", "a\0b", "a//b", "./a"])
def test_locators_that_lead_out_are_refused(storage: Storage, tmp_path: Path, locator: str) -> None:
    path, sha256, size = make(tmp_path, b"x")

    with pytest.raises(InvalidLocator):
        storage.put_file(path, locator, sha256=sha256, size=size)
    for method in (storage.stat, storage.open, storage.delete):
        with pytest.raises(InvalidLocator):
            method(locator)


def test_a_transfer_that_is_told_to_stop_leaves_nothing(storage: Storage, tmp_path: Path) -> None:
    path, sha256, size = make(tmp_path, b"y" * (6 * MIB))
    seen: list[int] = []

    with pytest.raises(TransferCanceled):
        storage.put_file(
            path, "a/stopped.mp3", sha256=sha256, size=size, progress=seen.append, canceled=lambda: bool(seen)
        )

    assert storage.stat("a/stopped.mp3") is None
    assert left_behind(storage) == []


def test_many_threads_share_one_storage(storage: Storage, tmp_path: Path) -> None:
    # Made before: a source that is written anew while another thread reads it has changed, as it is told.
    sources = [make(tmp_path, b"%d" % number) for number in range(8)]

    def send(number: int) -> PutResult:
        path, sha256, size = sources[number % 8]
        return storage.put_file(path, f"t/{number % 8}.mp3", sha256=sha256, size=size)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(send, range(24)))

    assert {read(storage, f"t/{n}.mp3") for n in range(8)} == {b"%d" % n for n in range(8)}
    assert results.count(PutResult.CREATED) >= 8
    assert left_behind(storage) == []


def test_a_usable_backend_passes_its_check(storage: Storage) -> None:
    storage.check()


def test_a_name_that_is_too_long_is_that_items_problem(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(MusicCloudError) as caught:
        put(storage, tmp_path, "x" * 1100 + "/a.mp3", b"x")

    assert caught.value.code in ("name-too-long", "name-unusable")


def left_behind(storage: Storage) -> list[str]:
    """Unfinished pieces that nobody would find."""
    if isinstance(storage, FilesystemStorage):
        return [path.name for path in storage._root.rglob(".*")]
    assert isinstance(storage, S3Storage)
    uploads = storage._client.list_multipart_uploads(Bucket=storage._bucket).get("Uploads", [])
    return [upload["Key"] for upload in uploads]
