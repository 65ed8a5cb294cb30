"""Who may see the catalog: everybody, or those who have its token."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from starlette.requests import Request

from exporter.errors import no_such_catalog


class Gate:
    """One catalog. To everyone else it looks as if it did not exist."""

    def __init__(self, *, owner: str, slug: str, tokens: Sequence[str] = ()) -> None:
        """No ``tokens``: the catalog is public."""
        self.path = f"/{owner}/{slug}"
        self.public = not tokens
        # Digests have one length, so that comparing takes the same time whatever was sent.
        self._tokens = tuple(hashlib.sha256(token.encode()).digest() for token in tokens)

    def check(self, request: Request) -> None:
        """Raise RequestRefused (404) for another catalog, and for this one without its token."""
        named = self._is_named(request)
        if not (self._has_token(request) and named):
            raise no_such_catalog()

    def check_name(self, request: Request) -> None:
        """The same for what needs no token, because its URL is one."""
        if not self._is_named(request):
            raise no_such_catalog()

    def check_token(self, request: Request) -> None:
        """The same for what bears no name."""
        if not self._has_token(request):
            raise no_such_catalog()

    def _is_named(self, request: Request) -> bool:
        asked = f"/{request.path_params['owner']}/{request.path_params['slug']}"
        return hmac.compare_digest(asked.encode(), self.path.encode())

    def _has_token(self, request: Request) -> bool:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = hashlib.sha256(token.strip().encode()).digest()
        found = [hmac.compare_digest(given, known) for known in self._tokens]
        return self.public or (scheme.lower() == "bearer" and any(found))
