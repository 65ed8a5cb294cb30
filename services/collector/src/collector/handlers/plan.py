"""``job.plan``: the items of one stage of a job."""

from __future__ import annotations

from functools import partial

from collector.service.identity import PLAYLIST, POOL
from common.contracts.jobs import ActiveJob
from common.contracts.names import Stage
from common.contracts.work import FileUpload, JobPlan, PoolCollect, SongDownload
from common.errors import MusicCloudError, PermanentError
from common.work import ItemContext, Outcome, skipped, succeeded
from sources.port import PlaylistRef, Pool, Progress, Source

from .desk import PLAN_CHUNK, Desk, distinct, reporting, syncs


class PlanHandler:
    """Puts the items of a stage into WORK; what is wanted is worked out anew in every job."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def __call__(self, item: JobPlan, context: ItemContext) -> Outcome:
        """Put the items of one stage into WORK."""
        await self._desk.be_current()
        match item.stage:
            case Stage.COLLECT:
                return await self._collect(context)
            case Stage.SYNC:
                return await self._sync(context)
            case Stage.DOWNLOAD:
                return await self._download(context)
            case Stage.UPLOAD:
                return await self._upload(context)
        raise PermanentError(f"There is nothing to plan for the stage {item.stage}.", code="stage-unknown")

    async def _collect(self, context: ItemContext) -> Outcome:
        planned, found, notes = 0, 0, dict[str, str]()
        for name in context.job.sources:
            try:
                source = self._desk.sources.get(name)
                health = await self._desk.run(source.health)
                pools = await self._desk.run(_pools, source)
            except MusicCloudError as error:
                notes[name] = error.message
                continue
            if not pools:
                notes[name] = health.message or "It has no pools now."
            ids = await self._desk.ids(POOL, name, (pool.external_id for pool in pools))
            scope = context.job.pool_scope
            chosen = [pool for pool in pools if not scope or ids[pool.external_id] in scope]
            found += len(chosen)
            planned += await context.plan(
                PoolCollect(
                    job_id=context.job.job_id,
                    source=name,
                    pool_id=ids[pool.external_id],
                    external_id=pool.external_id,
                    name=pool.name,
                    pool_kind=pool.kind,
                )
                for pool in chosen
            )
        if not found:
            return skipped(
                "nothing-to-collect",
                " ".join(f"{name}: {note}" for name, note in notes.items()) or "The job has no sources.",
                notes=notes,
            )
        return succeeded(pools=found, planned=planned, notes=notes)

    async def _sync(self, context: ItemContext) -> Outcome:
        job = context.job
        known = await self._desk.run(self._desk.record.playlists_to_sync, job.job_id, job.sources)
        scope = await self._playlists(job)
        items = [item for item in known if scope is None or item.playlist_id in scope]
        planned = await context.plan(items)
        count = len(items)
        seen = {item.playlist_id for item in items}
        notes: dict[str, str] = {}
        for pool in await self._desk.run(self._desk.record.pools, job.sources):
            wanted = {one for one in pool.playlist_ids if scope is None or one in scope}
            if seen.issuperset(wanted):
                continue
            # Listed but never read: only the source knows what it is called there.
            try:
                source = self._desk.sources.get(pool.platform)
                refs = await self._desk.run(_list, source, pool.external_id, reporting(context))
            except MusicCloudError as error:
                notes[pool.platform] = error.message
                continue
            ids = await self._desk.ids(PLAYLIST, pool.platform, (ref.remote_id for ref in refs))
            by_id, _ = distinct(refs, ids)
            listed = wanted - seen
            new = {one: ref for one, ref in by_id.items() if one in listed}
            planned += await context.plan(syncs(job.job_id, pool.platform, new.items()))
            count += len(new)
            seen.update(new)
        return succeeded(playlists=count, planned=planned, notes=notes)

    async def _download(self, context: ItemContext) -> Outcome:
        job = context.job
        planned = count = after = 0
        scope = await self._playlists(job)
        if scope is not None and not scope:
            return succeeded(songs=0, planned=0)
        givers = await self._desk.givers(job)
        while True:
            chunk: list[SongDownload] = await self._desk.run(
                partial(
                    self._desk.record.wanted,
                    job.job_id,
                    self._desk.sources.served(job.sources, by=job.download_sources),
                    playlists=tuple(scope or ()),
                    givers=givers,
                    after=after,
                    limit=PLAN_CHUNK,
                )
            )
            if not chunk:
                return succeeded(songs=count, planned=planned)
            planned += await context.plan(chunk)
            count += len(chunk)
            after = chunk[-1].song_id
            context.progress(0, note=f"{count} missing songs asked for")

    async def _playlists(self, job: ActiveJob) -> frozenset[int] | None:
        """The playlists that lie in the scope of a job; None: all."""
        scopes = [frozenset(job.playlist_scope)] if job.playlist_scope else []
        if job.pool_scope:
            pools = await self._desk.run(self._desk.record.pools, job.sources)
            scopes.append(
                frozenset(one for pool in pools if pool.pool_id in job.pool_scope for one in pool.playlist_ids)
            )
        return frozenset.intersection(*scopes) if scopes else None

    async def _upload(self, context: ItemContext) -> Outcome:
        job = context.job
        if job.upload_backend is None:
            return skipped("no-object-store", "No object store is configured. Set OBJECT_BUCKET and its keys.")
        planned = count = 0
        after = (-1, "")
        while True:
            chunk: list[FileUpload] = await self._desk.run(
                partial(self._desk.record.uploads, job.job_id, job.upload_backend, after=after, limit=PLAN_CHUNK)
            )
            if not chunk:
                return succeeded(files=count, planned=planned)
            planned += await context.plan(chunk)
            count += len(chunk)
            after = (chunk[-1].song_id, chunk[-1].variant)
            context.progress(0, note=f"{count} files to copy")


def _pools(source: Source) -> list[Pool]:
    return list(source.pools())


def _list(source: Source, pool_external_id: str, progress: Progress) -> list[PlaylistRef]:
    return list(source.playlists(pool_external_id, progress=progress))
