"""Ids are derived, never allocated: any service computes them, and a replay gives the same."""

from __future__ import annotations

import hashlib

_BITS = 53
"""What a JavaScript number holds exactly. A collision in a million songs has odds of 1 in 18,000."""


def _derive(kind: str, *parts: str) -> int:
    digest = hashlib.sha256("\x1f".join((kind, *parts)).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - _BITS)


def song_id(platform: str, remote_id: str) -> int:
    """The id of the song that ``platform`` knows as ``remote_id``."""
    return _derive("song", platform, remote_id)


def playlist_id(platform: str, remote_id: str) -> int:
    """The id of the playlist that ``platform`` knows as ``remote_id``."""
    return _derive("playlist", platform, remote_id)


def pool_id(platform: str, external_id: str) -> int:
    """The id of the pool that ``platform`` knows as ``external_id``."""
    return _derive("pool", platform, external_id)


def asset_id(song: int, variant: str) -> int:
    """The id of one variant of a song's file, wherever its copies lie."""
    return _derive("asset", str(song), variant)


def backend_id(backend: str) -> int:
    """The id of a storage backend."""
    return _derive("backend", backend)


def location_id(asset: int, backend: str) -> int:
    """The id of one copy of an asset."""
    return _derive("location", str(asset), backend)
