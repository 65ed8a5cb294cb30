"""What all sources behind an API do alike."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from common.contracts.work import SongDownload
from common.errors import PermanentError

from ..playlists.model import Problems, clean_text
from ..port import About, Candidate, Found, Health, HttpCandidate, Playlist, PlaylistRef, SearchQuery, Song
from .client import ApiClient

MAX_SONGS = 20_000
"""Of one list; what is longer is cut, and says so."""
MAX_RESULTS = 50
MAX_QUERY = 200
MAX_PAGES = 400
"""Of one list: a server that never comes to an end is left."""
_BRACKETS = re.compile(r"[(\[（［【「〈《].{0,200}?[)\]）］】」〉》]")
E = TypeVar("E")


class ApiSource(ABC, Generic[E]):
    """Health, and how one song is found again. ``E`` is the server's own entry of a song."""

    name: str
    about: About

    def __init__(self, *, client: ApiClient | None, missing: str = "") -> None:
        """Without ``client`` it is not set up; ``missing`` then says what to set."""
        self._client = client
        self._missing = missing

    def health(self) -> Health:
        """Without asking the server: from what it last answered."""
        if self._client is None:
            return Health(available=False, configured=False, message=self._missing)
        problem = self._client.problem
        return Health(available=problem is None, message=problem or "")

    def resolve(self, song: SongDownload) -> Sequence[Candidate]:
        return self._locate(song.remote_id)

    def refresh(self, remote_id: str) -> Found | None:
        entry = self.entry(remote_id)
        return None if entry is None else self.found(entry)

    def candidates(self, found: Found) -> Sequence[Candidate]:
        return self._locate(found.remote_id)

    @abstractmethod
    def entry(self, remote_id: str) -> E | None:
        """What the server says of one song now; None where it does not have it."""

    @abstractmethod
    def found(self, entry: E) -> Found | None:
        """The entry as a result; None where it may not be downloaded."""

    @abstractmethod
    def places(self, entry: E) -> Sequence[Candidate]:
        """Where the bytes of an entry that may be downloaded are, best first."""

    def _locate(self, remote_id: str) -> Sequence[Candidate]:
        entry = self.entry(remote_id)
        if entry is None or self.found(entry) is None:
            raise PermanentError(
                f"{self.about.title} no longer has this song, or does not let it be downloaded.",
                code="source-file-missing",
            )
        return self.places(entry)

    @property
    def client(self) -> ApiClient:
        """Raises :class:`PermanentError` where the source is not set up."""
        if self._client is None:
            raise PermanentError(self._missing, code="source-not-configured")
        return self._client

    def http_candidate(self, url: str, *, headers: Mapping[str, str] | None = None) -> HttpCandidate:
        return HttpCandidate(
            source=self.name, url=url, headers=headers or {}, allow_private=self.client.allows_private(url)
        )


def song_of(found: Found) -> Song:
    """A song of a list, from what its source says of it."""
    metadata = dict(found.metadata)
    if found.licence is not None:
        metadata["licence"] = {"name": found.licence.name, "url": found.licence.url}
    return Song(
        remote_id=found.remote_id,
        name=found.name,
        singers=found.singers,
        album=found.album,
        duration_seconds=found.duration_seconds,
        ext=found.ext,
        size=found.size,
        metadata_status="complete" if found.singers else "pending",
        metadata=metadata,
    )


class Listing:
    """A list that is being read page by page: bounded, and told when its server repeats itself."""

    def __init__(self, *, limit: int = MAX_SONGS, max_pages: int = MAX_PAGES) -> None:
        self._limit = limit
        self._max_pages = max_pages
        self._songs: list[Song] = []
        self._seen: set[str] = set()
        self._pages = 0
        self._problems = Problems()
        self._withheld = self._refused = 0

    def __len__(self) -> int:
        return len(self._songs)

    def add(self, page: Iterable[Found | None], *, refused: int = 0) -> bool:
        """Take a page; None stands for a song that may not be downloaded.

        False where no other page is to be asked for: this one brought nothing new, or the list is full.
        """
        taken = list(page)
        found = [one for one in taken if one is not None]
        self._pages += 1
        if self._pages > 1 and self._seen.issuperset(one.remote_id for one in found) and len(found) == len(taken):
            return False
        self._refused += refused
        self._withheld += len(taken) - len(found)
        room = self._limit - len(self._songs)
        self._seen.update(one.remote_id for one in found[:room])
        self._songs += map(song_of, found[:room])
        if len(found) > room or self._pages >= self._max_pages:
            self.problem(f"The list goes on after {len(self._songs)} songs; the rest was left out.")
            return False
        return True

    def problem(self, sentence: str) -> None:
        if sentence not in self._problems.sentences():
            self._problems.add(sentence)

    def playlist(self, ref: PlaylistRef, *, description: str | None = None, cover_url: str | None = None) -> Playlist:
        if self._withheld:
            self.problem(f"What may not be downloaded was left out: {self._withheld} of the songs.")
        if self._refused:
            self.problem(f"Malformed entries were left out: {self._refused}.")
        return Playlist(
            ref=ref,
            description=description,
            cover_url=cover_url,
            songs=tuple(self._songs),
            problems=self._problems.sentences(),
        )


def results(found: Iterable[Found | None], *, limit: int) -> tuple[Found, ...]:
    """What a search answers: each once, those that may be downloaded, at most ``limit``."""
    return tuple(_distinct(found))[: max(0, min(limit, MAX_RESULTS))]


def _distinct(found: Iterable[Found | None]) -> Iterator[Found]:
    seen: set[str] = set()
    for one in found:
        if one is not None and one.remote_id not in seen:
            seen.add(one.remote_id)
            yield one


def search_words(
    query: SearchQuery,
    *,
    limit: int,
    ask: Callable[[str], Iterable[Found | None]],
    clean: Callable[[str], str] = str,
    joined: str = " ",
) -> tuple[Found, ...]:
    """Search for the name with the first singer; while that finds nothing, with less of the name, and for it alone.

    ``clean`` makes both fit for the server's query language; ``joined`` stands between them.
    """
    whole = clean_text(query.name, MAX_QUERY) or ""
    name = clean(whole).strip()
    # What stands in brackets names a version or guests, which other servers write in another way.
    bare = clean(_BRACKETS.sub(" ", whole)).strip() or name
    singer = clean((clean_text(query.singers[0], MAX_QUERY) or "") if query.singers else "").strip()
    if not name or limit < 1:
        return ()
    both = [f"{words}{joined}{singer}" for words in (name, bare)] if singer else [name]
    for words in dict.fromkeys((*both, bare)):
        if found := results(ask(words), limit=limit):
            return found
    return ()
