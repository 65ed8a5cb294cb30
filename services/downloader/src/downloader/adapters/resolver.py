"""Asking sources where a song's bytes can be had."""

from __future__ import annotations

import concurrent.futures
import contextvars
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import TypeVar

from pydantic import ValidationError, field_validator

from common.contracts.work import SongDownload
from common.errors import DependencyDown, MusicCloudError, PermanentError, TransientError
from common.telemetry import get_logger
from downloader.ports import Waited
from sources.api.fields import Answer, Count, Ext, Flag, Name, Seconds, Text, Texts
from sources.api.pace import QUESTION, Question
from sources.port import Candidate, FileCandidate, Found, HttpCandidate, Licence, Searchable, SearchQuery
from sources.registry import Sources

MAX_RESULTS = 20
"""Search results that are looked at; what is not among the first is not what was asked for."""
MAX_CANDIDATES = 5
"""Places of one recording that are tried."""
MAX_ID = 1000
"""Characters of a remote id; people may choose it by its name."""
MAX_UNANSWERED = 64
"""Questions to one source that wait at once: as many as songs can be in hand."""
MAX_PATIENCE = 3600.0
"""Seconds; a thread and a place among the songs in hand are kept so long."""
T = TypeVar("T")


class SourceDesk:
    """The sources in use. Blocking, as they are; whatever a plug-in does becomes an error of ours.

    What can be searched asks a server or another program, and may never answer: it is asked in a thread of its
    own, which is left alone after ``patience`` seconds, or as many as it says of itself that it may take. Waiting for
    its turn among other questions does not count.
    """

    def __init__(self, sources: Sources, *, patience: float, tell_every: float) -> None:
        """``tell_every``: seconds; who asks is told so often that an answer is waited for."""
        self._sources = sources
        self._patience = {name: max(patience, _patience_of(found)) for name, found in sources.ready.items()}
        self._tell_every = tell_every
        self._searchables = {name: found for name, found in sources.ready.items() if isinstance(found, Searchable)}
        self._slots = {name: threading.Semaphore(MAX_UNANSWERED) for name in self._searchables}

    def own(self, song: SongDownload, *, waited: Waited) -> Sequence[Candidate]:
        """What the song's own source offers, best first. Raises the errors of :mod:`common.errors`."""
        found = self._sources.get(song.source)
        if song.source in self._searchables:
            return self._answer(song.source, lambda: found.resolve(song), waited)
        try:
            return found.resolve(song)
        except MusicCloudError as error:
            # A folder that is gone as a whole (not mounted) is no reason to give up its songs.
            if error.code == "source-file-missing" and not (health := found.health()).available:
                raise DependencyDown(health.message, code="source-unavailable") from None
            raise

    def in_use(self) -> Sequence[str]:
        """All sources in use, in their configured order."""
        return tuple(self._sources.ready)

    def can_search(self, source: str) -> bool:
        """Whether songs of others can be looked for there now. May block."""
        return self._sources.can_search(source)

    def search(self, source: str, query: SearchQuery, *, waited: Waited) -> Sequence[Found]:
        """The first results for ``query``, each of that source, each once, each as it should be."""
        found = self._searchable(source)
        return self._answer(source, lambda: _results(source, found.search(query, limit=MAX_RESULTS)), waited)

    def refresh(self, source: str, remote_id: str, *, waited: Waited) -> Found | None:
        """What the source says of one recording now; None when it no longer has it."""
        asked = self._searchable(source)

        def refreshed() -> Found | None:
            found = asked.refresh(remote_id)
            return next(iter(_results(source, () if found is None else (found,))), None)

        return self._answer(source, refreshed, waited)

    def candidates(self, found: Found, *, waited: Waited) -> Sequence[Candidate]:
        """Where the bytes of a search result can be had, best first."""
        source = self._searchable(found.source)

        def offered() -> list[Candidate]:
            places = islice(source.candidates(found), MAX_CANDIDATES)
            return [
                one for one in places if isinstance(one, FileCandidate | HttpCandidate) and one.source == found.source
            ]

        return self._answer(found.source, offered, waited)

    def _searchable(self, name: str) -> Searchable:
        if (source := self._searchables.get(name)) is not None:
            return source
        self._sources.get(name)  # says what is wrong with one that is not ready
        raise PermanentError(f"The source {name} cannot be searched.", code="source-not-searchable")

    def _answer(self, name: str, ask: Callable[[], T], waited: Waited) -> T:
        """What ``ask`` returns. Raises TransientError where it fails as it should not, or does not end in time."""
        slots = self._slots[name]
        if not slots.acquire(blocking=False):
            raise TransientError(
                f"The source {name} has not answered {MAX_UNANSWERED} questions. Mend or remove it.",
                code="source-silent",
                retry_after=60,
            )
        answer: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            try:
                answer.set_result(ask())
            except BaseException as error:  # told to who asked
                answer.set_exception(error)
            finally:
                slots.release()

        # Not one of a pool: the program may end although it does not.
        context, question = contextvars.copy_context(), Question()
        context.run(QUESTION.set, question)
        threading.Thread(target=context.run, args=(run,), name=f"ask-{name}", daemon=True).start()
        began = time.monotonic()
        while not concurrent.futures.wait((answer,), timeout=self._tell_every).done:
            seconds = time.monotonic() - began
            if seconds - question.waited > self._patience[name]:
                raise TransientError(
                    f"The source {name} did not answer within {self._patience[name]:.0f} seconds.",
                    code="source-silent",
                )
            waited(seconds)
        try:
            return answer.result()
        except MusicCloudError:
            raise
        except Exception as error:  # a plug-in is anybody's
            get_logger().error("a source failed", source=name, exc_info=error)
            raise TransientError(
                f"The source {name} failed when asked ({type(error).__name__}); the log has the details.",
                code="source-failed",
            ) from None


def _patience_of(source: object) -> float:
    """What a source says of itself; 0 where it says nothing that can be meant."""
    seconds = getattr(source, "patience", 0.0)
    return float(seconds) if isinstance(seconds, int | float) and 0 < seconds <= MAX_PATIENCE else 0.0


class _Checked(Answer):
    """What a result must be, whichever plug-in made it: texts without control characters, numbers that are some."""

    name: Name
    singers: Texts = ()
    album: Text = None
    duration_seconds: Seconds = None
    ext: Ext = None
    size: Count = None
    bitrate: Count = None
    lossless: Flag = False

    @field_validator("singers", mode="before")
    @classmethod
    def _listed(cls, singers: object) -> object:
        return list(singers) if isinstance(singers, tuple) else singers


def _results(source: str, found: Iterable[Found]) -> list[Found]:
    """Those of the first results that can be believed to be some of ``source``."""
    kept: dict[str, Found] = {}
    refused = 0
    for result in islice(found, MAX_RESULTS):
        if (checked := _checked(source, result)) is None:
            refused += 1
        else:
            kept.setdefault(checked.remote_id, checked)
    if refused:
        get_logger().warning("malformed search results were left out", source=source, results=refused)
    return list(kept.values())


def _checked(source: str, result: Found) -> Found | None:
    """``result`` with clean values; None where it is not one of ``source``."""
    if not isinstance(result, Found) or result.source != source or not _is_id(result.remote_id):
        return None
    licence = result.licence if isinstance(result.licence, Licence) and isinstance(result.licence.name, str) else None
    try:
        values = _Checked.model_validate(result, from_attributes=True)
    except ValidationError:
        return None
    return replace(result, **dict(values), licence=licence)


def _is_id(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_ID and value.isprintable()
