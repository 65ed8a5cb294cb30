"""Where a browser can play a song, or why it cannot: at a public address, or through the private origin."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import jwt

from public_catalog.catalog import File, Song
from public_catalog.errors import SettingsError

MIN_SECRET_BYTES = 32
STREAM_PATH = "/api/private-origin/stream/"
_AUDIENCE = "music-cloud-origin"

MEDIA_TYPES = {
    "aac": "audio/aac",
    "flac": "audio/flac",
    "m4a": "audio/mp4",
    "m4b": "audio/mp4",
    "mp3": "audio/mpeg",
    "mp4": "audio/mp4",
    "oga": "audio/ogg",
    "ogg": "audio/ogg",
    "opus": "audio/ogg",
    "wav": "audio/wav",
    "webm": "audio/webm",
}
"""What browsers play; the element tries each source in turn, as some browsers lack some of these."""

_SITE = re.compile(r"https?://[A-Za-z0-9._~\-]+(:\d{1,5})?|https?://\[[0-9A-Fa-f:]+\](:\d{1,5})?")
_KEY = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Place:
    """A file that can be played. ``site``: where it is fetched from; ``public_url``: None at the private origin."""

    file: File
    key: str
    site: str
    media_type: str
    public_url: str | None


class Origin:
    """The private origin: mints tokens that open one file for a while (HS256 JWTs, as the origin checks them)."""

    def __init__(self, url: str, secret: str, *, seconds: float) -> None:
        """Raises SettingsError."""
        self.url = url.rstrip("/")
        site = site_of(self.url)
        if site is None:
            raise SettingsError("The URL of the origin is not one, such as https://music.example.org.")
        self.site = site
        self._key = secret.encode()
        self._seconds = seconds
        if len(self._key) < MIN_SECRET_BYTES:
            raise SettingsError(
                f"The secret of the origin has {MIN_SECRET_BYTES} bytes or more: it is its ORIGIN_TOKEN_SECRET."
            )
        self._key_id = hmac.new(self._key, b"music-cloud origin key id", hashlib.sha256).hexdigest()[:16]

    def address(self, file: File) -> str:
        """A URL that plays the file from now on, for ``seconds``."""
        claims = {
            "aud": _AUDIENCE,
            "exp": int(time.time() + self._seconds),
            "locator": file.locator,
            "backend": file.backend,
        }
        token = jwt.encode(claims, self._key, algorithm="HS256", headers={"kid": self._key_id})
        return f"{self.url}{STREAM_PATH}{token}"


@dataclass(frozen=True)
class Player:
    """Decides for one song at a time."""

    origin: Origin | None = None

    def places(self, song: Song) -> list[Place]:
        """Where the song can be played: public addresses first, which cost the NAS nothing."""
        found = [place for file in song.files if (place := self._place(file)) is not None]
        return sorted(found, key=lambda place: place.public_url is None)

    def reason(self, song: Song) -> str:
        """Why it cannot be played here, as a sentence for a visitor."""
        if not song.files:
            return "The archive knows this song but has no file of it yet."
        if not any(file.ext in MEDIA_TYPES for file in song.files):
            kinds = sorted({file.ext.upper() for file in song.files if file.ext})
            return f"It is kept as {' and '.join(kinds) or 'a file of unknown kind'}, which browsers do not play."
        if any(file.backend_type == "filesystem" for file in song.files) and self.origin is None:
            return "Its file is in a private library, which this catalog has no key to."
        return "Its file has no address that a browser could open."

    def find(self, song: Song, key: str) -> Place | None:
        """The place with this key; the same in every snapshot that has the file."""
        places = self.places(song) if _KEY.fullmatch(key) else []
        return next((place for place in places if place.key == key), None)

    def _place(self, file: File) -> Place | None:
        media_type = MEDIA_TYPES.get(file.ext)
        if media_type is None:
            return None
        if file.public_url:
            site, url = site_of(file.public_url), file.public_url
            return Place(file, file_key(file), site, media_type, url) if site else None
        if self.origin is not None and file.backend_type == "filesystem" and file.locator and file.backend:
            return Place(file, file_key(file), self.origin.site, media_type, None)
        return None


def site_of(url: str) -> str | None:
    """Scheme, host and port, in a form that is safe inside a header; None for what a browser should not fetch."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    site = f"{parts.scheme}://{parts.netloc}"
    return site if _SITE.fullmatch(site) else None


def file_key(file: File) -> str:
    """A name for a file that tells nothing about where it lies."""
    return hashlib.sha256(f"{file.backend}\0{file.locator}".encode("utf-8", "replace")).hexdigest()[:16]


def sites(places: Sequence[Place]) -> list[str]:
    """What a page's policy has to allow for these."""
    return sorted({place.site for place in places})
