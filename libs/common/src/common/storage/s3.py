"""Files in a bucket of any server that speaks S3."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal
from urllib.parse import urlsplit

import boto3.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from common.errors import PermanentError
from common.storage.content_types import content_type
from common.storage.filesystem import copy_verified
from common.storage.locators import check_locator
from common.storage.port import (
    Canceled,
    FileChanged,
    FileMissing,
    Progress,
    PutResult,
    Readable,
    Stat,
)
from common.storage.s3_bodies import Received, Sent
from common.storage.s3_errors import MISSING, NO_UPLOAD, NOT_IMPLEMENTED, PRECONDITION, error_code, translate

MIB = 1024 * 1024
MAX_KEY_BYTES = 1024
"""The S3 limit."""
SHA256 = "sha256"
"""The name under which an object's metadata keeps the digest of the whole file."""


@dataclass(frozen=True, kw_only=True)
class S3Config:
    """Where the bucket is and how it is spoken to. Sizes in bytes."""

    bucket: str
    access_key: str
    secret_key: str = field(repr=False)
    endpoint: str | None = None
    region: str = "us-east-1"
    prefix: str = ""
    addressing: Literal["auto", "path", "virtual"] = "auto"
    connections: int = 16
    single_put_limit: int = 64 * MIB
    """What is larger goes up in parts, so that a broken connection costs one part."""
    part_size: int = 16 * MIB
    """One part is held in memory by each transfer."""

    @property
    def shown_endpoint(self) -> str:
        """The endpoint as people may see it: no user, no query."""
        parts = urlsplit(self.endpoint or "")
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else "AWS"


class S3Storage:
    """A bucket; a locator, behind the prefix, is a key. The digest of each file stands in its metadata."""

    def __init__(self, *, config: S3Config) -> None:
        self._config = config
        self._bucket = config.bucket
        self._prefix = f"{config.prefix.strip('/')}/" if config.prefix.strip("/") else ""
        self._conditional = True
        addressing = config.addressing
        if addressing == "auto" and config.endpoint:
            addressing = "path"  # the names of a server of one's own seldom resolve with the bucket in front
        self._client: Any = _session().client(
            "s3",
            endpoint_url=config.endpoint,
            region_name=config.region,
            aws_access_key_id=config.access_key,
            aws_secret_access_key=config.secret_key,
            config=Config(
                s3={"addressing_style": addressing},
                signature_version="s3v4",
                max_pool_connections=config.connections,
                connect_timeout=5,
                read_timeout=60,
                retries={"mode": "standard", "max_attempts": 2},  # the work loop does the rest, and says so
                request_checksum_calculation="when_required",  # we send sha256 ourselves
                response_checksum_validation="when_required",
            ),
        )

    def put_file(
        self,
        path: Path,
        locator: str,
        *,
        sha256: str,
        size: int,
        progress: Progress | None = None,
        canceled: Canceled | None = None,
    ) -> PutResult:
        """As the port says. A HEAD first: the same size and digest there means that nothing is sent."""
        key = self._key(locator)
        try:
            file = path.open("rb")
        except FileNotFoundError:
            raise FileMissing("The file to be copied is not there any more.") from None
        with file, self._errors():
            return self._put(file, key, _Facts(sha256, size, content_type(locator)), progress, canceled)

    def put_open_file(
        self,
        file: BinaryIO,
        locator: str,
        *,
        sha256: str,
        size: int,
        progress: Progress | None = None,
        canceled: Canceled | None = None,
    ) -> PutResult:
        """As ``put_file``, from a file that is open at its beginning."""
        with self._errors():
            return self._put(file, self._key(locator), _Facts(sha256, size, content_type(locator)), progress, canceled)

    def stat(self, locator: str) -> Stat | None:
        with self._errors():
            return self._head(self._key(locator))

    def open(self, locator: str) -> Readable:
        with self._errors():
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(locator))
        return Received(
            answer["Body"],
            size=answer.get("ContentLength"),
            errors=self._errors,
            endpoint=self._config.shown_endpoint,
        )

    def delete(self, locator: str) -> None:
        with self._errors():
            self._client.delete_object(Bucket=self._bucket, Key=self._key(locator))

    def locators(self, folder: str) -> Iterator[str]:
        """The locators that begin with ``folder``, in order; asks for a thousand at a time."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + folder
        )
        with self._errors():
            for page in pages:
                yield from (entry["Key"].removeprefix(self._prefix) for entry in page.get("Contents", ()))

    def presign(self, locator: str, *, seconds: int) -> str:
        """A URL that anyone can read the file from; made without asking the server."""
        parameters = {"Bucket": self._bucket, "Key": self._key(locator)}
        return str(self._client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=seconds))

    def check(self) -> None:
        """Ask for the bucket; raises DependencyDown that says which setting to mend."""
        with self._errors():
            try:
                self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
            except ClientError as error:
                if error_code(error) == "404":
                    error.response["Error"]["Code"] = "NoSuchBucket"
                raise

    def abort_unfinished(self, *, older_than: float) -> int:
        """End uploads in parts that were begun more than ``older_than`` seconds ago, and return how many.

        A process that was killed leaves such; their parts cost space, and no listing shows them.
        """
        with self._errors():
            before = datetime.now(UTC) - timedelta(seconds=older_than)
            return self._abort(self._prefix, exact=False, before=before)

    def close(self) -> None:
        self._client.close()

    def _put(
        self, file: BinaryIO, key: str, facts: _Facts, progress: Progress | None, canceled: Canceled | None
    ) -> PutResult:
        there = self._head(key)
        if there is not None and (there.size, there.sha256) == (facts.size, facts.sha256):
            return PutResult.ALREADY_THERE
        if file.seek(0, 2) != facts.size:
            raise FileChanged("The file is not the one that was stored: its size changed.")
        file.seek(0)
        send = self._put_whole if facts.size <= self._config.single_put_limit else self._put_parts
        # Two workers may hold the same item for a moment: only where nothing is, put only if nothing is.
        if there is None and self._conditional:
            try:
                send(file, key, facts, progress, canceled, {"IfNoneMatch": "*"})
                return PutResult.CREATED
            except ClientError as error:
                code = error_code(error)
                if code in NOT_IMPLEMENTED:
                    self._conditional = False
                elif code not in PRECONDITION:
                    raise
            there = self._head(key)
            if there is not None and (there.size, there.sha256) == (facts.size, facts.sha256):
                return PutResult.ALREADY_THERE
            file.seek(0)
        send(file, key, facts, progress, canceled, {})
        return PutResult.CREATED

    def _put_whole(
        self,
        file: BinaryIO,
        key: str,
        facts: _Facts,
        progress: Progress | None,
        canceled: Canceled | None,
        condition: dict[str, str],
    ) -> None:
        """One request. The digest is checked here before a byte is sent, and by the server after the last."""
        facts.require(*copy_verified(file, None, canceled=canceled))
        file.seek(0)
        self._client.put_object(
            Bucket=self._bucket,
            Key=key,
            Body=Sent(file, progress, canceled),
            ContentLength=facts.size,
            ContentType=facts.content_type,
            ChecksumSHA256=_base64(bytes.fromhex(facts.sha256)),
            Metadata={SHA256: facts.sha256},
            **condition,
        )

    def _put_parts(
        self,
        file: BinaryIO,
        key: str,
        facts: _Facts,
        progress: Progress | None,
        canceled: Canceled | None,
        condition: dict[str, str],
    ) -> None:
        """Parts one after the other, each with its digest; complete only when the whole file's digest is right."""
        self._abort(key, exact=True, before=None)
        upload = self._client.create_multipart_upload(
            Bucket=self._bucket,
            Key=key,
            ContentType=facts.content_type,
            ChecksumAlgorithm="SHA256",
            Metadata={SHA256: facts.sha256},
        )["UploadId"]
        which = {"Bucket": self._bucket, "Key": key, "UploadId": upload}
        try:
            whole, done = hashlib.sha256(), 0
            parts: list[dict[str, Any]] = []
            while chunk := file.read(self._config.part_size):
                whole.update(chunk)
                digest = _base64(hashlib.sha256(chunk).digest())
                number = len(parts) + 1
                body = Sent(BytesIO(chunk), progress, canceled, before=done)
                answer = self._client.upload_part(
                    **which, PartNumber=number, Body=body, ContentLength=len(chunk), ChecksumSHA256=digest
                )
                part: dict[str, Any] = {"PartNumber": number, "ETag": answer["ETag"]}
                if "ChecksumSHA256" in answer:
                    part["ChecksumSHA256"] = digest
                parts.append(part)
                done += len(chunk)
            facts.require(whole.hexdigest(), done)
            self._client.complete_multipart_upload(**which, MultipartUpload={"Parts": parts}, **condition)
        except BaseException:
            self._abort_one(which)
            raise

    def _abort(self, prefix: str, *, exact: bool, before: datetime | None) -> int:
        """End unfinished uploads whose key begins with ``prefix`` (or is it), begun before ``before``."""
        count = 0
        for page in self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=prefix):
            for upload in page.get("Uploads", ()):
                if exact and upload["Key"] != prefix:
                    continue
                if before is not None and upload["Initiated"] > before:
                    continue
                self._abort_one({"Bucket": self._bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]})
                count += 1
        return count

    def _abort_one(self, which: dict[str, str]) -> None:
        try:
            self._client.abort_multipart_upload(**which)
        except ClientError as error:
            if error_code(error) not in NO_UPLOAD:
                raise

    def _head(self, key: str) -> Stat | None:
        try:
            answer = self._client.head_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if error_code(error) in MISSING:
                return None
            if error_code(error) == "403":  # the answer to a HEAD has no words; this one's has
                self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
            raise
        return Stat(
            size=answer["ContentLength"],
            sha256=answer.get("Metadata", {}).get(SHA256),
            content_type=answer.get("ContentType"),
        )

    def _key(self, locator: str) -> str:
        key = self._prefix + check_locator(locator)
        if len(key.encode()) > MAX_KEY_BYTES:
            raise PermanentError(
                f"With OBJECT_PREFIX the name is longer than the {MAX_KEY_BYTES} bytes that an object store takes.",
                code="name-too-long",
            )
        return key

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            raise translate(error, bucket=self._bucket, endpoint=self._config.shown_endpoint) from None


@dataclass(frozen=True)
class _Facts:
    """What the file must be."""

    sha256: str
    size: int
    content_type: str

    def require(self, sha256: str, size: int) -> None:
        if (sha256, size) != (self.sha256, self.size):
            raise FileChanged("The file is not the one that was stored: its content changed.")


@functools.cache
def _session() -> Any:
    """One for the process: it keeps the parsed description of S3, which takes longer to read than to use."""
    return boto3.session.Session()


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
