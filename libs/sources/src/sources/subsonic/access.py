"""How a Subsonic server is told who asks: by token or password in the query, or in a header."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Literal

VERSION = "1.13.0"
"""Of the API: the oldest with tokens."""
CLIENT = "music-cloud"


@dataclass(frozen=True, kw_only=True)
class Access:
    """A user and password. What it makes goes into a URL, which is never logged or published."""

    user: str
    password: str = field(repr=False)
    kind: Literal["token", "password", "basic"] = "token"

    def query(self, *, song: str | None = None) -> list[tuple[str, str]]:
        """The parameters that every request carries.

        For a file, ``song`` makes the salt: the same address each time, so that a download can be continued.
        """
        common = [("u", self.user), ("v", VERSION), ("c", CLIENT), ("f", "json")]
        if self.kind == "basic":
            return common[1:]
        if self.kind == "password":
            return [*common, ("p", "enc:" + self.password.encode().hex())]
        salt = secrets.token_hex(8) if song is None else self._salt(song)
        # The API's own choice; it is why https is better.
        token = hashlib.md5((self.password + salt).encode(), usedforsecurity=False).hexdigest()
        return [*common, ("t", token), ("s", salt)]

    @property
    def headers(self) -> dict[str, str]:
        if self.kind != "basic":
            return {}
        return {"Authorization": "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()}

    def _salt(self, song: str) -> str:
        return hmac.new(self.password.encode(), f"salt\n{song}".encode(), hashlib.sha256).hexdigest()[:16]
