"""Which addresses may be asked: the public internet, and of the local network what a person allowed."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from common.errors import PermanentError, TransientError

DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_URL_LENGTH = 4096
"""Longer than any server takes, and short enough for a message and a database row."""
_LOCAL_SUFFIXES = (".local", ".lan", ".localhost", ".internal", ".home.arpa", ".home")
_BLANK_OR_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Origin:
    """Scheme, host and port: what credentials and permissions are bound to."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """The origin of an http(s) URL. Raises :class:`PermanentError` for anything else."""
        parts = split_http_url(url)
        return cls(parts.scheme, _host(parts), parts.port or DEFAULT_PORTS[parts.scheme])


@dataclass(frozen=True, kw_only=True)
class AddressPolicy:
    """Private, loopback and link-local addresses are refused, unless named here."""

    allow_all: bool = False
    hosts: frozenset[str] = field(default_factory=frozenset)
    """``host`` or ``host:port``, lower case; an IPv6 address with a port in brackets"""

    @classmethod
    def from_setting(cls, *, allow_private_addresses: bool, allow_private_hosts: Iterable[str]) -> AddressPolicy:
        return cls(allow_all=allow_private_addresses, hosts=frozenset(host.lower() for host in allow_private_hosts))

    def allows_private(self, host: str, port: int) -> bool:
        host = host.lower().rstrip(".")
        with_port = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return self.allow_all or host in self.hosts or with_port in self.hosts


def split_http_url(url: str) -> SplitResult:
    """Take an http(s) URL apart. Raises :class:`PermanentError` with the reason when it is not one."""
    if len(url) > MAX_URL_LENGTH:
        raise PermanentError(f"The address is longer than {MAX_URL_LENGTH} characters.", code="url-invalid")
    if _BLANK_OR_CONTROL.search(url):
        raise PermanentError("The address holds spaces or control characters.", code="url-invalid")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise PermanentError("The address is not a valid URL.", code="url-invalid") from None
    if parts.scheme not in DEFAULT_PORTS:
        raise PermanentError(
            f"Only http and https can be fetched, not {parts.scheme[:20] or 'an address without a scheme'}.",
            code="url-scheme",
        )
    if not parts.hostname or port == 0:
        raise PermanentError("The address names no host.", code="url-invalid")
    return parts


def is_public(address: Address) -> bool:
    """Whether an address is on the public internet, looking through every way to wrap an IPv4 address."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def names_private_address(host: str) -> bool:
    """Whether whoever wrote ``host`` meant the local network: a private address, or a name only it can know."""
    host = host.lower().rstrip(".").strip("[]")
    try:
        return not is_public(ipaddress.ip_address(host))
    except ValueError:
        return "." not in host or host.endswith(_LOCAL_SUFFIXES)


def resolve(host: str, port: int, *, allow_private: bool) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    """The addresses of ``host`` that may be connected to, each checked.

    Raises :class:`TransientError` when the name cannot be found now, :class:`PermanentError` when it
    has only addresses that are refused.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
            raise TransientError(
                f"The name {host[:100]} cannot be looked up now. Check the network and its name server.",
                code="connection-failed",
            ) from None
        raise TransientError(
            f"The name {host[:100]} could not be found. Check the address, or the network.", code="host-not-found"
        ) from None
    usable: list[tuple[socket.AddressFamily, tuple[str, int]]] = []
    for family, _, _, _, place in found:
        text = str(place[0])
        address = ipaddress.ip_address(text.partition("%")[0])
        if allow_private or is_public(address):
            usable.append((family, (text, port)))
    if not usable:
        raise PermanentError(
            f"{host[:100]} is an address of the local network, which lists from elsewhere may not point to. "
            f"If this is meant, add {host[:100]}:{port} to ALLOW_PRIVATE_HOSTS.",
            code="address-refused",
        )
    return usable


def _host(parts: SplitResult) -> str:
    return (parts.hostname or "").rstrip(".")
