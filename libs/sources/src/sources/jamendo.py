"""The source ``jamendo``: music that its artists give away, by the API v3.0 of jamendo.com."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field

from common.errors import PermanentError
from common.settings import Settings, split_list

from .api.client import ApiClient, make_client
from .api.fields import Answer, Count, Flag, Id, Name, Seconds, Text, Url, licence_of, take
from .api.source import MAX_RESULTS, ApiSource, Listing, search_words
from .api.toplists import LENGTH, PREFIX, Toplists
from .port import About, Candidate, Found, KnownSongs, Playlist, PlaylistRef, Pool, Progress, SearchQuery

NAME = "jamendo"
RATE = 2.0
"""35,000 requests a month are free: a large list costs a request per 200 songs."""
PAGE = 200
"""The most that the API gives at once."""
PLAYLISTS, ALBUMS = "playlists", "albums"
_POPULARITY = {"week": "popularity_week", "month": "popularity_month", "all-time": "popularity_total"}
_EXT = {"flac": "flac", "mp32": "mp3", "ogg": "ogg"}
_BAD_CLIENT = frozenset({5, 11})
_BUSY = frozenset({1, 6})
_BUSY_SECONDS = 600.0


def create(settings: Settings) -> JamendoSource:
    """The entry point: with JAMENDO_CLIENT_ID."""
    client = None
    if settings.jamendo_client_id is not None:
        client = make_client(
            settings,
            source=NAME,
            base_url=settings.jamendo_url,
            setting="JAMENDO_URL",
            rate=RATE,
            access_hint="Check JAMENDO_CLIENT_ID.",
        )
    return JamendoSource(
        client=client,
        client_id=settings.jamendo_client_id.get_secret_value() if settings.jamendo_client_id else "",
        audio_format=settings.jamendo_format,
        lists={PLAYLISTS: split_list(settings.jamendo_playlists), ALBUMS: split_list(settings.jamendo_albums)},
        toplists=Toplists(settings.jamendo_toplists, setting="JAMENDO_TOPLISTS", source=NAME, title="Jamendo"),
    )


class _Headers(Answer):
    status: str
    code: int = 0


class _Answer(Answer):
    headers: _Headers
    results: list[Any] = Field(default_factory=list)


class JamendoTrack(Answer):
    id: Id
    name: Name
    duration: Seconds = None
    artist_name: Text = None
    album_name: Text = None
    license_ccurl: Url = None
    audiodownload: Url = None
    audiodownload_allowed: Flag = False
    position: Count = None
    releasedate: Text = None
    shareurl: Url = None


class _List(Answer):
    """A playlist or album; of an album the artist stands above its tracks."""

    id: Id
    name: Name
    artist_name: Text = None
    image: Url = None
    tracks: list[Any] = Field(default_factory=list)


class JamendoSource(ApiSource[JamendoTrack]):
    """A pool of playlists, one of albums, and one for each toplist, as the settings list them."""

    name = NAME

    def __init__(
        self,
        *,
        client: ApiClient | None,
        client_id: str,
        audio_format: str,
        lists: dict[str, tuple[str, ...]],
        toplists: Toplists,
    ) -> None:
        """``lists``: the ids to collect, by pool."""
        super().__init__(
            client=client,
            missing="No client id is set. Make one at devportal.jamendo.com, and set JAMENDO_CLIENT_ID.",
        )
        self.about = About(
            title="Jamendo",
            licence="Creative Commons, each song its own; most forbid commercial use. Only what its artist lets be "
            "downloaded.",
            rate=client.pace.rate if client else RATE,
            homepage="https://www.jamendo.com",
        )
        self._client_id = client_id
        self._format = audio_format
        self._lists = lists
        self._toplists = toplists

    def pools(self) -> Iterator[Pool]:
        if self._client is None:
            return
        for pool, name in ((PLAYLISTS, "Jamendo playlists"), (ALBUMS, "Jamendo albums")):
            if self._lists[pool]:
                yield Pool(external_id=pool, name=name, kind="user" if pool == PLAYLISTS else "category")
        yield from self._toplists.pools()

    def playlists(self, pool_external_id: str, *, progress: Progress) -> Iterator[PlaylistRef]:
        if (toplist := self._toplists.of_pool(pool_external_id)) is not None:
            yield toplist
            return
        wanted = self._lists.get(pool_external_id)
        if not wanted or self._client is None:
            raise PermanentError("The Jamendo source has no such pool.", code="pool-missing")
        for place in range(0, len(wanted), 50):
            some = wanted[place : place + 50]
            # One id per parameter would be an address too long for some servers; + between them is documented.
            answer = self._ask(f"/{pool_external_id}/", ("id", " ".join(some)), ("limit", str(PAGE)))
            names = {one.id: one.name for one in take(_List, answer, limit=PAGE).entries}
            progress(place + len(some), len(wanted))
            for one in some:
                yield PlaylistRef(remote_id=f"{pool_external_id}/{one}", name=names.get(one, f"Jamendo {one}"))

    def read(self, playlist_remote_id: str, *, known: KnownSongs, progress: Progress) -> Playlist:
        if (toplist := self._toplists.find(playlist_remote_id)) is not None:
            return self._read_toplist(toplist, progress)
        kind, _, number = playlist_remote_id.partition("/")
        if number not in self._lists.get(kind, ()):
            raise PermanentError(
                "This list is no longer in JAMENDO_PLAYLISTS, JAMENDO_ALBUMS or JAMENDO_TOPLISTS.",
                code="playlist-missing",
            )
        listing = Listing()
        head: _List | None = None
        offset, more = 0, True
        while more:
            asked = ("id", number), ("limit", str(PAGE)), ("offset", str(offset)), ("track_type", _TYPES)
            answer = self._ask(f"/{kind}/tracks/", *asked)
            page = next(iter(take(_List, answer, limit=1).entries), None)
            if page is None:
                break
            head = head or page
            offset += len(page.tracks)
            tracks = take(JamendoTrack, page.tracks, limit=PAGE)
            above = {} if kind == PLAYLISTS else {"artist_name": head.artist_name, "album_name": head.name}
            more = (
                listing.add(
                    (_found(track.model_copy(update=above), self._format) for track in tracks.entries),
                    refused=tracks.refused + tracks.cut,
                )
                and len(page.tracks) >= PAGE
            )
            progress(len(listing))
        if head is None:
            raise PermanentError("Jamendo no longer has this list.", code="playlist-missing")
        return listing.playlist(PlaylistRef(remote_id=playlist_remote_id, name=head.name), cover_url=head.image)

    def _read_toplist(self, ref: PlaylistRef, progress: Progress) -> Playlist:
        order = ("order", _POPULARITY[ref.remote_id.removeprefix(PREFIX)])
        answer = self._ask("/tracks/", order, ("limit", str(LENGTH)), ("type", _TYPES))
        tracks = take(JamendoTrack, answer, limit=LENGTH)
        progress(len(tracks.entries))
        listing = Listing(limit=LENGTH)
        listing.add((_found(track, self._format) for track in tracks.entries), refused=tracks.refused)
        return listing.playlist(ref)

    def search(self, query: SearchQuery, *, limit: int) -> Sequence[Found]:
        def ask(words: str) -> Iterator[Found | None]:
            answer = self._ask(
                "/tracks/",
                ("search", words),
                ("limit", str(min(limit, MAX_RESULTS))),
                ("type", _TYPES),
                ("audiodlformat", self._format),
            )
            return (_found(track, self._format) for track in take(JamendoTrack, answer, limit=MAX_RESULTS).entries)

        return search_words(query, limit=limit, ask=ask)

    def entry(self, remote_id: str) -> JamendoTrack | None:
        answer = self._ask("/tracks/", ("id", remote_id), ("type", _TYPES), ("audiodlformat", self._format))
        tracks = take(JamendoTrack, answer, limit=PAGE).entries
        return next((track for track in tracks if track.id == remote_id), None)

    def found(self, entry: JamendoTrack) -> Found | None:
        return _found(entry, self._format)

    def places(self, entry: JamendoTrack) -> Sequence[Candidate]:
        return (self.http_candidate(entry.audiodownload),) if entry.audiodownload else ()

    def _ask(self, path: str, *query: tuple[str, str]) -> list[Any]:
        client = self.client
        answer = client.get(_Answer, path, [("client_id", self._client_id), ("format", "json"), *query])
        code = answer.headers.code
        if answer.headers.status == "success" and code == 0:
            return answer.results
        if code in _BUSY:
            raise client.busy(
                "Jamendo cannot answer now, or has answered as often as it does in a month.", seconds=_BUSY_SECONDS
            )
        if code in _BAD_CLIENT:
            refused = client.refused()
            client.noted(refused)
            raise refused
        raise PermanentError(f"Jamendo refuses the request (its error {code}).", code="api-error")


_TYPES = "single albumtrack"
"""Left to itself the API leaves out songs that belong to no album."""


def _found(track: JamendoTrack, audio_format: str) -> Found | None:
    if not track.audiodownload_allowed:
        return None
    extra = {"track": track.position, "date": track.releasedate, "url": track.shareurl}
    return Found(
        source=NAME,
        remote_id=track.id,
        name=track.name,
        singers=(track.artist_name,) if track.artist_name else (),
        album=track.album_name,
        duration_seconds=track.duration,
        ext=_EXT[audio_format],
        lossless=audio_format == "flac",
        licence=licence_of(track.license_ccurl),
        metadata={key: value for key, value in extra.items() if value is not None},
    )
