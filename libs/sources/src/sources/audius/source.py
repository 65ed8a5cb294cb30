"""Playlists, artists, search and files of Audius."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from common.errors import PermanentError
from common.settings import Settings, split_list

from ..api.client import ApiClient, make_client
from ..api.fields import licence_of, take
from ..api.source import MAX_RESULTS, MAX_SONGS, ApiSource, Listing, search_words
from ..api.toplists import LENGTH, PREFIX, Toplists
from ..paths import LOSSLESS_EXTENSIONS
from ..port import About, Candidate, Found, KnownSongs, Playlist, PlaylistRef, Pool, Progress, SearchQuery
from .answers import AudiusTrack, Many, One, TrackList, User
from .nodes import APP, Nodes

NAME = "audius"
RATE = 5.0
PAGE = 100
PLAYLISTS, USERS = "playlists", "users"
_TIMES = {"week": "week", "month": "month", "all-time": "allTime"}
_RESERVED = "all rights reserved"


def create(settings: Settings) -> AudiusSource:
    """The entry point: the nodes that AUDIUS_URL lists."""
    return AudiusSource(
        client=make_client(settings, source=NAME, base_url=settings.audius_url, setting="AUDIUS_URL", rate=RATE),
        lists={PLAYLISTS: split_list(settings.audius_playlists), USERS: split_list(settings.audius_users)},
        toplists=Toplists(settings.audius_toplists, setting="AUDIUS_TOPLISTS", source=NAME, title="Audius"),
        streams=settings.audius_streams,
    )


class AudiusSource(ApiSource[AudiusTrack]):
    """A pool of playlists, one of artists, and one for each toplist, as the settings list them."""

    name = NAME

    def __init__(
        self, *, client: ApiClient, lists: dict[str, tuple[str, ...]], toplists: Toplists, streams: bool
    ) -> None:
        """``lists``: ids of playlists and handles of artists, by pool; ``streams``: take those without download."""
        super().__init__(client=client)
        self.about = About(
            title="Audius",
            licence="Each song its own, many with all rights reserved. Only what its artist offers as a download, "
            "unless AUDIUS_STREAMS=true.",
            rate=client.pace.rate,
            homepage="https://audius.co",
        )
        self._lists = lists
        self._toplists = toplists
        self._streams = streams
        self._nodes = Nodes(client)

    def pools(self) -> Iterator[Pool]:
        for pool, name in ((PLAYLISTS, "Audius playlists"), (USERS, "Audius artists")):
            if self._lists[pool]:
                yield Pool(external_id=pool, name=name, kind="user")
        yield from self._toplists.pools()

    def playlists(self, pool_external_id: str, *, progress: Progress) -> Iterator[PlaylistRef]:
        if (toplist := self._toplists.of_pool(pool_external_id)) is not None:
            yield toplist
            return
        wanted = self._lists.get(pool_external_id)
        if not wanted:
            raise PermanentError("The Audius source has no such pool.", code="pool-missing")
        for done, one in enumerate(wanted):
            progress(done, len(wanted))
            try:
                name = self._head(pool_external_id, one)[1]
            except PermanentError:
                name = one  # listed all the same: its own item then says what is wrong
            yield PlaylistRef(remote_id=f"{pool_external_id}/{one}", name=name)

    def read(self, playlist_remote_id: str, *, known: KnownSongs, progress: Progress) -> Playlist:
        if (toplist := self._toplists.find(playlist_remote_id)) is not None:
            return self._read_toplist(toplist, progress)
        kind, _, one = playlist_remote_id.partition("/")
        if one not in self._lists.get(kind, ()):
            raise PermanentError(
                "This list is no longer in AUDIUS_PLAYLISTS, AUDIUS_USERS or AUDIUS_TOPLISTS.",
                code="playlist-missing",
            )
        number, name, description = self._head(kind, one)
        listing = Listing()
        offset, more = 0, True
        while more:
            query = (("limit", str(PAGE)), ("offset", str(offset))) if kind == USERS else ()
            page = self._nodes.get(Many, f"/v1/{kind}/{quote(number, safe='')}/tracks", query).data
            tracks = take(AudiusTrack, page, limit=PAGE if kind == USERS else MAX_SONGS)
            more = listing.add(map(self.found, tracks.entries), refused=tracks.refused + tracks.cut)
            offset += len(page)
            more = more and kind == USERS and len(page) >= PAGE
            progress(len(listing))
        return listing.playlist(PlaylistRef(remote_id=playlist_remote_id, name=name), description=description)

    def _read_toplist(self, ref: PlaylistRef, progress: Progress) -> Playlist:
        time = _TIMES[ref.remote_id.removeprefix(PREFIX)]
        page = self._nodes.get(Many, "/v1/tracks/trending", (("time", time), ("limit", str(LENGTH)))).data
        tracks = take(AudiusTrack, page, limit=LENGTH)
        progress(len(tracks.entries))
        listing = Listing(limit=LENGTH)
        listing.add(map(self.found, tracks.entries), refused=tracks.refused)
        return listing.playlist(ref)

    def search(self, query: SearchQuery, *, limit: int) -> Sequence[Found]:
        def ask(words: str) -> Iterator[Found | None]:
            page = self._nodes.get(Many, "/v1/tracks/search", (("query", words), ("limit", str(MAX_RESULTS)))).data
            return map(self.found, take(AudiusTrack, page, limit=MAX_RESULTS).entries)

        return search_words(query, limit=limit, ask=ask)

    def entry(self, remote_id: str) -> AudiusTrack | None:
        track = self._one(f"/v1/tracks/{quote(remote_id, safe='')}")
        return None if track is None else take(AudiusTrack, [track], limit=1).entries[0]

    def found(self, entry: AudiusTrack) -> Found | None:
        if not entry.gives_file and not (self._streams and entry.gives_stream):
            return None
        ext = (entry.original_ext if entry.gives_file else None) or "mp3"
        free = entry.license is not None and entry.license.lower() != _RESERVED
        extra = {"genre": entry.genre, "date": entry.release_date, "rights": None if free else entry.license}
        return Found(
            source=NAME,
            remote_id=entry.id,
            name=entry.title,
            singers=(entry.user.name,),
            duration_seconds=entry.duration,
            ext=ext,
            lossless=ext in LOSSLESS_EXTENSIONS,
            licence=licence_of(None, entry.license) if free else None,
            metadata={key: value for key, value in extra.items() if value is not None},
        )

    def places(self, entry: AudiusTrack) -> Sequence[Candidate]:
        """What its artist uploaded, its MP3, and the stream of the same."""
        where: list[tuple[str, tuple[tuple[str, str], ...]]] = []
        if entry.gives_file:
            if entry.original_ext is not None:
                where.append(("download", (APP, ("original", "true"))))
            where.append(("download", (APP,)))
        if self._streams and entry.gives_stream:
            where.append(("stream", (APP,)))
        node, track = self._nodes.choose(), quote(entry.id, safe="")
        return tuple(
            self.http_candidate(self.client.url(f"/v1/tracks/{track}/{what}", query, base=node))
            for what, query in where
        )

    def _head(self, kind: str, one: str) -> tuple[str, str, str | None]:
        """The id, name and description of a list."""
        if kind == USERS:
            user = self._one(f"/v1/users/handle/{quote(one, safe='')}")
            if user is not None:
                artist = take(User, [user], limit=1).entries[0]
                return artist.id, artist.name, None
        else:
            found = self._one(f"/v1/playlists/{quote(one, safe='')}")
            if found is not None:
                playlist = take(TrackList, [found], limit=1).entries[0]
                return playlist.id, playlist.playlist_name, playlist.description
        raise PermanentError(f"Audius has no {one[:80]!r} among its {kind}.", code="playlist-missing")

    def _one(self, path: str) -> dict[str, Any] | None:
        try:
            return self._nodes.get(One, path).only
        except PermanentError as error:
            if error.code == "source-file-missing":
                return None
            raise
