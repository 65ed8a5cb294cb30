"""URLs of packs that end: whoever has one may read that pack until then, and nothing else."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable

from exporter.errors import RequestRefused, no_such_catalog

_MAX_DIGITS = 12


class PackLinks:
    """Signs with a secret of this process: a restart ends all URLs, and a mirror then asks for another."""

    def __init__(self, *, seconds: int, clock: Callable[[], float] = time.time) -> None:
        self._secret = secrets.token_bytes(32)
        self._seconds = seconds
        self._clock = clock

    def sign(self, path: str) -> str:
        """The path with an end and a signature."""
        expires = str(int(self._clock()) + self._seconds)
        return f"{path}?expires={expires}&signature={self._signature(path, expires)}"

    def check(self, path: str, expires: str, signature: str) -> None:
        """Raise RequestRefused: 403 for what was ours once, 404 for what never was."""
        ours = hmac.compare_digest(self._signature(path, expires).encode(), signature.encode())
        if not ours or len(expires) > _MAX_DIGITS:
            raise no_such_catalog()
        if self._clock() >= int(expires):
            raise RequestRefused(403, "url-expired", "This URL has ended. Fetch again to get another one.")

    def _signature(self, path: str, expires: str) -> str:
        return hmac.new(self._secret, f"{path}\n{expires}".encode(), hashlib.sha256).hexdigest()
