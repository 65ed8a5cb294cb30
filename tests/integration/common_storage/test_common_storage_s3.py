"""What only an object store can do or refuse, on a real S3 server."""

from __future__ import annotations

import hashlib
import socket
import struct
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.errors import DependencyDown, TransientError
from common.settings import Settings
from common.storage.objects import object_store
from common.storage.port import PutResult
from common.storage.s3 import MIB, S3Config, S3Storage
from tests.support.http_server import Behavior, ScriptedServer
from tests.support.s3 import S3Bucket

CONTENT = b"all that is gold does not glitter"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def config(s3_bucket: S3Bucket) -> S3Config:
    server = s3_bucket.server
    return S3Config(
        bucket=s3_bucket.name,
        access_key=server.access_key,
        secret_key=server.secret_key,
        endpoint=server.endpoint,
        part_size=5 * MIB,
    )


@pytest.fixture
def http_server() -> Iterator[ScriptedServer]:
    running = ScriptedServer()
    yield running
    running.stop()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.mp3"
    path.write_bytes(CONTENT)
    return path


def put(config: S3Config, source: Path, locator: str = "a/b.mp3") -> PutResult:
    store = S3Storage(config=config)
    try:
        return store.put_file(source, locator, sha256=SHA256, size=len(CONTENT))
    finally:
        store.close()


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"bucket": "no-such-bucket-here"}, "object-store-no-bucket", "OBJECT_BUCKET"),
    ({"bucket": "Not A Bucket!"}, "object-store-no-bucket", "OBJECT_BUCKET"),
    ({"access_key": "test:nobody"}, "object-store-secret-key", "OBJECT_ACCESS_KEY"),  # Swift does not tell them apart
    ({"secret_key": "wrong-secret-value"}, "object-store-secret-key", "OBJECT_SECRET_KEY"),
    (
        {"access_key": "test:reader", "secret_key": "reading"},
        "object-store-access-denied",
        "OBJECT_ACCESS_KEY or OBJECT_SECRET_KEY",
    ),
]


@pytest.mark.parametrize(("wrong", "code", "setting"), WRONG)
def test_wrong_settings_hold_the_lane_and_name_the_setting(
    config: S3Config, source: Path, wrong: dict[str, Any], code: str, setting: str
) -> None:
    with pytest.raises(DependencyDown) as caught:
        S3Storage(config=replace(config, **wrong)).check()
    assert (caught.value.code, setting in caught.value.message) == (code, True)

    with pytest.raises(DependencyDown) as caught:
        put(replace(config, **wrong), source)
    assert (caught.value.code, setting in caught.value.message) == (code, True)
    for secret in ("wrong-secret-value", "testing", "reading"):
        assert secret not in caught.value.message
        assert secret not in repr(config)


def test_a_server_that_does_not_answer_holds_the_lane(config: S3Config, source: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = replace(config, endpoint=f"http://user:pw@127.0.0.1:{closed.getsockname()[1]}")

        with pytest.raises(DependencyDown) as caught:
            put(nobody, source)

    assert caught.value.code == "object-store-unreachable"
    assert "pw" not in caught.value.message


@pytest.mark.parametrize("amount", [-1, 100, 5000])
@pytest.mark.parametrize("sent", [0, 250])
def test_a_file_that_breaks_off_is_never_taken_for_a_shorter_one(
    http_server: ScriptedServer, amount: int, sent: int
) -> None:
    endpoint = http_server.serve("/bucket/a.mp3", Behavior(body=bytes(1000), send=sent)).removesuffix("/bucket/a.mp3")
    store = S3Storage(config=S3Config(bucket="bucket", access_key="k", secret_key="s", endpoint=endpoint))
    with closing(store), closing(store.open("a.mp3")) as file, pytest.raises(TransientError) as caught:
        while file.read(amount):
            pass
    assert caught.value.code == "object-store-broke"


def test_a_connection_that_is_reset_while_a_file_is_read_is_our_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        endpoint = f"http://127.0.0.1:{listening.getsockname()[1]}"
        store = S3Storage(config=S3Config(bucket="bucket", access_key="k", secret_key="s", endpoint=endpoint))
        with ThreadPoolExecutor(1) as asking, closing(store):
            opened = asking.submit(store.open, "a.mp3")
            connection, _ = listening.accept()
            with connection:
                assert connection.recv(100_000)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
                file = opened.result(20)
                # The end without a farewell.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with closing(file), pytest.raises(TransientError) as caught:
                file.read()
    assert caught.value.code == "object-store-broke"


def test_a_full_bucket_holds_the_lane(s3_bucket: S3Bucket, config: S3Config, source: Path) -> None:
    set_quota(s3_bucket, 10)

    with pytest.raises(DependencyDown) as caught:
        put(config, source)

    assert caught.value.code == "object-store-full"


def test_an_object_of_the_same_size_without_a_digest_is_not_believed(
    s3_bucket: S3Bucket, config: S3Config, source: Path
) -> None:
    s3_bucket.client.put_object(Bucket=s3_bucket.name, Key="a/b.mp3", Body=b"?" * len(CONTENT))

    assert put(config, source) is PutResult.CREATED
    assert s3_bucket.client.get_object(Bucket=s3_bucket.name, Key="a/b.mp3")["Body"].read() == CONTENT


def test_what_another_worker_put_meanwhile_counts_as_there(s3_bucket: S3Bucket, config: S3Config, source: Path) -> None:
    store = S3Storage(config=config)

    others: list[PutResult] = []

    def interfere(done: int) -> None:  # between our HEAD and the end of our PUT
        if done and not others:
            others.append(put(config, source))

    result = store.put_file(source, "a/b.mp3", sha256=SHA256, size=len(CONTENT), progress=interfere)

    store.close()
    assert others == [PutResult.CREATED]
    assert result is PutResult.ALREADY_THERE
    assert s3_bucket.keys() == ["a/b.mp3"]


def test_uploads_that_a_killed_process_left_are_ended(s3_bucket: S3Bucket, config: S3Config, tmp_path: Path) -> None:
    client, name = s3_bucket.client, s3_bucket.name
    content = b"z" * (6 * MIB)
    path = tmp_path / "big.flac"
    path.write_bytes(content)
    for key in ("big.flac", "other.flac"):
        upload = client.create_multipart_upload(Bucket=name, Key=key)["UploadId"]
        client.upload_part(Bucket=name, Key=key, UploadId=upload, PartNumber=1, Body=b"half")
    store = S3Storage(config=replace(config, single_put_limit=1))

    store.put_file(path, "big.flac", sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    assert [one["Key"] for one in client.list_multipart_uploads(Bucket=name)["Uploads"]] == ["other.flac"]

    assert store.abort_unfinished(older_than=3600) == 0
    assert store.abort_unfinished(older_than=-5) == 1
    assert client.list_multipart_uploads(Bucket=name).get("Uploads", []) == []
    store.close()


def test_a_presigned_url_reads_the_file_and_nothing_else(config: S3Config, source: Path) -> None:
    put(config, source, "周/a b.mp3")
    store = S3Storage(config=config)

    with urllib.request.urlopen(store.presign("周/a b.mp3", seconds=60), timeout=10) as answer:
        assert answer.read() == CONTENT
        assert answer.headers["Content-Type"] == "audio/mpeg"
    store.close()


def test_the_settings_make_the_store(s3_bucket: S3Bucket, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert object_store(Settings(object_bucket="music")) is None
    for name, value in s3_bucket.settings_env.items():
        monkeypatch.setenv(name, value)

    store = object_store(Settings(object_prefix="pre"))

    assert store is not None
    store.put_file(source, "a.mp3", sha256=SHA256, size=len(CONTENT))
    assert s3_bucket.keys() == ["pre/a.mp3"]
    store.close()


def set_quota(bucket: S3Bucket, size: int) -> None:
    """Limit the bucket, through the server's own interface."""
    server = bucket.server
    login = {"X-Auth-User": server.access_key, "X-Auth-Key": server.secret_key}
    with urllib.request.urlopen(urllib.request.Request(f"{server.endpoint}/auth/v1.0", headers=login)) as answer:
        token = answer.headers["X-Auth-Token"]
    headers = {"X-Auth-Token": token, "X-Container-Meta-Quota-Bytes": str(size)}
    request = urllib.request.Request(
        f"{server.endpoint}/v1/AUTH_test/{bucket.name}", headers=headers, method="POST", data=b""
    )
    urllib.request.urlopen(request).close()
