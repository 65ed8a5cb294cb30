"""Origin tokens open one file until their end, and nothing else."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.tokens import (
    MAX_TOKEN_CHARS,
    TokenError,
    TokenExpired,
    WeakSecret,
    create_origin_token,
    key_id,
    verify_origin_token,
)

SECRET = "0123456789abcdef0123456789abcdef"
OTHER = "another-secret-another-secret-another"
NOW = 1_800_000_000
LOCATOR = "qq/周杰倫/周杰倫 - 晴天 (Live) 🎵.flac"
AUDIENCE = "music-cloud-origin"


def forge(payload: dict[str, object], **header: object) -> str:
    headers = {"kid": key_id(SECRET), **header}
    return jwt.encode({"aud": AUDIENCE, "exp": NOW + 60, **payload}, SECRET, algorithm="HS256", headers=headers)


def test_a_token_gives_back_what_it_was_made_for() -> None:
    token = create_origin_token(SECRET, LOCATOR, NOW + 60)

    claims = verify_origin_token(SECRET, token, NOW)

    assert (claims.locator, claims.expires_at, claims.backend) == (LOCATOR, NOW + 60, "library")
    assert dict(claims) == {"locator": LOCATOR, "expires_at": NOW + 60, "backend": "library"}
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "kid": key_id(SECRET), "typ": "JWT"}


def test_times_may_be_datetimes_or_seconds() -> None:
    end = datetime.fromtimestamp(NOW, UTC)
    token = create_origin_token(SECRET, LOCATOR, end)

    assert verify_origin_token(SECRET, token, end - timedelta(seconds=1)).expires_at == NOW
    assert verify_origin_token(SECRET, token, NOW - 1).expires_at == NOW
    for late in (end, NOW, NOW + 0.5, end + timedelta(days=1)):
        with pytest.raises(TokenExpired, match="expired"):
            verify_origin_token(SECRET, token, late)


def test_the_given_now_counts_and_not_the_clock() -> None:
    token = create_origin_token(SECRET, LOCATOR, 1000)

    assert verify_origin_token(SECRET, token, 999).locator == LOCATOR


def test_another_backend_can_be_named() -> None:
    token = create_origin_token(SECRET, "a/b.mp3", NOW, backend="local")

    assert verify_origin_token(SECRET, token, 0).backend == "local"


def test_old_secrets_are_believed_while_they_are_listed() -> None:
    old = create_origin_token(OTHER, LOCATOR, NOW)

    assert verify_origin_token([SECRET, OTHER], old, 0).locator == LOCATOR
    assert jwt.get_unverified_header(create_origin_token([SECRET, OTHER], LOCATOR, NOW))["kid"] == key_id(SECRET)
    with pytest.raises(TokenError, match="not in use any more"):
        verify_origin_token(SECRET, old, 0)


@pytest.mark.parametrize("secret", ["", "short", "x" * 31, b"x" * 31, [], [SECRET, "short"]])
def test_short_secrets_are_refused_with_how_to_make_one(secret: str) -> None:
    with pytest.raises(WeakSecret, match="openssl rand -base64 48") as made:
        create_origin_token(secret, LOCATOR, NOW)
    with pytest.raises(ValueError, match="openssl rand"):
        verify_origin_token(secret, create_origin_token(SECRET, LOCATOR, NOW), 0)
    assert "x" * 31 not in str(made.value)


BAD_LOCATORS = [
    "",
    "/etc/passwd",
    "//server/share",
    "..",
    "../secret",
    "a/../../b",
    "a/..",
    "./a",
    "a//b",
    "a/",
    "a\\b",
    "..\\b",
    "C:/x",
    "a\0b",
    "\ud800",
    "x" * 5000,
]


@pytest.mark.parametrize("locator", BAD_LOCATORS)
def test_locators_that_could_leave_the_backend_are_refused_both_ways(locator: str) -> None:
    with pytest.raises(ValueError, match="relative"):
        create_origin_token(SECRET, locator, NOW)
    with pytest.raises(TokenError):
        verify_origin_token(SECRET, forge({"locator": locator, "backend": "library"}), 0)


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"locator": "a"},
        {"locator": 5, "backend": "library"},
        {"locator": "a", "backend": None},
        {"locator": "a", "backend": "library", "aud": "something-else"},
        {"locator": "a", "backend": "library", "exp": "soon"},
        {"locator": "a", "backend": "library", "exp": True},
        {"locator": "a", "backend": "library", "exp": 1e300},
    ],
)
def test_well_signed_tokens_that_say_nothing_useful_are_refused(payload: dict[str, object]) -> None:
    with pytest.raises(TokenError):
        verify_origin_token(SECRET, forge(payload), 0)


def test_no_other_algorithm_is_believed() -> None:
    good = {"aud": AUDIENCE, "exp": NOW, "locator": "a", "backend": "library"}
    kid = {"kid": key_id(SECRET)}
    unsigned = jwt.encode(good, "", algorithm="none", headers=kid)
    stronger = jwt.encode(good, SECRET * 2, algorithm="HS512", headers=kid)

    for token in (unsigned, stronger, unsigned.rstrip(".")):
        with pytest.raises(TokenError):
            verify_origin_token(SECRET, token, 0)


def test_a_changed_token_is_refused() -> None:
    header, payload, signature = create_origin_token(SECRET, "a.mp3", NOW).split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    changed = base64.urlsafe_b64encode(json.dumps({**claims, "locator": "b.mp3"}).encode()).decode().rstrip("=")

    for token in (f"{header}.{changed}.{signature}", f"{header}.{payload}.{signature[:-2]}AA", f"{header}.{payload}."):
        with pytest.raises(TokenError):
            verify_origin_token(SECRET, token, 0)


@pytest.mark.parametrize("token", ["", "a", "a.b.c", ".", "..", "x" * (MAX_TOKEN_CHARS + 1), "é.é.é", "\ud800"])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(TokenError):
        verify_origin_token(SECRET, token, 0)


@given(st.text(max_size=200))
def test_any_text_is_refused_with_a_value_error(token: str) -> None:
    with pytest.raises(ValueError, match=r"token|link"):
        verify_origin_token(SECRET, token, 0)


def test_the_longest_locator_fits_into_a_token() -> None:
    locator = "曲" * 1360 + ".flac"

    token = create_origin_token(SECRET, locator, NOW)

    assert len(token) < MAX_TOKEN_CHARS
    assert verify_origin_token(SECRET, token, 0).locator == locator
