"""``pool.collect``: which playlists a pool lists."""

from __future__ import annotations

from collector.errors import IdCollision
from collector.service.identity import PLAYLIST
from collector.service.pools import definition
from common.contracts.names import Stage
from common.contracts.work import PoolCollect
from common.errors import PermanentError
from common.work import ItemContext, Outcome, succeeded
from sources.port import PlaylistRef, Pool, Progress, Source

from .desk import RESULT_PROBLEMS, Desk, cause_of, distinct, reporting, syncs

MAX_POOL_PLAYLISTS = 50_000
"""What fits into one message of the bus."""


class CollectHandler:
    """Publishes the pool when it changed, and asks for each of its playlists to be read."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def __call__(self, item: PoolCollect, context: ItemContext) -> Outcome:
        """Read which playlists a pool lists, and ask for each to be read."""
        async with self._desk.locks[item.pool_id]:
            await self._desk.be_current()
            source = self._desk.sources.get(item.source)
            pool, refs = await self._desk.run(_list_pool, source, item, reporting(context))
            before = await self._desk.run(self._desk.record.pool, item.pool_id)
            if before is not None and (before.platform, before.external_id) != (item.source, item.external_id):
                raise IdCollision(f"The pool {item.name!r} has the same derived id as another, and was refused.")
            ids = await self._desk.ids(PLAYLIST, item.source, (ref.remote_id for ref in refs))
            by_id, collisions = distinct(refs, ids)
            fact = definition(
                pool,
                tuple(by_id),
                platform=item.source,
                pool_id=item.pool_id,
                before=before,
                shrink_limit=self._desk.shrink_limit,
            )
            if fact is not None:
                if len(fact.playlist_ids) > MAX_POOL_PLAYLISTS:
                    raise PermanentError(
                        f"It lists more than {MAX_POOL_PLAYLISTS} playlists. Collect from a smaller folder.",
                        code="pool-too-large",
                    )
                await self._desk.writer.publish(
                    fact, cause=cause_of(context), job_id=context.job.job_id, trace=context.trace
                )
        planned = 0
        if Stage.SYNC in context.job.stages:
            planned = await context.plan(
                syncs(
                    context.job.job_id,
                    item.source,
                    ((one, ref) for one, ref in by_id.items() if context.job.covers(one)),
                )
            )
        return succeeded(
            playlists=len(by_id), changed=fact is not None, planned=planned, problems=collisions[:RESULT_PROBLEMS]
        )


def _list_pool(source: Source, item: PoolCollect, progress: Progress) -> tuple[Pool, list[PlaylistRef]]:
    pool = next((pool for pool in source.pools() if pool.external_id == item.external_id), None)
    if pool is None:
        raise PermanentError(f"The source {item.source} no longer has this pool.", code="pool-missing")
    return pool, list(source.playlists(item.external_id, progress=progress))
