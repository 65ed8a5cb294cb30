"""Where a catalog is: ``https://host/owner/slug``; and which URLs may be asked on its behalf."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

import httpx

from mirror.problems import Refused, SettingsProblem

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LONGEST_URL = 8192
"""Presigned URLs carry their signature, some a session token of 2 KB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A catalog's place on the network."""

    url: str
    name: str
    """``owner/slug``."""
    allow_http: bool
    """Whether unencrypted HTTP may be spoken to other machines as well."""

    @classmethod
    def parse(cls, text: str, *, allow_http: bool = False) -> Address:
        """Read what a person typed. Raises SettingsProblem."""
        try:
            url = httpx.URL(text.strip())
        except httpx.InvalidURL:
            raise SettingsProblem("url", "The URL cannot be read. Give https://HOST/OWNER/SLUG.") from None
        if url.userinfo:
            raise SettingsProblem(
                "url-credentials",
                "Credentials do not belong into a URL: others see them in the list of processes and in logs. "
                "Give them with --token-file, or in MUSIC_CLOUD_MIRROR_TOKEN.",
            )
        names = [part for part in url.path.split("/") if part]
        if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment or len(names) < 2:
            raise SettingsProblem("url", "A catalog is named by https://HOST/OWNER/SLUG.")
        if not all(_NAME.fullmatch(name) for name in names):
            raise SettingsProblem("url", "Owner and slug are letters, digits, dots, hyphens and underscores.")
        if url.scheme == "http" and not allow_http and not is_loopback(url.host):
            raise SettingsProblem(
                "url-not-encrypted",
                "Other machines are spoken to by https alone; --allow-http allows http, in a network that you trust.",
            )
        whole = str(url.copy_with(path="/" + "/".join(names), query=None, fragment=None))
        return cls(url=whole, name="/".join(names[-2:]), allow_http=allow_http)

    def follow(self, place: str, *, base: str) -> str:
        """The URL that the server names, relative to ``base``. Raises Refused where it may not be asked.

        A server on another machine cannot send us to an unencrypted place, hence not to services of this machine.
        """
        try:
            url = httpx.URL(base).join(place) if len(place) <= _LONGEST_URL else None
        except httpx.InvalidURL:
            url = None
        if url is None or url.scheme not in ("http", "https") or not url.host or url.userinfo:
            raise Refused("url-refused", "The server names a place that is no URL of the web. Tell its owner.")
        here = is_loopback(httpx.URL(self.url).host) and is_loopback(url.host)
        if url.scheme == "http" and not here and not self.allow_http:
            raise Refused(
                "url-not-encrypted",
                "The server sends us to a place without encryption. Tell its owner; --allow-http allows it.",
            )
        return str(url)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def same_origin(one: str, other: str) -> bool:
    """Whether two URLs are of one server, to which alone credentials go."""
    first, second = httpx.URL(one), httpx.URL(other)
    return (first.scheme, first.host, _port(first)) == (second.scheme, second.host, _port(second))


def _port(url: httpx.URL) -> int | None:
    return url.port or {"http": 80, "https": 443}.get(url.scheme)
