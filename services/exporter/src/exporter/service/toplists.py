"""Which playlists are toplists, and their ids, which stay what they are when a pool gains a playlist."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from exporter.service.source import Source
from exporter.service.values import clean_text

_OF_POOLS = """
    SELECT o.id, CAST(o.platform AS BLOB), CAST(o.external_id AS BLOB), CAST(o.name AS BLOB), {place},
           CAST(p.remote_playlist_id AS BLOB), CAST(p.name AS BLOB), CAST(p.description AS BLOB),
           CAST(p.cover_url AS BLOB), p.play_count, p.song_count
    FROM source.playlist_pools o
    JOIN {members} m ON m.pool_id = o.id
    JOIN main.catalog_playlists p ON p.playlist_id = m.playlist_id
    WHERE o.pool_kind = 'toplist'
    ORDER BY o.id, m.place, p.playlist_id
"""
_IN_ORDER_OF_THE_FACT = """
    (SELECT f.pool_id, e.value AS playlist_id, min(e.key) AS place
     FROM source.fact_pools f, json_each(CASE WHEN json_valid(f.playlist_ids) THEN f.playlist_ids ELSE '[]' END) e
     WHERE NOT f.removed GROUP BY f.pool_id, e.value)
"""
_IN_ORDER_OF_IDS = "(SELECT DISTINCT pool_id, playlist_id, NULL AS place FROM source.pool_playlists)"


def toplists(connection: sqlite3.Connection, source: Source) -> Iterator[tuple[Any, ...]]:
    """The rows of ``catalog_toplists``, from the playlists that are in ``main``.

    The first playlist of a pool has the pool's own id as its name, its siblings have that and their own.
    Where the catalog keeps the fact of the pool, the first is the one that stands first in it, whether it was
    read yet or not: facts list what came later behind. Elsewhere it is the one of the lowest id.
    """
    of_facts = source.keeps_pool_facts
    statement = _OF_POOLS.format(
        place="m.place" if of_facts else "NULL", members=_IN_ORDER_OF_THE_FACT if of_facts else _IN_ORDER_OF_IDS
    )
    taken: set[str] = set()
    pool = None
    for pool_id, platform, external_id, group, place, *shown, plays, songs in connection.execute(statement):
        platform, external_id, group, remote_id, name, description, cover = map(
            clean_text, (platform, external_id, group, *shown)
        )
        first = place == 0 if of_facts else pool_id != pool
        pool = pool_id
        toplist = f"{external_id}" if first else f"{external_id}:{remote_id}"
        # Two platforms may use one id: the pool of the lower id keeps it.
        for candidate in (toplist, f"{platform}:{toplist}", f"{platform}:{pool_id}:{external_id}:{remote_id}"):
            if candidate not in taken:
                taken.add(candidate)
                yield candidate, platform, name, description, cover, plays, songs, group
                break
