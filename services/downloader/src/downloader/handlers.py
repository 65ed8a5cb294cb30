"""Download items: from the message to the stored file and its fact."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

from common.contracts.names import LIBRARY_BACKEND, ImportMode
from common.contracts.work import SongDownload
from common.errors import MusicCloudError, Waiting
from common.telemetry import get_logger
from common.work import ItemContext, Outcome, skipped, succeeded
from downloader.adapters.choices import Choices
from downloader.adapters.facts import Known, StoredFacts, WrongLastSequence, is_of
from downloader.ports import SongLock, Watch
from downloader.service.judge import is_chosen
from downloader.service.store import REFERENCE_SOURCE, Already, Ready, Request, StoreSong

R = TypeVar("R")

_TIDY_SECONDS = 0.2
_NOTHING = Known(fact=None, sequence=0, id="")


class DownloadSong:
    """The handler of ``song.download.requested``. ``threads`` must hold as many as items are in hand.

    ``job_runs`` says whether a job still exists: what a canceled one leaves is removed, what an
    interrupted one leaves is continued.
    """

    def __init__(
        self,
        *,
        store: StoreSong,
        facts: StoredFacts,
        threads: Executor,
        import_mode: ImportMode,
        choices: Choices,
        max_tries: int,
        job_runs: Callable[[int], bool],
    ) -> None:
        self._store = store
        self._facts = facts
        self._threads = threads
        self._import_mode = import_mode
        self._choices = choices
        self._max_tries = max_tries
        self._job_runs = job_runs
        self._untidy: deque[tuple[Ready, list[SongLock]]] = deque()

    async def __call__(self, item: SongDownload, context: ItemContext) -> Outcome:
        request, before = await self._request(item, context)
        watch = Watch(progress=context.progress, canceled=context.canceled.is_set)
        held: list[SongLock] = []

        def work() -> Already | Ready | None:
            self.tidy()
            if not held:
                held.append(self._store.lock(item.song_id, watch))
                held[0].held_for(item.status_subject)
                if held[0].waited:
                    return None
            return self._store.store(request, watch)

        loop = asyncio.get_running_loop()
        thread = loop.run_in_executor(self._threads, work)
        try:
            result = await asyncio.shield(thread)
            if result is None:
                # Whoever had the song has stored it by now, most likely.
                request, before = await self._request(item, context)
                thread = loop.run_in_executor(self._threads, work)
                result = await asyncio.shield(thread)
            assert result is not None
            if not is_chosen(result.fact, item, await self._choices.of(item.song_id)):
                # Nothing is published of it yet: the next try puts it away, and takes what was chosen.
                raise Waiting("A person chose another recording meanwhile.", code="choice-changed", seconds=0.2)
            if isinstance(result, Already):
                outcome = _already(result)
            else:
                outcome = await self._publish(request, result, before, context)
        except asyncio.CancelledError:
            # The thread notices that it must stop; the song stays locked until it has.
            thread.add_done_callback(lambda done: self._stopped(done, item, held))
            raise
        except BaseException:
            self._leave(item, held)
            raise
        if isinstance(result, Already):
            _release(held)
        elif result.old is not None:
            await self._in_thread(self._finish, result, held)
        else:
            # Only the record is left to be removed: nobody waits for that, and the next song's thread does it.
            self._untidy.append((result, held))
            if len(self._untidy) == 1:
                loop.call_later(_TIDY_SECONDS, self._threads.submit, self.tidy)
        return outcome

    async def _request(self, item: SongDownload, context: ItemContext) -> tuple[Request, Known]:
        mode = context.job.import_mode or self._import_mode
        stored = await self._facts.read(LIBRARY_BACKEND, item.song_id)
        referenced = _NOTHING
        by_reference = mode is ImportMode.REFERENCE and item.source == REFERENCE_SOURCE
        if by_reference:
            referenced = await self._facts.read(REFERENCE_SOURCE, item.song_id)
        # A person who asks for a song again may have chosen just now.
        choice = await self._choices.of(item.song_id, ask=item.force)
        before, backend = (referenced, REFERENCE_SOURCE) if by_reference else (stored, LIBRARY_BACKEND)
        return Request(
            song=item,
            mode=mode,
            cause=context.cause,
            known=stored.fact,
            referenced=referenced.fact,
            mine=is_of(before, backend, item.song_id, context.cause),
            choice=choice,
            only=context.job.download_sources,
            last_try=context.tries + 1 >= self._max_tries,
        ), before

    async def _publish(self, request: Request, ready: Ready, before: Known, context: ItemContext) -> Outcome:
        try:
            await self._facts.publish(ready.fact, after=before, context=context)
        except WrongLastSequence:
            other = await self._facts.read(ready.fact.backend, request.song.song_id)
            mine = is_of(other, ready.fact.backend, request.song.song_id, context.cause)
            theirs = other.fact if other.fact is not None and not other.fact.removed else None
            if theirs is not None and theirs.locator != ready.fact.locator and (mine or not request.song.force):
                await self._in_thread(self._store.withdraw, ready)
                return _already(Already(fact=theirs, mine=mine))
            if theirs is not None and mine:
                return _stored(ready)
            await self._facts.replace(ready.fact, context=context)
        return _stored(ready)

    def tidy(self) -> None:
        """Finish what was stored but not tidied up after."""
        while True:
            try:
                ready, held = self._untidy.popleft()
            except IndexError:
                return
            self._finish(ready, held)

    def _finish(self, ready: Ready, held: list[SongLock]) -> None:
        try:
            self._store.finish(ready)
        except (OSError, MusicCloudError) as error:
            # The song is stored and its fact is out; what is left over is tidied up at the next start.
            get_logger().warning("spool not tidied", song=ready.fact.song_id, error=type(error).__name__)
        finally:
            _release(held)

    def _stopped(self, done: asyncio.Future[Already | Ready | None], item: SongDownload, held: list[SongLock]) -> None:
        """The thread of an item that was told to stop has ended; how, nobody waits for any more."""
        error = None if done.cancelled() else done.exception()
        if error is not None and not isinstance(error, MusicCloudError):
            get_logger().error("a stopped item ended by a bug", song=item.song_id, exc_info=error)
        self._leave(item, held)

    def _leave(self, item: SongDownload, held: list[SongLock]) -> None:
        """Let go of a song that is not stored."""

        def leave() -> None:
            try:
                if held and not self._job_runs(item.job_id):
                    self._store.abandon(item.song_id)
            finally:
                _release(held)

        self._threads.submit(leave)

    async def _in_thread(self, function: Callable[..., R], *arguments: Any) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


def _release(held: list[SongLock]) -> None:
    for lock in held:
        lock.release()


def _already(already: Already) -> Outcome:
    fact = already.fact
    if already.mine:
        return succeeded(locator=fact.locator, size=fact.size)
    return skipped("already-stored", "It is stored already.", locator=fact.locator, size=fact.size)


def _stored(ready: Ready) -> Outcome:
    fact = ready.fact
    return succeeded(
        locator=fact.locator,
        backend=fact.backend,
        size=fact.size,
        ext=fact.format.ext,
        quality=fact.quality_label,
        **({"found_at": fact.candidate_source} if fact.candidate_remote_id else {}),
        **ready.result,
    )
