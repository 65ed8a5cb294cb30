"""The ids of songs, playlists and pools: derived from their key at the source, unless an older catalog gave one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from common.catalog import ids

SONG = "song"
PLAYLIST = "playlist"
POOL = "pool"

_DERIVE = {SONG: ids.song_id, PLAYLIST: ids.playlist_id, POOL: ids.pool_id}


def derived_id(kind: str, platform: str, key: str) -> int:
    """The id of something that was never in an older catalog."""
    return _DERIVE[kind](platform, key)


def identify(kind: str, platform: str, keys: Iterable[str], adopted: Mapping[str, int]) -> dict[str, int]:
    """The id of each key; ``adopted`` are those that brought one along."""
    return {key: adopted[key] if key in adopted else derived_id(kind, platform, key) for key in keys}
