"""Download items: from the message to the stored file and its fact."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

from common.contracts.facts import FileStored
from common.contracts.names import LIBRARY_BACKEND, ImportMode
from common.contracts.work import SongDownload
from common.errors import MusicCloudError, Waiting
from common.telemetry import get_logger
from common.work import ItemContext, Outcome, skipped, succeeded
from downloader.adapters.choices import Choices
from downloader.adapters.facts import Known, StoredFacts, WrongLastSequence, is_of
from downloader.ports import NO_CHOICE, SongLock, Watch
from downloader.service.judge import is_chosen, is_current, is_same_recording
from downloader.service.layout import parse_layout
from downloader.service.store import REFERENCE_SOURCE, Already, Ready, Request, StoreSong

R = TypeVar("R")

_TIDY_SECONDS = 0.2
_NOTHING = Known(fact=None, sequence=0, id="")


class DownloadSong:
    """The handler of ``song.download.requested``. ``threads`` must hold as many as items are in hand.

    ``backends``: the file systems that may have a song, of which only the library is written.
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
        backends: Sequence[str],
        max_tries: int,
        job_runs: Callable[[int], bool],
    ) -> None:
        self._store = store
        self._facts = facts
        self._threads = threads
        self._import_mode = import_mode
        self._choices = choices
        self._backends = backends
        self._max_tries = max_tries
        self._job_runs = job_runs
        self._untidy: deque[tuple[Ready, list[SongLock]]] = deque()

    async def __call__(self, item: SongDownload, context: ItemContext) -> Outcome:
        request, known = await self._request(item, context)
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
                request, known = await self._request(item, context)
                thread = loop.run_in_executor(self._threads, work)
                result = await asyncio.shield(thread)
            assert result is not None
            if not is_chosen(result.fact, item, await self._choices.of(item.song_id)):
                # Nothing is published of it yet: the next try puts it away, and takes what was chosen.
                raise Waiting("A person chose another recording meanwhile.", code="choice-changed", seconds=0.2)
            if isinstance(result, Already):
                outcome = _already(result)
            else:
                outcome = await self._publish(request, result, known[result.fact.backend], context)
            await self._retire_others(result.fact, request, known, context)
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

    async def _request(self, item: SongDownload, context: ItemContext) -> tuple[Request, dict[str, Known]]:
        """The song with what is known of its files, the latter also by backend."""
        mode = context.job.import_mode or self._import_mode
        # A person who asks for a song again may have chosen just now.
        choice = await self._choices.of(item.song_id, ask=item.force)
        known = {LIBRARY_BACKEND: await self._facts.read(LIBRARY_BACKEND, item.song_id)}
        for backend in self._backends:
            in_place = backend == REFERENCE_SOURCE == item.source and mode is ImportMode.REFERENCE
            # What else there is matters only where another recording may take its place.
            if backend not in known and (in_place or item.force or choice != NO_CHOICE):
                known[backend] = await self._facts.read(backend, item.song_id)
        mine = (
            backend
            for backend, one in known.items()
            if one.fact is not None and not one.fact.removed and is_of(one, backend, item.song_id, context.cause)
        )
        return Request(
            song=item,
            mode=mode,
            cause=context.cause,
            known=known[LIBRARY_BACKEND].fact,
            referenced=known.get(REFERENCE_SOURCE, _NOTHING).fact,
            mine=next(mine, None),
            choice=choice,
            only=context.job.download_sources,
            layout=parse_layout(context.job.download_layout) if context.job.download_layout else None,
            last_try=context.tries + 1 >= self._max_tries,
        ), known

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

    async def _retire_others(
        self, kept: FileStored, request: Request, known: dict[str, Known], context: ItemContext
    ) -> None:
        """Only one recording of a song is current: what another backend has of it ends, the file before the fact."""
        for backend, before in known.items():
            other = before.fact
            if backend == kept.backend or other is None or other.removed:
                continue
            if is_same_recording(other, kept, request.song) and is_current(other, request.song, request.choice):
                continue
            await self._in_thread(self._store.retire, other)
            await self._facts.replace(other.model_copy(update={"removed": True}), context=context)

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
