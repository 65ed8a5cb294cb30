"""Who may come in, and by which way. Pure: headers and times in, decisions out."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_WINDOW = 60.0
_FREE_TRIES = 10
"""Wrong credentials that one address may send in a minute before it is told to wait."""
_MAX_ADDRESSES = 10_000
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def host_allowed(header: str | None, *, web_host: str, names: Sequence[str]) -> bool:
    """Whether the console answers under this Host: a foreign name that points here is an attack (DNS rebinding).

    Where it listens on all addresses any plain address will do: no name can pretend to be one.
    """
    host = host_of(header or "")
    if not host:
        return False
    if host in _LOOPBACK or host == web_host.lower() or host in {name.lower() for name in names}:
        return True
    return _is_address(host) and web_host in {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound


def host_of(header: str) -> str:
    """The name in a Host header: without port and brackets, lower case; empty when it is malformed."""
    text = header.strip().lower()
    if text.startswith("["):
        inner, bracket, rest = text[1:].partition("]")
        return inner if bracket and (not rest or _is_port(rest)) else ""
    name, colon, port = text.partition(":")
    if colon and not _is_port(f":{port}"):
        return ""
    return name.rstrip(".")


def same_origin(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a request with a cookie comes from our own pages. ``headers``: lower-case names.

    Browsers say so in Sec-Fetch-Site; older ones in Origin. A write that says neither is refused.
    """
    if method in _SAFE:
        return True
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("origin")
    if origin is None:
        return False
    _, separator, authority = origin.partition("://")
    return bool(separator) and authority.lower() == headers.get("host", "").lower()


def local_path(target: str | None) -> str:
    """Where to go after the login: a page of ours, whatever was asked for."""
    if not target or not target.startswith("/") or target.startswith(("//", "/\\")):
        return "/dashboard"
    if any(ord(letter) < 0x21 or letter == "\\" for letter in target) or target.startswith(("/login", "/logout")):
        return "/dashboard"
    return target


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """What a wrong credential costs: a wait before the answer, and whether to say that it is too many."""

    delay: float
    too_many: bool


class Throttle:
    """Counts wrong credentials per address. A right one always passes: nobody is locked out by another."""

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()

    def wrong(self, address: str, at: float) -> Penalty:
        """A wrong credential came from ``address`` at ``at`` (monotonic seconds)."""
        recent = [when for when in self._wrong.pop(address, []) if at - when < _WINDOW][-_FREE_TRIES * 2 :]
        recent.append(at)
        self._wrong[address] = recent
        while len(self._wrong) > _MAX_ADDRESSES:
            self._wrong.popitem(last=False)
        return Penalty(delay=min(1.0, 0.1 * len(recent)), too_many=len(recent) > _FREE_TRIES)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_port(text: str) -> bool:
    return text.startswith(":") and text[1:].isdigit() and len(text) <= 6
