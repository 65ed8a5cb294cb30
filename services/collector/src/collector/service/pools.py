"""Whether a pool is published again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from collector.ports import KnownPool
from common.contracts.facts import PoolDefined
from sources.port import Pool

from .playlists import judge

NOTICE_KEY = "notice"


def digest_of(fact: PoolDefined) -> str:
    """Of everything that a pool says."""
    parts = [
        fact.platform,
        fact.pool_kind,
        fact.external_id,
        fact.name,
        fact.url,
        fact.metadata,
        fact.playlist_ids,
        fact.removed,
    ]
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def definition(
    pool: Pool,
    playlist_ids: Sequence[int],
    *,
    platform: str,
    pool_id: int,
    before: KnownPool | None,
    shrink_limit: float,
) -> PoolDefined | None:
    """The fact to publish, or None when nothing changed.

    A pool that suddenly lists nothing or much less (a folder that is not mounted) keeps its last list. What
    comes to a pool is listed behind what was there: the names of toplists follow from the order.
    """
    metadata = dict(pool.metadata)
    listed = set(playlist_ids)
    known = () if before is None else tuple(id for id in before.playlist_ids if id in listed)
    ids = (*known, *sorted(listed.difference(known)))
    if before is not None and not before.removed:
        upstream = judge(len(ids), before=len(before.playlist_ids), shrink_limit=shrink_limit)
        if upstream != "ok":
            metadata[NOTICE_KEY] = (
                f"The source now lists {len(ids)} playlists where it listed {len(before.playlist_ids)}; the last "
                "good list is kept. If this is meant, set PLAYLIST_SHRINK_LIMIT=1 and collect again."
            )
            ids = before.playlist_ids
    fact = PoolDefined(
        pool_id=pool_id,
        platform=platform,
        pool_kind=pool.kind,
        external_id=pool.external_id,
        name=pool.name,
        url=pool.url,
        metadata=metadata,
        playlist_ids=ids,
    )
    return None if before is not None and before.digest == digest_of(fact) else fact
