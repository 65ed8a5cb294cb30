"""URLs of feeds and their songs: one spelling each, and no credential in it."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

from common.errors import PermanentError

from .addresses import DEFAULT_PORTS, Origin, names_private_address, split_http_url

_PATH_SAFE = "/:@!$&'()*+,;=~-._%"
_QUERY_SAFE = _PATH_SAFE + "?"


@dataclass(frozen=True)
class FeedUrl:
    """An http(s) address that a person named. ``credential`` goes to its own origin only."""

    url: str
    origin: Origin
    credential: str | None = field(default=None, repr=False)
    """value of an Authorization header"""

    @classmethod
    def parse(cls, text: str) -> FeedUrl:
        """Raises :class:`PermanentError` when it is not an http(s) URL."""
        url = normalize(text)
        parts = urlsplit(text.strip())
        credential = None
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            credential = "Basic " + base64.b64encode(pair.encode()).decode()
        return cls(url, Origin.of(url), credential)

    @property
    def allows_private(self) -> bool:
        """Naming an address of the local network allows it; a public name never leads there."""
        return names_private_address(self.origin.host)


def normalize(text: str) -> str:
    """An absolute http(s) URL in one spelling, without userinfo and fragment.

    Scheme and host in lower case, no default port, spaces and non-ASCII percent-encoded. Raises
    :class:`PermanentError` when it is not one.
    """
    text = text.strip()
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise PermanentError("The address is not a valid URL.", code="url-invalid") from None
    if parts.scheme not in DEFAULT_PORTS or not host:
        split_http_url(quote(text, safe=_QUERY_SAFE + "#[]"))
        raise PermanentError("The address names no host.", code="url-invalid")
    netloc = _ascii_host(host)
    if port is not None and port != DEFAULT_PORTS[parts.scheme]:
        netloc = f"{netloc}:{port}"
    path = _encode(parts.path or "/", _PATH_SAFE)
    url = urlunsplit((parts.scheme, netloc, path, _encode(parts.query, _QUERY_SAFE), ""))
    split_http_url(url)
    return url


def has_userinfo(text: str) -> bool:
    """Whether a URL carries a user name or password."""
    return "@" in text.partition("://")[2].partition("/")[0]


def join(base: str, location: str) -> str:
    """``location`` of a playlist at ``base``, absolute and normalised. Raises :class:`PermanentError`."""
    try:
        return normalize(urljoin(base, location.strip()))
    except ValueError:
        raise PermanentError("The address is not a valid URL.", code="url-invalid") from None


def file_name(url: str) -> str:
    """The last part of the path, decoded; the host where there is none."""
    parts = urlsplit(url)
    return unquote(parts.path.rstrip("/").rpartition("/")[2]) or parts.netloc


def _encode(text: str, safe: str) -> str:
    # Bytes that were no UTF-8 in the playlist are sent as they were.
    return quote(text.encode("utf-8", "surrogateescape"), safe=safe)


def _ascii_host(host: str) -> str:
    host = host.rstrip(".")
    if ":" in host:
        return f"[{host}]"
    try:
        return host.encode("ascii").decode() if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        raise PermanentError("The address names a host that cannot exist.", code="url-invalid") from None
