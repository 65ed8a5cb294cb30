"""What an S3 server can answer, and which of our errors that is: each says which setting to mend, none a secret."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
    ProxyConnectionError,
    ResponseStreamingError,
    SSLError,
)

from common.errors import DependencyDown, MusicCloudError, PermanentError, TransientError
from common.storage.port import FileMissing

MEND_RETRY = 30.0
"""Seconds between two looks at a store whose settings a person has to mend."""
_BUSY_RETRY = 5.0
_MAX_RETRY_AFTER = 3600.0

MISSING = {"404", "NoSuchKey", "NotFound"}
PRECONDITION = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}
NOT_IMPLEMENTED = {"501", "NotImplemented"}
NO_UPLOAD = {"NoSuchUpload", "404"}

_MEND: dict[str, tuple[tuple[str, ...], str]] = {
    "object-store-no-bucket": (
        ("NoSuchBucket", "InvalidBucketName"),
        "The bucket {bucket!r} does not exist at {endpoint}. Create it, or mend OBJECT_BUCKET.",
    ),
    "object-store-access-key": (
        ("InvalidAccessKeyId", "InvalidAccessKey", "InvalidToken", "ExpiredToken", "401", "Unauthorized"),
        "The object store at {endpoint} does not know this access key. Mend OBJECT_ACCESS_KEY.",
    ),
    "object-store-secret-key": (
        ("SignatureDoesNotMatch",),
        "The object store at {endpoint} refused the signature: the two keys do not belong together. Mend "
        "OBJECT_SECRET_KEY or OBJECT_ACCESS_KEY.",
    ),
    "object-store-clock": (
        ("RequestTimeTooSkewed", "RequestExpired"),
        "The clocks of this machine and of {endpoint} differ too much. Set this machine's clock.",
    ),
    "object-store-region": (
        ("AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "301", "307", "IllegalLocation"),
        "The bucket {bucket!r} lies in another region or under another address. Mend OBJECT_REGION or OBJECT_ENDPOINT.",
    ),
    "object-store-access-denied": (
        ("AccessDenied", "AllAccessDisabled", "AccountProblem", "403", "Forbidden"),
        "The access key may not read and write the bucket {bucket!r} at {endpoint}. Give it that right, or mend "
        "OBJECT_BUCKET, OBJECT_ACCESS_KEY or OBJECT_SECRET_KEY.",
    ),
    "object-store-full": (
        ("QuotaExceeded", "EntityTooLarge", "InsufficientStorage", "XMinioStorageFull", "507", "413"),
        "The bucket {bucket!r} takes no more: its quota or its disk is full. Free space there.",
    ),
}
_BY_CODE = {code: (name, text) for name, (codes, text) in _MEND.items() for code in codes}

_BUSY = {"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "429"}
_DAMAGED = {"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody", "RequestTimeout"}
_NAME = {"KeyTooLongError", "InvalidURI", "InvalidObjectName", "XMinioInvalidObjectName"}


def error_code(error: ClientError) -> str:
    """The server's own code, or the HTTP status where it sent no body (as to a HEAD)."""
    return str(error.response.get("Error", {}).get("Code", ""))


def translate(error: BotoCoreError | ClientError, *, bucket: str, endpoint: str) -> MusicCloudError:
    """Our error for what boto3 raised. ``endpoint`` as people may see it."""
    if isinstance(error, ClientError):
        return _answered(error, bucket=bucket, endpoint=endpoint)
    if isinstance(error, NoCredentialsError):
        return _mend("object-store-access-key", _MEND["object-store-access-key"][1], bucket, endpoint)
    if isinstance(error, ParamValidationError):
        return _mend("object-store-no-bucket", _MEND["object-store-no-bucket"][1], bucket, endpoint)
    if isinstance(error, SSLError):
        text = "The certificate of {endpoint} is not trusted. Mend OBJECT_ENDPOINT or the certificate."
        return _mend("object-store-certificate", text, bucket, endpoint)
    if isinstance(error, ProxyConnectionError):
        text = "The proxy on the way to {endpoint} does not answer. Mend HTTPS_PROXY, HTTP_PROXY or NO_PROXY."
        return _mend("object-store-proxy", text, bucket, endpoint)
    # What breaks in the middle was there.
    if isinstance(error, HTTPClientError | ConnectionError) and not isinstance(error, ResponseStreamingError):
        return DependencyDown(
            f"The object store at {endpoint} does not answer. Is it running, and is OBJECT_ENDPOINT right?",
            code="object-store-unreachable",
        )
    return TransientError(f"The transfer to {endpoint} broke off ({type(error).__name__}).", code="object-store-broke")


def _answered(error: ClientError, *, bucket: str, endpoint: str) -> MusicCloudError:
    code, answer = error_code(error), error.response.get("ResponseMetadata", {})
    status = int(answer.get("HTTPStatusCode") or 0)
    asked = retry_after(answer)
    if code in _BUSY or status in (429, 503):
        return DependencyDown(
            f"The object store at {endpoint} asks for fewer requests.",
            code="object-store-busy",
            retry_after=_BUSY_RETRY if asked is None else asked,
        )
    if code in _BY_CODE:
        name, text = _BY_CODE[code]
        return _mend(name, text, bucket, endpoint)
    if code in MISSING:
        return FileMissing("The object store does not hold this file.")
    if code in _DAMAGED:
        return TransientError("The bytes did not arrive as they were sent; they are sent again.", code="sent-damaged")
    if code in _NAME:
        return PermanentError("The object store does not take a name like this one.", code="name-unusable")
    if status in (502, 504):
        return DependencyDown(
            f"What stands before the object store at {endpoint} cannot reach it (HTTP {status}).",
            code="object-store-unreachable",
            retry_after=_BUSY_RETRY if asked is None else asked,
        )
    if status >= 500:
        return TransientError(
            f"The object store at {endpoint} failed (HTTP {status}).", code="object-store-failed", retry_after=asked
        )
    if code in NO_UPLOAD:
        return TransientError("The upload was ended from elsewhere; it is begun again.", code="upload-ended")
    return PermanentError(
        f"The object store at {endpoint} refused the file (HTTP {status}, {_plain(code)}).", code="object-store-refused"
    )


def retry_after(answer: dict[str, Any]) -> float | None:
    """Seconds that the server asked us to wait, bounded; None when it did not say."""
    text = str(answer.get("HTTPHeaders", {}).get("retry-after", ""))
    return min(float(text), _MAX_RETRY_AFTER) if text.isdigit() else None


def _mend(code: str, text: str, bucket: str, endpoint: str) -> DependencyDown:
    return DependencyDown(text.format(bucket=bucket, endpoint=endpoint), code=code, retry_after=MEND_RETRY)


def _plain(code: str) -> str:
    return "".join(letter for letter in code[:60] if letter.isalnum() or letter in "-_") or "no code"
