"""Tokens of the private origin: JWTs (HS256) that name one file and an end.

The secret that signs is the first of those given; the others are still believed, so that a secret can be
changed without breaking the links that are out. Each secret has a key id, which the token's header names.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import jwt

from common.contracts.names import LIBRARY_BACKEND
from common.errors import ConfigurationError, MusicCloudError
from common.settings import MIN_SECRET_BYTES
from common.storage.locators import InvalidLocator, check_locator

MAX_TOKEN_CHARS = 32_768
"""More than the longest locator takes; what is longer is refused before any of it is parsed."""

_ALGORITHM = "HS256"
"""The only one: a token that names another, or none, is refused."""
_AUDIENCE = "music-cloud-origin"
"""So that a token made for something else with the same secret opens no file."""
_FAR = 1e12
"""Seconds; no clock shows this, and it keeps infinities and absurd integers out."""

Secret = str | bytes
Secrets = Secret | Sequence[Secret]
Instant = datetime | float | int


class TokenError(MusicCloudError, ValueError):
    """The token does not open anything."""

    code = "token-invalid"


class TokenExpired(TokenError):
    """The token was good, and its time is over."""

    code = "token-expired"


class WeakSecret(ConfigurationError, ValueError):
    """The secret could be guessed from one captured token."""

    code = "secret-too-short"


@dataclass(frozen=True)
class OriginClaims(Mapping[str, Any]):
    """What a token says; readable as attributes and by name. ``expires_at``: seconds since 1970, UTC."""

    locator: str
    expires_at: int
    backend: str = LIBRARY_BACKEND

    def check_time(self, now: Instant) -> None:
        """Raise :class:`TokenExpired` when ``now`` is not before the end."""
        if _seconds(now) >= self.expires_at:
            raise TokenExpired("This link has expired. Ask for a new one.")

    def __getitem__(self, name: str) -> Any:
        if name not in _CLAIMS:
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(_CLAIMS)

    def __len__(self) -> int:
        return len(_CLAIMS)


_CLAIMS = tuple(field.name for field in fields(OriginClaims))


def check_secret(secret: Secret) -> bytes:
    """The secret as bytes. Raises :class:`WeakSecret`, with how to make a good one, when it is too short."""
    value = secret.encode() if isinstance(secret, str) else secret
    if len(value) < MIN_SECRET_BYTES:
        raise WeakSecret(
            f"ORIGIN_TOKEN_SECRET is shorter than {MIN_SECRET_BYTES} bytes, so it could be guessed. "
            "Make one with: openssl rand -base64 48"
        )
    return value


def create_origin_token(secret: Secrets, locator: str, expires_at: Instant, *, backend: str = LIBRARY_BACKEND) -> str:
    """A token that opens ``locator`` of ``backend`` until ``expires_at`` (aware datetime, or seconds since 1970).

    Raises :class:`WeakSecret` or :class:`InvalidLocator`, both ``ValueError``.
    """
    key = _keys(secret)[0]
    payload = {
        "aud": _AUDIENCE,
        "exp": int(_seconds(expires_at)),
        "locator": check_locator(locator),
        "backend": backend,
    }
    return jwt.encode(payload, key, algorithm=_ALGORITHM, headers={"kid": key_id(key)})


def verify_origin_token(secret: Secrets, token: str, now: Instant) -> OriginClaims:
    """The claims of a good token that has not ended at ``now`` (aware datetime, or seconds since 1970).

    Raises :class:`TokenError`, :class:`TokenExpired` or :class:`WeakSecret`, all ``ValueError``.
    """
    claims = read_origin_token(secret, token)
    claims.check_time(now)
    return claims


def read_origin_token(secret: Secrets, token: str) -> OriginClaims:
    """The claims of a well-signed token, whether or not its time is over; for callers that check it each time.

    Raises :class:`TokenError` or :class:`WeakSecret`, both ``ValueError``.
    """
    keys = {key_id(key): key for key in _keys(secret)}
    if not isinstance(token, str) or not token or len(token) > MAX_TOKEN_CHARS:
        raise TokenError("This is not a token of ours.")
    try:
        key = keys.get(str(jwt.get_unverified_header(token).get("kid")))
        if key is None:
            raise TokenError("This link was signed with a secret that is not in use any more. Ask for a new one.")
        payload = jwt.decode(
            token,
            key,
            algorithms=[_ALGORITHM],
            audience=_AUDIENCE,
            options={"verify_exp": False, "require": ["exp", "aud"]},
        )
    except (jwt.PyJWTError, UnicodeError, RecursionError):
        raise TokenError("This is not a token of ours, or it was changed on its way.") from None
    locator, backend, expires_at = payload.get("locator"), payload.get("backend"), payload.get("exp")
    if not isinstance(locator, str) or not isinstance(backend, str) or not isinstance(expires_at, int | float):
        raise TokenError("This token names no file.")
    if isinstance(expires_at, bool) or not abs(expires_at) < _FAR:
        raise TokenError("This token has no end that makes sense.")
    try:
        check_locator(locator)
    except InvalidLocator as error:
        raise TokenError(error.message) from None
    return OriginClaims(locator=locator, expires_at=int(expires_at), backend=backend)


def key_id(secret: Secret) -> str:
    """The public name of a secret; tells nothing about it."""
    return hmac.new(check_secret(secret), b"music-cloud origin key id", hashlib.sha256).hexdigest()[:16]


def _keys(secret: Secrets) -> list[bytes]:
    several = [secret] if isinstance(secret, str | bytes) else list(secret)
    if not several:
        return [check_secret(b"")]
    return [check_secret(one) for one in several]


def _seconds(instant: Instant) -> float:
    if isinstance(instant, datetime):
        aware = instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
        return aware.timestamp()
    return float(instant)
