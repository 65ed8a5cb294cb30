"""``playlist.sync``: one playlist, its songs, and what is missing of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from collector.adapters.known import Known
from collector.adapters.record import request_of
from collector.errors import IdCollision
from collector.ports import NOTHING, Givers
from collector.service.listing import Reading, read_songs, wish_of
from collector.service.playlists import Publication, publication
from collector.service.wanted import is_missing
from common.contracts.names import ItemState, Stage
from common.contracts.status import Reason
from common.contracts.work import PlaylistSync
from common.work import ItemContext, Outcome
from sources.port import Playlist, Progress, Source

from .desk import PLAN_CHUNK, RESULT_PROBLEMS, Desk, cause_of, reporting

PUBLISH_CHUNK = 500


class SyncHandler:
    """Reads a playlist, publishes what is new, and asks for the songs that are missing."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def __call__(self, item: PlaylistSync, context: ItemContext) -> Outcome:
        """Read one playlist, publish what is new, and ask for the songs that are missing."""
        async with self._desk.locks[item.playlist_id]:
            await self._desk.be_current()
            source = self._desk.sources.get(item.source)
            known = Known(self._desk.record, platform=item.source)
            playlist, reading, news = await self._desk.run(self._read, item, source, known, reporting(context))
            published = await self._publish(reading, news, known, context)
        planned = 0
        job = context.job
        if Stage.DOWNLOAD in job.stages and self._desk.sources.served([item.source], by=job.download_sources):
            planned = await self._ask_for_missing(item.source, reading, news, known, context)
        return _outcome(playlist, reading, news, published=published, planned=planned)

    def _read(
        self, item: PlaylistSync, source: Source, known: Known, progress: Progress
    ) -> tuple[Playlist, Reading, Publication]:
        """Read a playlist and compare it with the record. Blocks; runs in a thread, all of it at once."""
        before = self._desk.record.playlist(item.playlist_id)
        if before is not None and (before.platform, before.remote_id) != (item.source, item.remote_id):
            raise IdCollision(f"The playlist {item.name!r} has the same derived id as another, and was refused.")
        playlist = source.read(item.remote_id, known=known, progress=progress)
        ids = known.ids_of(song.remote_id for song in playlist.songs)
        songs = [(ids[song.remote_id], song) for song in playlist.songs]
        known.songs.update(self._desk.record.songs(one for one, _ in songs if one not in known.songs))
        known.songs = self._desk.recent.over(known.songs, (one for one, _ in songs))
        foreign = [
            (row.owner, row.song_id)
            for row in known.songs.values()
            if row.owner not in (None, item.playlist_id) and row.remote_id not in known.untouched
        ]
        reading = read_songs(
            songs,
            platform=item.source,
            playlist_id=item.playlist_id,
            known=known.songs,
            untouched=known.untouched,
            owners_listing=self._desk.record.still_listed(foreign) if foreign else frozenset(),
        )
        news = publication(
            playlist,
            reading.ids,
            platform=item.source,
            playlist_id=item.playlist_id,
            before=before,
            shrink_limit=self._desk.shrink_limit,
        )
        return playlist, reading, news

    async def _publish(self, reading: Reading, news: Publication, known: Known, context: ItemContext) -> int:
        """Songs first, then the pages that name them, page 0 last; return how many songs were news."""
        facts = [
            fact
            # Of a list that is not believed, only what changed about songs we have counts.
            for fact in reading.facts
            if (not news.kept or fact.song_id in known.songs) and self._desk.recent.claim(fact)
        ]
        publish = partial(
            self._desk.writer.publish_many, cause=cause_of(context), job_id=context.job.job_id, trace=context.trace
        )
        try:
            for fresh in (True, False):
                chosen = [fact for fact in facts if (fact.song_id in known.songs) is not fresh]
                for start in range(0, len(chosen), PUBLISH_CHUNK):
                    await publish(chosen[start : start + PUBLISH_CHUNK], fresh=fresh)
                    context.progress(0, note=f"{start} of {len(facts)} new songs published")
            if news.pages:
                first_time = news.pages[0].version == 1
                await publish(news.pages[:-1], fresh=first_time)
                await publish(news.pages[-1:], fresh=first_time)
        except BaseException:
            self._desk.recent.release(facts)
            raise
        return len(facts)

    async def _ask_for_missing(
        self, platform: str, reading: Reading, news: Publication, known: Known, context: ItemContext
    ) -> int:
        """Every time, also when nothing changed: what failed or was lost is asked for again."""
        givers = await self._desk.givers(context.job)
        missing = await self._desk.run(self._missing, platform, reading, news, known, givers)
        asked = {"job_id": context.job.job_id, "givers": tuple(sorted(givers.of(platform)))}
        fresh = {fact.song_id: fact for fact in reading.facts}
        planned = 0
        for start in range(0, len(missing), PLAN_CHUNK):
            chunk = missing[start : start + PLAN_CHUNK]
            requests = dict(await self._desk.run(self._desk.record.listings, chunk))
            for one in chunk:
                fact = fresh.get(one) or self._desk.recent.get(one)
                if fact is not None:
                    requests[one] = request_of(fact, job_id=0)
            planned += await context.plan(request.model_copy(update=asked) for request in requests.values())
        return planned

    def _missing(self, platform: str, reading: Reading, news: Publication, known: Known, givers: Givers) -> list[int]:
        """The songs of a list that are to be downloaded, each once, in order. Blocks."""
        ids = dict.fromkeys(news.ids)
        holdings = self._desk.record.holdings(ids, givers=givers)
        known.songs.update(self._desk.record.songs(one for one in ids if one not in known.songs))
        fresh = {fact.song_id: fact for fact in reading.facts}
        missing: list[int] = []
        for one in ids:
            if (fact := fresh.get(one)) is not None:
                wish, fingerprint = wish_of(fact), fact.fingerprint
            elif (song := known.songs.get(one)) is not None:
                wish, fingerprint = song.wish, song.fingerprint
            else:
                continue
            if is_missing(
                holdings.get(one, NOTHING),
                wish=wish,
                fingerprint=fingerprint,
                present=one in reading.present,
                givers=givers.of(platform),
            ):
                missing.append(one)
        return missing


def _outcome(playlist: Playlist, reading: Reading, news: Publication, *, published: int, planned: int) -> Outcome:
    problems: Sequence[str] = (*reading.collisions, *playlist.problems)
    result: dict[str, Any] = {
        "songs": len(news.ids),
        "new": published,
        "changed": bool(news.pages),
        "planned": planned,
    }
    if problems:
        result["problems"] = list(problems[:RESULT_PROBLEMS])
    reason = None
    if news.kept:
        result["upstream"] = news.header.upstream
        reason = Reason(code=f"list-{news.header.upstream}", message=news.header.notice or "")
    elif reading.collisions:
        reason = Reason(code=IdCollision.code, message=reading.collisions[0])
    return Outcome(state=ItemState.SUCCEEDED, result=result, reason=reason)
