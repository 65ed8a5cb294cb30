"""Trying a source for real: its lists, a search, and the beginning of a file. For people, with a network."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from common.contracts.work import SongDownload
from common.errors import MusicCloudError, TransientError
from common.settings import Settings, split_list

from .addresses import AddressPolicy
from .http import GuardedHttp, check_status
from .port import (
    Candidate,
    Described,
    FileCandidate,
    Found,
    Playlist,
    PlaylistRef,
    Searchable,
    SearchQuery,
    Song,
    Source,
)

READ_SECONDS = 60.0
"""A list that takes longer to read is well enough for a check."""
STEP_SECONDS = 400.0
"""A source that says nothing for so long is left: more than all tries of the slowest search take."""
SHOWN = 3
BEGINNING = 64 * 1024
"""Bytes of a file that are fetched."""
_THREAD = "source-check"
WORDS = "love"
"""Looked for where no list gave a song and nothing else was named: few collections have none."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that was tried; ``ok`` is None where there was nothing to try."""

    step: str
    ok: bool | None
    message: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came of a source."""

    name: str
    configured: bool
    licence: str | None
    rate: float | None
    steps: tuple[Step, ...]

    @property
    def ok(self) -> bool:
        return all(step.ok is not False for step in self.steps)

    def told(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "ok": self.ok}


class _LongEnough(Exception):
    """The list is being read, which is all we wanted to know."""


class _Nothing:
    def unchanged(self, fingerprints: Mapping[str, str]) -> Mapping[str, Song]:
        return {}


Outcome = tuple[bool | None, str]
"""Whether it went well, as in :class:`Step`, and a sentence."""


@dataclass(kw_only=True)
class _Seen:
    """What a source has told so far."""

    configured: bool = True
    message: str = ""
    licence: str | None = None
    rate: float | None = None
    refs: list[PlaylistRef] = field(default_factory=list)
    songs: list[Song] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)


class Check:
    """Tries one source after another. ``words``: what to look for, instead of a song of its own lists.

    ``patience``: seconds for each step. A source that takes longer is left to itself, and the next one tried.
    """

    def __init__(self, settings: Settings, *, words: str = "", patience: float = STEP_SECONDS) -> None:
        policy = AddressPolicy.from_setting(
            allow_private_addresses=settings.allow_private_addresses,
            allow_private_hosts=split_list(settings.allow_private_hosts),
        )
        self._http = GuardedHttp(policy=policy, stall_timeout=settings.source_timeout_seconds)
        self._words = words
        self._patience = patience

    def run(self, source: Source) -> Report:
        """Try everything that the source offers; what fails is in the report. Raises nothing of the source's."""
        seen = _Seen()
        steps: list[Step] = []
        for name, work in self._steps(source, seen):
            started = time.monotonic()
            outcome = _in_time(work, seconds=self._patience)
            late = f"no answer within {self._patience:g} s; nothing else of this source was tried"
            ok, message = outcome or (False, late)
            if name != "health" or ok is False:
                steps.append(Step(step=name, ok=ok, message=message, seconds=round(time.monotonic() - started, 3)))
            if outcome is None:
                break
        return Report(
            name=source.name,
            configured=seen.configured,
            licence=seen.licence,
            rate=seen.rate,
            steps=tuple(steps),
        )

    def _steps(self, source: Source, seen: _Seen) -> Iterator[tuple[str, Callable[[], Outcome]]]:
        """What is to be tried, each when those before it have told what it needs."""
        yield "health", lambda: _health(source, seen)
        if not seen.configured:
            yield "settings", lambda: (None, seen.message)
            return
        yield "lists", lambda: _lists(source, seen.refs)
        if seen.refs:
            yield "read", lambda: _read(source, seen.refs[0], seen.songs)
        if isinstance(source, Searchable):
            yield "search", lambda: self._search(source, seen.songs, seen.found)
        if seen.found and isinstance(source, Searchable):
            yield "file", lambda: self._file(source.candidates(seen.found[0]))
        elif seen.songs:
            yield "file", lambda: self._file(source.resolve(_request(source, seen.songs[0])))

    def _search(self, source: Searchable, songs: list[Song], found: list[Found]) -> Outcome:
        query = SearchQuery(name=self._words or WORDS)
        if songs and not self._words:
            query = SearchQuery(name=songs[0].name, singers=songs[0].singers)
        found += source.search(query, limit=10)
        looked = f"looked for {query.name!r}"
        return (True if found else None), f"{looked}: {_names((one.name for one in found), len(found), 'result')}"

    def _file(self, candidates: Iterable[Candidate]) -> Outcome:
        candidate = next(iter(candidates), None)
        if candidate is None:
            return None, "it offers no file"
        if isinstance(candidate, FileCandidate):
            return True, f"{candidate.path.stat().st_size} bytes in the folder"
        with self._http.open(
            candidate.url, headers=candidate.headers, allow_private=candidate.allow_private
        ) as response:
            check_status(response)
            beginning = next(response.stream(BEGINNING), b"")
            kind, length = response.content_type or "no type", response.length
        if not beginning or kind.startswith(("text/", "application/json", "application/xml")):
            return False, f"the server sends no music but {kind}"
        size = f"{length} bytes" if length is not None else "of unknown length"
        return True, f"{kind}, {size}"


def _health(source: Source, seen: _Seen) -> Outcome:
    about = source.about if isinstance(source, Described) else None
    if about is not None:
        seen.licence = str(about.licence)
        seen.rate = None if about.rate is None else float(about.rate)
    health = source.health()
    seen.configured, seen.message = bool(health.configured), str(health.message)
    return True, ""


def _lists(source: Source, refs: list[PlaylistRef]) -> Outcome:
    pools = list(islice(source.pools(), 100))
    for pool in pools:
        refs += islice(source.playlists(pool.external_id, progress=_patient()), 1000)
    if not pools:
        return None, "no lists are set; it can be searched only"
    return (True if refs else None), _names((ref.name for ref in refs), len(refs), "list")


def _read(source: Source, ref: PlaylistRef, songs: list[Song]) -> Outcome:
    try:
        playlist: Playlist = source.read(ref.remote_id, known=_Nothing(), progress=_patient())
    except _LongEnough as so_far:
        return True, f"{ref.name!r} is long: {so_far} read after {READ_SECONDS:.0f} s"
    songs += playlist.songs
    problems = f"; {playlist.problems[0]}" if playlist.problems else ""
    return (
        True if songs else None
    ), f"{playlist.ref.name!r} has {_names((s.name for s in songs), len(songs), 'song')}{problems}"


def _patient() -> Callable[..., None]:
    end = time.monotonic() + READ_SECONDS

    def progress(done: int, total: int | None = None) -> None:
        if time.monotonic() > end:
            raise _LongEnough(done)

    return progress


def _in_time(work: Callable[[], Outcome], *, seconds: float) -> Outcome | None:
    """What came of ``work``; None where it has not ended by then, and goes on in a thread that nobody waits for."""
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(_tried(work)), name=_THREAD, daemon=True)
    thread.start()
    thread.join(seconds)
    return outcomes[0] if outcomes else None


def left_behind() -> bool:
    """Whether a source that did not answer in time is still at it."""
    return any(thread.name == _THREAD for thread in threading.enumerate())


def _tried(work: Callable[[], Outcome]) -> Outcome:
    try:
        return work()
    except MusicCloudError as error:
        again = " It may work later." if isinstance(error, TransientError) else ""
        return False, f"{error.message} [{error.code}]{again}"
    except _LongEnough:
        return True, f"still going on after {READ_SECONDS:.0f} s"
    except (Exception, SystemExit) as error:  # a plug-in is anybody's, and the others are to be tried too
        return False, f"it failed in an unexpected way ({type(error).__name__}: {error})"[:300]


def _request(source: Source, song: Song) -> SongDownload:
    return SongDownload(
        job_id=1, source=source.name, song_id=1, remote_id=song.remote_id, name=song.name, singers=song.singers
    )


def _names(names: Iterable[str], count: int, what: str) -> str:
    if not count:
        return f"no {what}"
    shown = ", ".join(islice(names, SHOWN))
    return f"{count} {what}{'s' if count != 1 else ''}: {shown}{', …' if count > SHOWN else ''}"
