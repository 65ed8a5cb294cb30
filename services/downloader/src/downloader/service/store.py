"""One song from its candidates into the library: the order of the steps, and what each failure means.

The order makes a crash anywhere harmless: bytes, their verification, the record of where they go,
the rename, and only then (by the caller) the fact. Whatever was done is found again by the record.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from common.catalog.ids import asset_id
from common.contracts.facts import FileStored
from common.contracts.names import LIBRARY_BACKEND, MAIN_VARIANT, ImportMode
from common.contracts.work import SongDownload
from common.errors import DependencyDown, MusicCloudError
from common.storage.locators import InvalidLocator, check_locator
from downloader.errors import Rejected, Stopped
from downloader.ports import (
    NO_CHOICE,
    Choice,
    Fetched,
    Fetcher,
    FetchState,
    Inspected,
    Inspector,
    Library,
    Placing,
    RejectMemory,
    SongLock,
    Spool,
    Tagger,
    TaggingFailed,
    Torn,
    Watch,
)
from downloader.service.judge import (
    TAGGED_KINDS,
    check_decoded,
    check_duration,
    is_chosen,
    is_current,
    missing_tags,
    quality_label,
)
from downloader.service.layout import Layout
from downloader.service.resolve import Finder, Offer
from downloader.service.sniff import kind_of
from sources.port import FileCandidate

REFERENCE_SOURCE = "local"
"""The source whose folder is served as a backend of the same name; others' files are always taken in."""


Noted = FetchState | Placing | Torn | None


@dataclass(frozen=True, kw_only=True)
class Request:
    """A song to store. ``cause`` names this try; ``known`` is the last fact of its file in the library,
    ``referenced`` that of its file in place, ``mine``: the backend whose fact of these came from this very try.

    ``choice``: what a person decided about it; ``only``: the sources that its job allows, empty: the configured
    ones; ``layout``: where its job files songs, none: as configured; ``last_try``: what does not work now will not
    be tried again.
    """

    song: SongDownload
    mode: ImportMode
    cause: str
    known: FileStored | None = None
    referenced: FileStored | None = None
    mine: str | None = None
    choice: Choice = NO_CHOICE
    only: tuple[str, ...] = ()
    layout: Layout | None = None
    last_try: bool = True


@dataclass(frozen=True, kw_only=True)
class Already:
    """Nothing was to be done. ``mine``: this try did it before it was interrupted."""

    fact: FileStored
    mine: bool


@dataclass(frozen=True, kw_only=True)
class Ready:
    """The file is in its place; the fact is to be published.

    ``old``: what goes to the trash after that; ``created``: the file was not there before; ``clean``: nothing
    of it is left in the spool but the record.
    """

    fact: FileStored
    old: str | None = None
    created: bool = True
    clean: bool = False
    result: dict[str, str] = field(default_factory=dict)


class StoreSong:
    """Blocking; call it in a thread. Shared by all threads of a process."""

    def __init__(
        self,
        *,
        spool: Spool,
        finder: Finder,
        fetcher: Fetcher,
        inspector: Inspector,
        tagger: Tagger,
        rejects: RejectMemory,
        library: Library,
        layout: Layout,
        full: bool,
        duration_tolerance: float,
    ) -> None:
        self._spool = spool
        self._finder = finder
        self._fetcher = fetcher
        self._inspector = inspector
        self._tagger = tagger
        self._rejects = rejects
        self._library = library
        self._layout = layout
        self._full = full
        self._duration_tolerance = duration_tolerance

    def lock(self, song_id: int, watch: Watch) -> SongLock:
        """Take the song, over all copies of the downloader."""
        return self._spool.lock(song_id, canceled=watch.canceled)

    def store(self, request: Request, watch: Watch) -> Already | Ready:
        """Bring the song into the library. The caller holds its lock.

        Raises the errors of :mod:`common.errors`; a part that can be continued stays in the spool.
        """
        song = request.song
        noted = self._spool.recall(song.song_id)
        placing = noted if isinstance(noted, Placing) else None
        if (done := self._done(request, placing)) is not None:
            return done
        if placing is not None and (placing.cause == request.cause or not song.force):
            adopted = self._adopt(placing)
            if adopted is not None and is_chosen(adopted.fact, song, request.choice):
                return adopted
            if adopted is not None:
                # A person has decided otherwise since; nobody knows of this file yet.
                self._library.trash(adopted.fact.locator)
        if isinstance(noted, Placing | Torn):
            self._spool.forget(song.song_id)

        def say(words: str) -> None:
            if watch.canceled():
                raise Stopped
            watch.progress(0, None, words)

        search = self._finder.search(
            song,
            choice=request.choice,
            only=request.only,
            last_try=request.last_try,
            say=say,
        )
        for offer in search.offers():
            try:
                taken = self._take(request, offer, watch, noted)
            except (Stopped, DependencyDown):
                # Ours is down, be it the disk or the database: another recording could not be stored either.
                raise
            except MusicCloudError as error:
                search.failed(offer, error)
            else:
                search.succeeded(offer)
                return taken
        raise search.error()

    def finish(self, ready: Ready) -> None:
        """After the fact is published: the old file goes to the trash, the record is forgotten."""
        if ready.old is not None:
            self._library.trash(ready.old)
        self._spool.forget(ready.fact.song_id, only_record=ready.clean)

    def retire(self, stored: FileStored) -> None:
        """Another file is the song's now. One in the library goes to the trash; a mounted folder is never touched."""
        if stored.backend == LIBRARY_BACKEND:
            self._library.trash(stored.locator)

    def withdraw(self, ready: Ready) -> None:
        """Another copy stored the song meanwhile: remove our file, of which nobody knows."""
        if ready.created and ready.fact.backend == LIBRARY_BACKEND:
            self._library.remove(ready.fact.locator)
        self._spool.forget(ready.fact.song_id)

    def abandon(self, song_id: int) -> None:
        """The song's job was canceled: keep no part of it. A file that is in its place already stays to be adopted."""
        if not isinstance(self._spool.recall(song_id), Placing):
            self._spool.forget(song_id)

    def _done(self, request: Request, placing: Placing | None) -> Already | None:
        known, mine = request.known, request.mine == LIBRARY_BACKEND
        if request.song.force and not mine:
            return None
        if (
            known is not None
            and is_current(known, request.song, request.choice)
            and self._library.holds(known.locator, known.size)
        ):
            if placing is not None:
                self._settle(known, placing)
            return Already(fact=known, mine=mine)
        return None

    def _settle(self, known: FileStored, placing: Placing) -> None:
        """The fact was published, what comes after it was not done."""
        if placing.fact.sha256 == known.sha256 and placing.old is not None and placing.old != known.locator:
            self._library.trash(placing.old)
        self._spool.forget(known.song_id)

    def _adopt(self, placing: Placing) -> Ready | None:
        locator = self._library.adopt(placing)
        if locator is None:
            return None
        fact = placing.fact.model_copy(update={"locator": locator})
        old = placing.old if placing.old != locator else None
        return Ready(fact=fact, old=old, result={**placing.result, "adopted": "yes"})

    def _take(self, request: Request, offer: Offer, watch: Watch, noted: Noted) -> Already | Ready:
        song, mode, candidate = request.song, request.mode, offer.candidate
        if mode is ImportMode.REFERENCE and candidate.source != REFERENCE_SOURCE:
            mode = ImportMode.REFLINK
        if mode is ImportMode.REFERENCE and isinstance(candidate, FileCandidate):
            return self._refer(request, offer, candidate, watch)
        fetched = self._fetcher.fetch(candidate, song.song_id, mode=mode, noted=_fetch_state(noted), watch=watch)
        try:
            inspected, kind = self._verify(request, offer, fetched, watch)
        except Rejected:
            # The bytes are complete and not wanted: nothing of them can be continued.
            self._spool.forget(song.song_id)
            raise
        result: dict[str, str] = {}
        if fetched.owned:
            fetched, inspected = self._tag(song, fetched, inspected, kind, result)
        return self._place(request, offer, fetched, inspected, result, crashed=isinstance(noted, Torn))

    def _refer(self, request: Request, offer: Offer, candidate: FileCandidate, watch: Watch) -> Already | Ready:
        """The file stays where it is; only the fact is made."""
        song, known, mine = request.song, request.referenced, request.mine == REFERENCE_SOURCE
        try:
            check_locator(candidate.locator)
        except InvalidLocator:
            raise Rejected(
                "The name of this file cannot be passed on as it is. Rename it, or set IMPORT_MODE=copy for a new job.",
                code="locator-invalid",
                remember=False,
            ) from None
        if (
            known is not None
            and known.locator == candidate.locator
            and (mine or not song.force)
            and is_current(known, song, request.choice)
            and _size(candidate) == known.size
        ):
            return Already(fact=known, mine=mine)
        fetched = self._fetcher.fetch(candidate, song.song_id, mode=ImportMode.REFERENCE, noted=None, watch=watch)
        inspected, _ = self._verify(request, offer, fetched, watch)
        fact = _fact(song, offer, fetched, inspected, backend=REFERENCE_SOURCE, locator=candidate.locator, known=known)
        return Ready(fact=fact, created=False)

    def _verify(self, request: Request, offer: Offer, fetched: Fetched, watch: Watch) -> tuple[Inspected, str]:
        song = request.song
        # What a person asked for passes; what was found in its place only now, nobody has asked for.
        wanted = request.choice.match is not None or (song.force and offer.found is None)
        if not wanted and (reason := self._rejects.get(fetched.sha256)) is not None:
            raise Rejected(f"{reason.message} (the same content was refused before)", code=reason.code, remember=False)
        try:
            kind = kind_of(fetched.head)
            inspected = self._inspector.inspect(fetched, kind)
            if self._full and not inspected.pcm and self._inspector.decodes(kind):
                decoded = self._inspector.decode(fetched.path, kind, inspected, watch=watch)
                check_decoded(inspected, decoded)
                seconds = round(decoded.frames / decoded.sample_rate, 3)
                if not inspected.exact_duration:
                    format = inspected.format.model_copy(update={"duration_seconds": seconds})
                    inspected = replace(inspected, format=format)
            if not wanted:
                check_duration(song, inspected.format.duration_seconds, tolerance=self._duration_tolerance)
        except Rejected as rejected:
            if rejected.remember:
                self._rejects.put(fetched.sha256, rejected.reason)
            raise
        return inspected, kind

    def _tag(
        self, song: SongDownload, fetched: Fetched, inspected: Inspected, kind: str, result: dict[str, str]
    ) -> tuple[Fetched, Inspected]:
        """Tags never fail a song: what cannot be tagged is stored as it came."""
        wanted = missing_tags(song, inspected.tags)
        if wanted is None or kind not in TAGGED_KINDS:
            return fetched, inspected
        try:
            tagged = self._tagger.fill(fetched, kind, wanted)
            again = self._inspector.inspect(tagged, kind)
        except (TaggingFailed, Rejected) as error:
            result["tags"] = f"not written ({error})"
            return fetched, inspected
        result["tags"] = "filled from the listing"
        return tagged, replace(inspected, tags=again.tags)

    def _place(
        self,
        request: Request,
        offer: Offer,
        fetched: Fetched,
        inspected: Inspected,
        result: dict[str, str],
        *,
        crashed: bool,
    ) -> Ready:
        song, known = request.song, request.known
        old = known if known is not None and not known.removed else None
        if old is not None and old.sha256 == fetched.sha256 and self._library.holds(old.locator, old.size):
            # The same bytes again: the file stays, only the fact is renewed.
            self._spool.forget(song.song_id)
            fact = _fact(song, offer, fetched, inspected, backend=LIBRARY_BACKEND, locator=old.locator, known=known)
            return Ready(fact=fact, created=False, result={**result, "content": "unchanged"})
        targets = (request.layout or self._layout).targets(song, ext=inspected.format.ext)
        fact = _fact(song, offer, fetched, inspected, backend=LIBRARY_BACKEND, locator=targets[0], known=known)
        placing = Placing(
            cause=request.cause,
            fact=fact,
            path=fetched.path,
            targets=targets,
            inode=fetched.path.stat().st_ino,
            old=old.locator if old else None,
            result=result,
        )
        twin = fetched.sha256 if crashed else None
        self._spool.remember_placing(song.song_id, placing)
        placed = self._library.place(fetched.path, targets, replace=placing.old, twin=twin)
        gone = placing.old if placing.old != placed.locator else None
        if placed.locator != fact.locator:
            fact = fact.model_copy(update={"locator": placed.locator})
        clean = twin is None and fetched.path == self._spool.part(song.song_id)
        return Ready(fact=fact, old=gone, clean=clean, result=result)


def _fact(
    song: SongDownload,
    offer: Offer,
    fetched: Fetched,
    inspected: Inspected,
    *,
    backend: str,
    locator: str,
    known: FileStored | None,
) -> FileStored:
    return FileStored(
        backend=backend,
        song_id=song.song_id,
        # Ids that were adopted are kept; a better file is the same asset.
        asset_id=asset_id(song.song_id, MAIN_VARIANT) if known is None else known.asset_id,
        location_id=None if known is None else known.location_id,
        locator=locator,
        sha256=fetched.sha256,
        size=fetched.size,
        quality_label=quality_label(inspected),
        format=inspected.format,
        tags=inspected.tags,
        import_mode=fetched.import_mode,
        candidate_source=offer.candidate.source,
        candidate_remote_id=offer.remote_id,
        listing_fingerprint=song.fingerprint,
    )


def _fetch_state(noted: Noted) -> FetchState | None:
    return noted if isinstance(noted, FetchState) else None


def _size(candidate: FileCandidate) -> int | None:
    try:
        return candidate.path.stat().st_size
    except OSError:
        return None
