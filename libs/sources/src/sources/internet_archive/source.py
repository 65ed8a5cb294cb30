"""Collections, search and files of the Internet Archive."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from pydantic import Field

from common.errors import ConfigurationError, MusicCloudError, PermanentError, Waiting
from common.settings import Settings, split_list

from ..api.client import ApiClient, make_client
from ..api.fields import Answer, Text, Texts, take
from ..api.source import MAX_RESULTS, ApiSource, Listing, search_words
from ..port import About, Candidate, Found, KnownSongs, Playlist, PlaylistRef, Pool, Progress, SearchQuery
from .items import MAX_FILES, NAME, Item, ItemFile, Track, found_of, tracks_of

RATE = 1.0
"""The archive asks programs to go slowly; its answers are large."""
POOL = "collections"
PAGE = 100
"""The fewest that the scrape API gives."""
SEARCH_ITEMS = 5
"""Items that a search opens to look at their tracks."""
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")
_AUDIO = "mediatype:(audio OR etree)"
_SPECIAL = re.compile(r'["\\]')


def create(settings: Settings) -> InternetArchiveSource:
    """The entry point: the collections that INTERNET_ARCHIVE_COLLECTIONS lists."""
    return InternetArchiveSource(
        client=make_client(
            settings,
            source=NAME,
            base_url=settings.internet_archive_url,
            setting="INTERNET_ARCHIVE_URL",
            rate=RATE,
        ),
        collections=split_list(settings.internet_archive_collections),
        max_items=settings.internet_archive_max_items,
        any_licence=settings.internet_archive_any_licence,
    )


class _Hit(Answer):
    identifier: str = Field(pattern=_IDENTIFIER.pattern + "$")
    title: Text = None
    creator: Texts = ()


class _Docs(Answer):
    docs: list[Any]


class _SearchAnswer(Answer):
    response: _Docs


class _ScrapeAnswer(Answer):
    items: list[Any]
    cursor: str | None = Field(default=None, max_length=4000)


class InternetArchiveSource(ApiSource[Track]):
    """One pool; a playlist for each collection or item that the settings name."""

    name = NAME

    def __init__(self, *, client: ApiClient, collections: Sequence[str], max_items: int, any_licence: bool) -> None:
        """``max_items``: of a collection; ``any_licence``: search also what states no licence.

        Raises :class:`ConfigurationError` for what cannot be an identifier.
        """
        super().__init__(client=client)
        self.about = About(
            title="Internet Archive",
            licence="Each item its own: Creative Commons, public domain, or none stated. Searches find items with a "
            "stated licence only, unless INTERNET_ARCHIVE_ANY_LICENCE=true.",
            rate=client.pace.rate,
            homepage="https://archive.org",
        )
        wrong = next((one for one in collections if not _IDENTIFIER.fullmatch(one)), None)
        if wrong is not None:
            raise ConfigurationError(
                f"INTERNET_ARCHIVE_COLLECTIONS holds {wrong[:80]!r}, which is no identifier. Take the last part of the "
                "address archive.org/details/…."
            )
        # Three ways to ask, each of which opens some items.
        self.patience = 3 * (1 + SEARCH_ITEMS) * client.deadline
        self._collections = tuple(collections)
        self._max_items = max_items
        self._any_licence = any_licence

    def pools(self) -> Iterator[Pool]:
        if self._collections:
            yield Pool(external_id=POOL, name="Internet Archive collections", kind="category")

    def playlists(self, pool_external_id: str, *, progress: Progress) -> Iterator[PlaylistRef]:
        if pool_external_id != POOL:
            raise PermanentError("The Internet Archive source has no such pool.", code="pool-missing")
        for identifier in self._collections:
            # Without asking: an identifier that does not exist is the failure of its own item.
            yield PlaylistRef(remote_id=identifier, name=identifier, url=f"{self.client.base_url}/details/{identifier}")

    def read(self, playlist_remote_id: str, *, known: KnownSongs, progress: Progress) -> Playlist:
        if playlist_remote_id not in self._collections:
            raise PermanentError("This is no longer in INTERNET_ARCHIVE_COLLECTIONS.", code="playlist-missing")
        item = self._item(playlist_remote_id)
        if item is None or item.metadata is None:
            raise PermanentError(
                "The Internet Archive has no collection or item of this identifier.", code="playlist-missing"
            )
        listing = Listing(max_pages=self._max_items + 1)
        if item.metadata.mediatype == "collection":
            self._read_collection(playlist_remote_id, listing, progress)
        else:
            self._add(listing, playlist_remote_id, item)
        ref = PlaylistRef(
            remote_id=playlist_remote_id,
            name=item.metadata.title or playlist_remote_id,
            url=f"{self.client.base_url}/details/{playlist_remote_id}",
        )
        return listing.playlist(ref, description=item.metadata.description)

    def search(self, query: SearchQuery, *, limit: int) -> Sequence[Found]:
        wanted = (query.name or "").casefold()
        opened: set[str] = set()

        def ask(words: str) -> Iterator[Found | None]:
            licensed = "" if self._any_licence else " AND licenseurl:(*creativecommons*)"
            asked = " AND ".join(f'"{part}"' for part in words.split("\t") if part)
            answer = self.client.get(
                _SearchAnswer,
                "/advancedsearch.php",
                [
                    ("q", f"({asked}) AND {_AUDIO}{licensed}"),
                    *(("fl[]", name) for name in ("identifier", "title", "creator")),
                    ("rows", str(SEARCH_ITEMS)),
                    ("page", "1"),
                    ("output", "json"),
                ],
            )
            for hit in take(_Hit, answer.response.docs, limit=SEARCH_ITEMS).entries:
                if hit.identifier in opened:
                    continue  # with other words it had nothing, and it has nothing now
                opened.add(hit.identifier)
                item = self._item(hit.identifier)
                if item is None:
                    continue
                found = [found_of(track) for track in self._tracks(hit.identifier, item)]
                # An item is an album or a whole concert: those tracks of it that could be meant.
                yield from (one for one in found if _may_be(one.name, wanted))

        return search_words(query, limit=min(limit, MAX_RESULTS), ask=ask, clean=_plain, joined="\t")

    def entry(self, remote_id: str) -> Track | None:
        identifier, _, original = remote_id.partition("/")
        item = self._item(identifier) if _IDENTIFIER.fullmatch(identifier) else None
        if item is None:
            return None
        return next((track for track in self._tracks(identifier, item) if track.original == original), None)

    def found(self, entry: Track) -> Found | None:
        return found_of(entry)

    def places(self, entry: Track) -> Sequence[Candidate]:
        path = f"/download/{quote(entry.identifier)}/{quote(entry.file.name)}"
        return (self.http_candidate(self.client.url(path)),)

    def _read_collection(self, identifier: str, listing: Listing, progress: Progress) -> None:
        for number, member in enumerate(self._members(identifier, listing, progress), start=1):
            try:
                item = self._item(member)
            except Waiting:
                raise
            except MusicCloudError as error:
                listing.problem(f"The item {member} was left out: {error.message}")
                if self.client.problem is not None:
                    raise  # it is the archive that fails, not this item
                continue
            progress(number, None)
            if item is not None and not self._add(listing, member, item):
                return

    def _members(self, identifier: str, listing: Listing, progress: Progress) -> Iterator[str]:
        """The items of a collection, each once, up to the limit."""
        seen: set[str] = set()
        cursor: str | None = None
        while True:
            query = [("q", f"collection:{identifier} AND {_AUDIO}"), ("fields", "identifier"), ("count", str(PAGE))]
            page = self.client.get(
                _ScrapeAnswer, "/services/search/v1/scrape", [*query, *([("cursor", cursor)] if cursor else [])]
            )
            progress(len(seen))
            fresh = [hit.identifier for hit in take(_Hit, page.items, limit=PAGE).entries if hit.identifier not in seen]
            for one in dict.fromkeys(fresh):
                if len(seen) >= self._max_items:
                    listing.problem(
                        f"The collection has more than {self._max_items} items; the rest was left out. "
                        "Raise INTERNET_ARCHIVE_MAX_ITEMS to read more."
                    )
                    return
                seen.add(one)
                yield one
            cursor = page.cursor
            if not cursor or not fresh:
                return

    def _item(self, identifier: str) -> Item | None:
        try:
            item = self.client.get(Item, f"/metadata/{quote(identifier)}")
        except PermanentError as error:
            if error.code == "source-file-missing":
                return None
            raise
        return item if item.metadata is not None else None

    def _tracks(self, identifier: str, item: Item) -> Iterator[Track]:
        return tracks_of(identifier, item, take(ItemFile, item.files, limit=MAX_FILES).entries)

    def _add(self, listing: Listing, identifier: str, item: Item) -> bool:
        found = [found_of(track) for track in self._tracks(identifier, item)]
        if not found:
            listing.problem(f"The item {identifier} has no audio that may be downloaded, and was left out.")
            return True
        return listing.add(found)


def _plain(words: str) -> str:
    """Without what would end a quoted phrase of the archive's query language."""
    return _SPECIAL.sub(" ", words).replace("\t", " ")


def _may_be(name: str, wanted: str) -> bool:
    name = name.casefold()
    return wanted in name or name in wanted or bool(set(_words(name)) & set(_words(wanted)))


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"\w+", text) if len(word) > 2 or not word.isascii()]
