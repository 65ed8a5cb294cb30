"""Which songs of a reading are news: published as ``song.listed``, and nothing else is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collector.ports import KnownSong
from common.contracts.facts import SongListed
from common.contracts.work import SongDownload
from sources.port import Song

OWNER_KEY = "listed_by"
"""In ``SongListed.metadata``: the playlist whose words were taken. Two lists may name one song in
different words; without an owner they would overwrite each other at every reading."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The songs of one playlist, in order, with what is new about them."""

    ids: tuple[int, ...]
    facts: tuple[SongListed, ...]
    present: frozenset[int]
    """songs whose bytes the source saw now"""
    collisions: tuple[str, ...] = ()


def digest_of(fact: SongListed) -> str:
    """Of everything that is listed of a song, but not of who lists it."""
    metadata = {key: value for key, value in fact.metadata.items() if key != OWNER_KEY}
    return _hash(
        fact.platform,
        fact.remote_id,
        fact.name,
        fact.singers,
        fact.album,
        fact.duration_seconds,
        fact.ext,
        fact.size,
        fact.fingerprint,
        fact.metadata_status,
        metadata,
    )


def wish_of(song: SongListed | SongDownload) -> str:
    """Of what a downloader goes by: while it is the same, what failed for good fails again."""
    return _hash(
        song.remote_id,
        song.name,
        song.singers,
        song.album,
        song.duration_seconds,
        song.ext,
        song.size,
        song.fingerprint,
    )


def owner_of(fact: SongListed) -> int | None:
    """The playlist whose words a listing carries."""
    owner = fact.metadata.get(OWNER_KEY)
    return owner if isinstance(owner, int) and not isinstance(owner, bool) else None


def listed(song: Song, *, song_id: int, platform: str, owner: int) -> SongListed:
    """The fact for a song as the source lists it."""
    return SongListed(
        song_id=song_id,
        platform=platform,
        remote_id=song.remote_id,
        name=song.name,
        singers=song.singers,
        album=song.album,
        duration_seconds=song.duration_seconds,
        ext=song.ext,
        size=song.size,
        fingerprint=song.fingerprint,
        metadata_status=song.metadata_status,
        metadata={**song.metadata, OWNER_KEY: owner},
    )


def read_songs(
    songs: Sequence[tuple[int, Song]],
    *,
    platform: str,
    playlist_id: int,
    known: Mapping[int, KnownSong],
    untouched: Mapping[str, Song],
    owners_listing: frozenset[tuple[int, int]],
) -> Reading:
    """What a reading of a playlist says that was not known.

    ``untouched`` are the songs that the source took over from the record as they were;
    ``owners_listing`` the (playlist, song) pairs that are listed now, of those that own a song.
    """
    ids: list[int] = []
    facts: dict[int, SongListed] = {}
    present: set[int] = set()
    collisions: list[str] = []
    seen: dict[int, str] = {}
    for song_id, song in songs:
        earlier = seen.get(song_id)
        if earlier is not None and earlier == song.remote_id:
            ids.append(song_id)
            continue
        before = known.get(song_id)
        taken = earlier or (before.remote_id if before else song.remote_id)
        if taken != song.remote_id or (before is not None and before.platform != platform):
            collisions.append(
                f"{song.remote_id[:200]!r} has the same derived id as another song ({song_id}), and was refused."
            )
            continue
        seen[song_id] = song.remote_id
        ids.append(song_id)
        if song.fingerprint is not None:
            present.add(song_id)
        if before is not None and not before.removed and untouched.get(song.remote_id) is song:
            continue
        fact = listed(song, song_id=song_id, platform=platform, owner=playlist_id)
        if before is None or _is_news(fact, before, playlist_id, owners_listing):
            facts[song_id] = fact
    return Reading(
        ids=tuple(ids), facts=tuple(facts.values()), present=frozenset(present), collisions=tuple(collisions)
    )


def _is_news(fact: SongListed, before: KnownSong, playlist_id: int, owners_listing: frozenset[tuple[int, int]]) -> bool:
    if before.removed:
        return True
    if digest_of(fact) == before.digest:
        return False
    if fact.fingerprint is not None and fact.fingerprint != before.fingerprint:
        return True
    if fact.fingerprint is None and before.fingerprint is not None:
        return False  # the file is gone; what it said of itself is still the best there is
    owner = before.owner
    return owner is None or owner == playlist_id or (owner, before.song_id) not in owners_listing


def _hash(*parts: Any) -> str:
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
