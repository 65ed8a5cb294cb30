"""Whether a playlist is published again, and as what."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from collector.ports import KnownPlaylist
from common.contracts.facts import PlaylistCollected, PlaylistHeader
from sources.port import Playlist

Upstream = Literal["ok", "empty", "shrunk"]
_NOTICE_PROBLEMS = 3


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What to do with a playlist that was read. ``pages`` is empty when nothing changed."""

    pages: tuple[PlaylistCollected, ...]
    """in the order in which they are published: page 0 last"""
    ids: tuple[int, ...]
    """the entries that count now; those of the last good list where the new one is not believed"""
    header: PlaylistHeader

    @property
    def kept(self) -> bool:
        return self.header.upstream != "ok"


def publication(
    playlist: Playlist,
    ids: Sequence[int],
    *,
    platform: str,
    playlist_id: int,
    before: KnownPlaylist | None,
    shrink_limit: float,
) -> Publication:
    """Decide what to publish of a playlist that now lists ``ids``.

    A list that lost more than ``shrink_limit`` of its entries is not believed: the last good one stays.
    """
    if before is not None and before.removed:
        before_version, before = before.top_version, None
    else:
        before_version = before.top_version if before else 0
    entries = tuple(ids)
    header = _header(playlist, len(entries))
    fingerprint = fingerprint_of(header, entries)
    if before is not None:
        upstream = judge(len(entries), before=before.header.song_count, shrink_limit=shrink_limit)
        if upstream != "ok":
            header = before.header.model_copy(
                update={"upstream": upstream, "notice": _kept_notice(len(entries), before.header.song_count)}
            )
            if header == before.header and before.whole:
                return Publication(pages=(), ids=tuple(before.entries()), header=header)
            entries = tuple(before.entries())
            fingerprint = before.fingerprint or fingerprint
        elif before.whole and before.fingerprint == fingerprint and before.header == header:
            return Publication(pages=(), ids=entries, header=header)
    pages = _pages(
        entries,
        header=header,
        platform=platform,
        playlist_id=playlist_id,
        remote_id=playlist.ref.remote_id,
        version=before_version + 1,
        fingerprint=fingerprint,
    )
    return Publication(pages=pages, ids=entries, header=header)


def judge(count: int, *, before: int, shrink_limit: float) -> Upstream:
    """What to think of a list of ``count`` entries that had ``before``."""
    if before == 0 or (before - count) / before <= shrink_limit:
        return "ok"
    return "empty" if count == 0 else "shrunk"


def fingerprint_of(header: PlaylistHeader, ids: Sequence[int]) -> str:
    """Of the whole list: changes when any entry, their order or a word of the header does."""
    words = json.dumps(
        [header.name, header.description, header.cover_url, header.play_count, header.url], ensure_ascii=False
    )
    digest = hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=16)
    digest.update(",".join(map(str, ids)).encode())
    return digest.hexdigest()


def _header(playlist: Playlist, count: int) -> PlaylistHeader:
    return PlaylistHeader(
        name=playlist.ref.name,
        description=playlist.description,
        cover_url=playlist.cover_url,
        play_count=playlist.play_count,
        url=playlist.ref.url,
        song_count=count,
        notice=_problem_notice(playlist.problems),
    )


def _problem_notice(problems: Sequence[str]) -> str | None:
    if not problems:
        return None
    shown = " ".join(problems[:_NOTICE_PROBLEMS])
    more = len(problems) - _NOTICE_PROBLEMS
    return f"{shown} … and {more} more." if more > 0 else shown


def _kept_notice(count: int, before: int) -> str:
    now = "nothing" if count == 0 else f"only {count} songs"
    return (
        f"The source now lists {now} where it listed {before}. The last good list is kept and nothing is deleted. "
        "If this is meant, set PLAYLIST_SHRINK_LIMIT=1 and sync again."
    )


def _pages(
    ids: Sequence[int],
    *,
    header: PlaylistHeader,
    platform: str,
    playlist_id: int,
    remote_id: str,
    version: int,
    fingerprint: str,
) -> tuple[PlaylistCollected, ...]:
    size = PlaylistCollected.PAGE_SIZE
    count = max(1, -(-len(ids) // size))

    def page(number: int) -> PlaylistCollected:
        start = number * size
        return PlaylistCollected(
            playlist_id=playlist_id,
            platform=platform,
            remote_id=remote_id,
            version=version,
            page=number,
            pages=count,
            header=header if number == 0 else None,
            fingerprint=fingerprint if number == 0 else None,
            entries=tuple(enumerate(ids[start : start + size], start=start)),
        )

    return (*(page(number) for number in range(1, count)), page(0))
