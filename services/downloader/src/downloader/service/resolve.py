"""Where a song's bytes may be had: its own source first, then the others as experience orders them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from common.contracts.status import Reason
from common.contracts.work import SongDownload
from common.errors import DependencyDown, MusicCloudError, PermanentError, TransientError, Unreachable, Waiting
from downloader.errors import Stopped
from downloader.ports import Asked, Choice, Judged, Matches, Searched, SourceAccess, Statistics
from downloader.service.matching import Match, Matcher, Verdict
from downloader.service.troubles import OF_SOURCE, most_hopeful, retold, unanswered
from sources.api.pace import TurnWaiting
from sources.port import Candidate, Found, SearchQuery

_FINAL = (PermanentError, Unreachable)
"""It will not work later either, as far as one can tell."""
MAX_KEPT = 20
"""Search results that are kept for a person to choose from."""
MAX_TRIED = 5
"""Accepted results of one source whose bytes are fetched: when none of them is the song, more will not be."""
MAX_HELD = 3600.0
"""Seconds that a song waits for the server of another source when all the rest is settled; then a later job asks it."""
FRESH_SECONDS = 86_400.0
"""So long an answer holds for further tries of the same job."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """Bytes that may be the song's. ``found``: the search result that led to them; None: its own listing did."""

    candidate: Candidate
    found: Found | None = None

    @property
    def remote_id(self) -> str | None:
        """The candidate source's id of the recording, where it is not the song's own."""
        return self.found.remote_id if self.found else None


class Finder:
    """Makes a :class:`Search` for each song. Shared by all threads of a process."""

    def __init__(
        self,
        *,
        sources: SourceAccess,
        statistics: Statistics,
        matches: Matches,
        order: Callable[[], Sequence[str]],
    ) -> None:
        """``order``: DOWNLOAD_SOURCES as it is now; empty: all sources in use."""
        self._sources = sources
        self._statistics = statistics
        self._matches = matches
        self._order = order

    def search(
        self,
        song: SongDownload,
        *,
        choice: Choice,
        only: Sequence[str] = (),
        last_try: bool = True,
        say: Callable[[str], None],
    ) -> Search:
        """``only``: the sources that the song's job allows; empty: the configured ones.

        ``last_try``: what does not work now will not be tried again. ``say``: told what is being done; raises
        Stopped to end it.
        """
        return Search(
            song=song,
            choice=choice,
            listed=tuple(only or self._order() or self._sources.in_use()),
            last_try=last_try,
            say=say,
            sources=self._sources,
            statistics=self._statistics,
            matches=self._matches,
        )


class Search:
    """The search for one song. Take :meth:`offers` one by one, say what became of each, then ask for the error."""

    def __init__(
        self,
        *,
        song: SongDownload,
        choice: Choice,
        listed: Sequence[str],
        last_try: bool,
        say: Callable[[str], None],
        sources: SourceAccess,
        statistics: Statistics,
        matches: Matches,
    ) -> None:
        self._song = song
        self._choice = choice
        self._listed = listed
        self._last_try = last_try
        self._say = say
        self._sources = sources
        self._statistics = statistics
        self._matches = matches
        self._own: list[MusicCloudError] = []
        self._others: list[tuple[str, MusicCloudError]] = []
        self._doing = f"asking {song.source}"
        self._before: dict[str, Asked] = {}
        self._answered: set[str] = set()
        self._found_before: Sequence[Found] = ()
        self._waits_since: dict[str, float] = {}
        self._asked: dict[str, Asked] = {}
        self._judged: list[tuple[Found, Match, bool]] = []

    def offers(self) -> Iterator[Offer]:
        """What to try, best first. One that worked ends it; see :meth:`succeeded` and :meth:`failed`."""
        if self._choice.match is not None:
            # A person chose this recording: never another one in its place.
            yield from self._chosen(*self._choice.match)
            return
        yield from self._from_listing()
        if self._may_work_later():
            return
        yield from self._from_searches()
        yield from self._doubtful()

    def succeeded(self, offer: Offer) -> None:
        """The bytes of ``offer`` were the song's."""
        if offer.found is not None:
            self._verified(offer.found.source, passed=True)

    def failed(self, offer: Offer, error: MusicCloudError) -> None:
        """The bytes of ``offer`` could not be had, or were not the song's."""
        if offer.found is None:
            self._own.append(error)
        else:
            self._trouble(offer.found.source, error)

    def error(self) -> MusicCloudError:
        """Why the song could not be had, and what may be done about it."""
        first = most_hopeful([*self._own, *(error for _, error in self._others)])
        waits = isinstance(first, DependencyDown | Waiting) or (
            isinstance(first, TransientError) and not self._last_try
        )
        if waits or not self._asked:
            return first
        # That it was not found speaks of those who answered; the type says whether others may have it later.
        own = most_hopeful(self._own)
        words, code = [own.message], own.code
        reviewable = sum(match.verdict is Verdict.REVIEW and not banned for _, match, banned in self._judged)
        if reviewable:
            code = "match-doubtful"
            words.append(
                f"{reviewable} recording{'s' if reviewable > 1 else ''} elsewhere may be it. "
                "Choose one on the song's page."
            )
        elif lacking := [asked.source for asked in self._asked.values() if not asked.accepted and not asked.problem]:
            words.append(f"It was not found at {', '.join(lacking)} either.")
        words += [f"{source}: {message}" for source, message in self._troubles().items() if message not in words]
        return retold(first, " ".join(words), code=code)

    def _troubles(self) -> dict[str, str]:
        """What was wrong at each other source that may have it, or that did not answer."""
        return {source: error.message for source, error in reversed(self._others)}

    def _chosen(self, source: str, remote_id: str) -> Iterator[Offer]:
        if (source, remote_id) == (self._song.source, self._song.remote_id):
            yield from self._from_listing(banned=False)
            return
        self._doing = f"asking {source}"
        self._say(self._doing)
        try:
            found = self._sources.refresh(source, remote_id, waited=self._waited)
            candidates = self._sources.candidates(found, waited=self._waited) if found is not None else ()
        except Stopped:
            raise
        except MusicCloudError as error:
            self._own.append(self._of_another(source, error))
            return
        if found is None or not candidates:
            self._own.append(
                PermanentError(
                    f"{source} no longer has the recording that was chosen for this song. Choose another one.",
                    code="match-gone",
                )
            )
            return
        # Whatever the source calls it by now: it is the one that was chosen.
        found = replace(found, remote_id=remote_id)
        for candidate in candidates:
            yield Offer(candidate=candidate, found=found)

    def _from_listing(self, *, banned: bool = True) -> Iterator[Offer]:
        song = self._song
        if song.source not in self._listed:
            return
        if banned and (song.source, song.remote_id) in self._choice.banned:
            self._own.append(
                PermanentError("A person said that this file is not the song.", code="match-banned"),
            )
            return
        try:
            candidates = self._sources.own(song, waited=self._waited)
        except Stopped:
            raise
        except MusicCloudError as error:
            self._own.append(unanswered(error) if error.code in OF_SOURCE else error)
            return
        for candidate in candidates:
            yield Offer(candidate=candidate)

    def _may_work_later(self) -> bool:
        """Whether to wait for the song's own source rather than to look elsewhere."""
        hopeful = [error for error in self._own if not isinstance(error, _FINAL)]
        if any(isinstance(error, DependencyDown | Waiting) for error in hopeful):
            return True
        return bool(hopeful) and not self._last_try

    def _from_searches(self) -> Iterator[Offer]:
        song = self._song
        others = [name for name in self._listed if name != song.source and self._sources.can_search(name)]
        order = list(self._statistics.order(song.source, others)) if others else []
        if song.source in self._listed and self._sources.can_search(song.source):
            order.insert(0, (song.source, "The song's own source comes first."))
        self._recall(self._matches.last(song.song_id, job_id=song.job_id))
        for number, (source, why) in enumerate(order, 1):
            self._doing = f"resolving source {source} ({number}/{len(order)})"
            self._say(self._doing)
            refused = len(self._others)
            accepted = self._accepted(source, why)
            for found in accepted[:MAX_TRIED]:
                yield from self._offers_of(found)
            errors = [error for _, error in self._others[refused:]]
            if accepted and any(isinstance(error, PermanentError) for error in errors):
                self._verified(source, passed=False)
                if all(isinstance(error, PermanentError) for error in errors):
                    self._asked[source] = replace(self._asked[source], refused=errors[-1].message)
                    self._keep()

    def _recall(self, last: Searched) -> None:
        """Take up the last search where it stopped; one that came to its end is done anew."""
        self._before = {asked.source: asked for asked in last.asked}
        if all(asked.settled for asked in last.asked):
            return
        now = time.time()
        self._answered = {asked.source for asked in last.asked if asked.settled and 0 <= now - asked.at < FRESH_SECONDS}
        self._found_before = last.found

    def _again(self, source: str) -> bool:
        """Whether an earlier try of this job had the answer of ``source`` already, and nothing can come of it."""
        if source not in self._answered:
            return False
        before = self._before[source]
        kept = [found for found in self._found_before if found.source == source]
        judged, fit = self._judge(kept)
        if fit and before.refused is None:
            return False  # what was banned then is allowed now
        self._judged += judged
        if before.refused is not None:
            self._others.append((source, PermanentError(before.refused)))
        self._asked[source] = before
        self._keep()
        return True

    def _accepted(self, source: str, why: str) -> list[Found]:
        if self._again(source):
            return []
        song = self._song
        query = SearchQuery(
            name=song.name, singers=song.singers, album=song.album, duration_seconds=song.duration_seconds
        )
        try:
            results = self._sources.search(source, query, waited=self._waited)
        except Stopped:
            raise
        except MusicCloudError as error:
            # It did not answer: that says nothing of what it has.
            self._trouble(source, unanswered(error))
            self._asked[source] = Asked(source=source, why=why, problem=error.message)
            self._keep()
            return []
        judged, fit = self._judge(results)
        self._judged += judged
        self._count(Asked(source=source, why=why, results=len(results), accepted=len(fit), at=time.time()))
        return fit

    def _judge(self, results: Sequence[Found]) -> tuple[list[tuple[Found, Match, bool]], list[Found]]:
        """Each result with its verdict and whether it is banned; and those that may be taken, best first."""
        matcher = Matcher(self._song)
        judged = [
            (found, matcher.judge(found), (found.source, found.remote_id) in self._choice.banned) for found in results
        ]
        fit = [
            (found, match)
            for found, match, banned in judged
            if match.verdict is Verdict.ACCEPTED and not banned and not self._is_listing(found)
        ]
        return judged, [found for found, _ in sorted(fit, key=lambda pair: pair[1].order)]

    def _is_listing(self, found: Found) -> bool:
        """Whether it is what the song's own listing led to already."""
        return (found.source, found.remote_id) == (self._song.source, self._song.remote_id)

    def _count(self, asked: Asked) -> None:
        """Count a try: once for each song of a job, however often it is tried again, unless the answer is another."""
        source, before = asked.source, self._before.get(asked.source)
        same = before is not None and before.problem is None and bool(before.accepted) is bool(asked.accepted)
        if source != self._song.source and not same:
            self._statistics.record_fallback_result(self._song.source, source, succeeded=bool(asked.accepted))
        self._asked[source] = replace(asked, verified=before.verified) if before is not None and same else asked
        self._keep()

    def _verified(self, source: str, *, passed: bool) -> None:
        """Count what became of an accepted result; of what a person chose no try was counted."""
        asked = self._asked.get(source)
        if asked is None or asked.verified is passed:
            return
        if source != self._song.source and asked.accepted:
            self._statistics.record_verification(self._song.source, source, passed=passed)
        self._asked[source] = replace(asked, verified=passed)
        self._keep()

    def _doubtful(self) -> Iterator[Offer]:
        """The best that the song's own source has, where nothing better was found anywhere."""
        own = [
            (found, match)
            for found, match, banned in self._judged
            if match.verdict is Verdict.REVIEW
            and not banned
            and found.source == self._song.source
            and not self._is_listing(found)
        ]
        if own:
            yield from self._offers_of(min(own, key=lambda pair: pair[1].order)[0])

    def _offers_of(self, found: Found) -> Iterator[Offer]:
        try:
            candidates = self._sources.candidates(found, waited=self._waited)
        except Stopped:
            raise
        except MusicCloudError as error:
            # That it has lost one recording is an answer; all else says nothing of what it has.
            self._trouble(found.source, error if error.code == "source-file-missing" else unanswered(error))
            return
        for candidate in candidates:
            yield Offer(candidate=candidate, found=found)

    def _trouble(self, source: str, error: MusicCloudError) -> None:
        self._others.append((source, self._of_another(source, error)))
        if source in self._waits_since and source in self._asked:
            self._keep()

    def _of_another(self, source: str, error: MusicCloudError) -> MusicCloudError:
        """``error`` of a source that is asked in place of the song's own: it must not hold up all songs of that one,
        nor this one for ever. A turn among other songs comes; what a server asks for need not end."""
        if source == self._song.source:
            return error
        if isinstance(error, DependencyDown):
            return TransientError(error.message, code=error.code, retry_after=error.retry_after)
        if isinstance(error, Waiting) and not isinstance(error, TurnWaiting):
            before, now = self._before.get(source), time.time()
            since = before.waits_since if before is not None and before.waits_since is not None else now
            if now + error.seconds - since > MAX_HELD:
                return Unreachable(error.message, code=error.code)
            self._waits_since[source] = since
        return error

    def _keep(self) -> None:
        best = sorted(self._judged, key=lambda each: (each[1].match_group, -each[1].score))[:MAX_KEPT]
        self._matches.keep(
            self._song.song_id,
            [
                Judged(
                    found=found,
                    verdict="banned" if banned else match.verdict.value,
                    score=match.score,
                    reasons=[Reason(code=finding.code, message=finding.sentence) for finding in match.reasons],
                )
                for found, match, banned in best
            ],
            [replace(asked, waits_since=self._waits_since.get(source)) for source, asked in self._asked.items()],
            job_id=self._song.job_id,
        )

    def _waited(self, seconds: float) -> None:
        self._say(f"{self._doing}, {seconds:.0f} s")
