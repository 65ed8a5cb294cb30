"""The errors of the origin: each has the HTTP status and the code that a player sees."""

from __future__ import annotations

from common.errors import MusicCloudError


class HttpError(MusicCloudError):
    """An answer that is no file. ``headers`` go with it."""

    def __init__(self, status: int, code: str, message: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.headers = headers


def not_configured() -> HttpError:
    return HttpError(
        503,
        "origin-not-configured",
        "No secret is configured. Set ORIGIN_TOKEN_SECRET (make one with: openssl rand -base64 48) and restart.",
    )


def bad_token(code: str, message: str) -> HttpError:
    challenge = (b"www-authenticate", b'Bearer realm="music-cloud", error="invalid_token"')
    return HttpError(401, code, message, (challenge,))


def file_gone() -> HttpError:
    return HttpError(404, "file-gone", "The file is not there any more.")


def no_such_page() -> HttpError:
    return HttpError(404, "not-found", "There is nothing here. Streams are under /api/private-origin/stream/.")


def wrong_method() -> HttpError:
    return HttpError(405, "method-not-allowed", "Streams are read with GET or HEAD.", ((b"allow", b"GET, HEAD"),))


def storage_down(code: str, message: str, retry_after: float) -> HttpError:
    return HttpError(503, code, message, ((b"retry-after", b"%d" % max(1, int(retry_after))),))
