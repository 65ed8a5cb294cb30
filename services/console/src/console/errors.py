"""What the console answers to a request that it cannot serve: a stable code, a status, a sentence."""

from __future__ import annotations

from common.errors import MusicCloudError


class ClientError(MusicCloudError):
    """The request cannot be served as it is. ``status`` is the HTTP status."""

    code = "bad-request"
    status = 400

    def __init__(self, message: str, *, code: str | None = None, retry_after: int | None = None) -> None:
        """``retry_after``: seconds after which the same request may succeed."""
        super().__init__(message, code=code)
        self.retry_after = retry_after


class InvalidRequest(ClientError):
    """A field has a value that cannot be meant."""

    code = "invalid-request"
    status = 422


class NotFound(ClientError):
    """There is no such thing."""

    code = "not-found"
    status = 404


class Refused(ClientError):
    """It does not fit the state that things are in."""

    code = "conflict"
    status = 409


class Unauthorized(ClientError):
    """No credential, or a wrong one."""

    code = "unauthorized"
    status = 401


class Forbidden(ClientError):
    """The credential is good, the way it came is not."""

    code = "forbidden"
    status = 403


class TooLarge(ClientError):
    """The body is larger than anything that is asked for here."""

    code = "body-too-large"
    status = 413


class TooManyTries(ClientError):
    """Too many wrong credentials from this address."""

    code = "too-many-tries"
    status = 429


class Unavailable(ClientError):
    """Something that the request needs is away."""

    code = "unavailable"
    status = 503


class LedgerUnwritable(Unavailable):
    """``ops.db`` cannot be written now: the disk is full, or fails. What was asked for is tried again, or can be."""

    code = "ledger-unwritable"
