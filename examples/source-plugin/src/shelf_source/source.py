"""One list, search within it, and the files that it names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from common.errors import PermanentError
from common.settings import Settings, load
from sources.api.client import ApiClient, make_client
from sources.api.fields import Answer, Id, Name, Seconds, Text, Url, licence_of, take
from sources.api.source import MAX_SONGS, ApiSource, Listing, search_words
from sources.paths import AUDIO_EXTENSIONS, extension
from sources.port import About, Candidate, Found, KnownSongs, Playlist, PlaylistRef, Pool, Progress, SearchQuery
from sources.urls import file_name, join

NAME = "shelf"
POOL = LIST = "shelf"
RATE = 2.0
"""Requests a second."""


class ShelfSettings(Settings):
    """Settings of our own begin with ``PLUGIN_``; they stand in the same file as all others."""

    plugin_shelf_url: str = ""


def create(settings: Settings) -> ShelfSource:
    """The entry point. Whatever it raises is shown, and the other sources go on."""
    url = load(ShelfSettings).plugin_shelf_url
    client = make_client(settings, source=NAME, base_url=url, setting="PLUGIN_SHELF_URL", rate=RATE) if url else None
    return ShelfSource(client=client)


class ShelfSong(Answer):
    """One entry as the file writes it. A wrong one is left out, and does not cost the others."""

    id: Id
    title: Name
    artist: Text = None
    seconds: Seconds = None
    url: str
    licence: Url = None


class Shelf(Answer):
    """The file."""

    name: Text = None
    songs: list[Any]


class ShelfSource(ApiSource[ShelfSong]):
    """A pool with one list."""

    name = NAME

    def __init__(self, *, client: ApiClient | None) -> None:
        super().__init__(client=client, missing="No shelf is set. Set PLUGIN_SHELF_URL to the address of its file.")
        self.about = About(title="Shelf", licence="Each song its own, as its file says.", rate=RATE)

    def pools(self) -> Iterator[Pool]:
        if self._client is not None:
            yield Pool(external_id=POOL, name="Shelf", kind="folder")

    def playlists(self, pool_external_id: str, *, progress: Progress) -> Iterator[PlaylistRef]:
        if pool_external_id != POOL:
            raise PermanentError("The shelf has no such pool.", code="pool-missing")
        yield PlaylistRef(remote_id=LIST, name="Shelf")

    def read(self, playlist_remote_id: str, *, known: KnownSongs, progress: Progress) -> Playlist:
        if playlist_remote_id != LIST:
            raise PermanentError("The shelf has no such list.", code="playlist-missing")
        shelf = self._shelf()
        songs = take(ShelfSong, shelf.songs, limit=MAX_SONGS)
        progress(len(songs.entries))
        listing = Listing()
        listing.add(map(self.found, songs.entries), refused=songs.refused + songs.cut)
        return listing.playlist(PlaylistRef(remote_id=LIST, name=shelf.name or "Shelf"))

    def search(self, query: SearchQuery, *, limit: int) -> Sequence[Found]:
        songs = take(ShelfSong, self._shelf().songs, limit=MAX_SONGS).entries

        def ask(words: str) -> Iterator[Found | None]:
            wanted = set(words.casefold().split())
            for song in songs:
                if wanted <= set(f"{song.title} {song.artist or ''}".casefold().split()):
                    yield self.found(song)

        return search_words(query, limit=limit, ask=ask)

    def entry(self, remote_id: str) -> ShelfSong | None:
        songs = take(ShelfSong, self._shelf().songs, limit=MAX_SONGS).entries
        return next((song for song in songs if song.id == remote_id), None)

    def found(self, entry: ShelfSong) -> Found | None:
        ext = extension(file_name(entry.url))
        if ext not in AUDIO_EXTENSIONS:
            return None
        return Found(
            source=NAME,
            remote_id=entry.id,
            name=entry.title,
            singers=(entry.artist,) if entry.artist else (),
            duration_seconds=entry.seconds,
            ext=ext,
            licence=licence_of(entry.licence),
        )

    def places(self, entry: ShelfSong) -> Sequence[Candidate]:
        return (self.http_candidate(join(self.client.base_url, entry.url)),)

    def _shelf(self) -> Shelf:
        return self.client.get(Shelf, "")
