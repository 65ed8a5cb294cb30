"""Playlists, search and files of one Subsonic server (Navidrome, Gonic, Airsonic, supysonic and others)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NoReturn

from common.errors import ConfigurationError, PermanentError, TransientError
from common.settings import Settings, split_list

from ..api.client import ApiClient, make_client
from ..api.fields import take
from ..api.source import MAX_RESULTS, MAX_SONGS, ApiSource, Listing, search_words
from ..paths import LOSSLESS_EXTENSIONS
from ..port import About, Candidate, Found, KnownSongs, Playlist, PlaylistRef, Pool, Progress, SearchQuery
from .access import Access
from .answers import ArtistName, SubsonicAnswer, SubsonicBody, SubsonicPlaylist, SubsonicSong

NAME = "subsonic"
POOL = "playlists"
RATE = 10.0
"""The owner's own server, but often a small one."""
MAX_PLAYLISTS = 10_000
_NOT_FOUND = 70
_NO_TOKENS = frozenset({10, 41, 42})
"""10, a missing parameter: the password, where a server knows of no tokens."""
_REFUSED = frozenset({40, 41, 42, 43, 44, 50})
_HINT = "Check SUBSONIC_USER and SUBSONIC_PASSWORD, and what the user may do there."


def create(settings: Settings) -> SubsonicSource:
    """The entry point: the server at SUBSONIC_URL."""
    if not settings.subsonic_url:
        return SubsonicSource(client=None, access=None)
    if not settings.subsonic_user or settings.subsonic_password is None:
        raise ConfigurationError("SUBSONIC_URL needs SUBSONIC_USER and SUBSONIC_PASSWORD. Set them, or empty it.")
    access = Access(
        user=settings.subsonic_user,
        password=settings.subsonic_password.get_secret_value(),
        kind=settings.subsonic_auth,
    )
    return SubsonicSource(
        client=make_client(
            settings,
            source=NAME,
            base_url=settings.subsonic_url.rstrip("/").removesuffix("/rest"),
            setting="SUBSONIC_URL",
            rate=RATE,
            access_hint=_HINT,
            headers=access.headers,
        ),
        access=access,
        wanted=split_list(settings.subsonic_playlists),
    )


class SubsonicSource(ApiSource[SubsonicSong]):
    """One pool with the playlists that the user sees."""

    name = NAME

    def __init__(self, *, client: ApiClient | None, access: Access | None, wanted: Sequence[str] = ()) -> None:
        """``wanted``: ids or names of playlists; empty for all."""
        super().__init__(
            client=client,
            missing="No server is set. Set SUBSONIC_URL, SUBSONIC_USER and SUBSONIC_PASSWORD to use one.",
        )
        self.about = About(
            title="Subsonic server",
            licence="Music of the server's owner: what may be copied is between you and the owner.",
            rate=client.pace.rate if client else RATE,
        )
        self._access = access
        self._wanted = frozenset(wanted)

    def pools(self) -> Iterator[Pool]:
        if self._client is not None:
            yield Pool(external_id=POOL, name="Subsonic playlists", kind="user")

    def playlists(self, pool_external_id: str, *, progress: Progress) -> Iterator[PlaylistRef]:
        if pool_external_id != POOL:
            raise PermanentError("The Subsonic source has no such pool.", code="pool-missing")
        listed = take(SubsonicPlaylist, self._ask("getPlaylists").playlists.playlist, limit=MAX_PLAYLISTS)
        progress(len(listed.entries))
        for one in listed.entries:
            if not self._wanted or self._wanted & {one.id, one.name}:
                yield PlaylistRef(remote_id=one.id, name=one.name)

    def read(self, playlist_remote_id: str, *, known: KnownSongs, progress: Progress) -> Playlist:
        answer = self._ask("getPlaylist", ("id", playlist_remote_id)).playlist
        if answer is None:
            raise PermanentError("The server no longer has this playlist.", code="playlist-missing")
        playlist = take(SubsonicPlaylist, [answer], limit=1).entries[0]
        entries = take(SubsonicSong, playlist.entry, limit=MAX_SONGS)
        progress(len(entries.entries), len(entries.entries))
        listing = Listing()
        listing.add((_found(song) for song in entries.entries), refused=entries.refused + entries.cut)
        return listing.playlist(
            PlaylistRef(remote_id=playlist_remote_id, name=playlist.name), description=playlist.comment
        )

    def search(self, query: SearchQuery, *, limit: int) -> Sequence[Found]:
        def ask(words: str) -> Iterator[Found | None]:
            answer = self._ask(
                "search3",
                ("query", words),
                ("songCount", str(min(limit, MAX_RESULTS))),
                ("artistCount", "0"),
                ("albumCount", "0"),
            )
            songs = take(SubsonicSong, answer.searchResult3.song, limit=MAX_RESULTS)
            return (_found(song) for song in songs.entries)

        return search_words(query, limit=limit, ask=ask)

    def entry(self, remote_id: str) -> SubsonicSong | None:
        try:
            answer = self._ask("getSong", ("id", remote_id)).song
        except PermanentError as error:
            if error.code == "source-file-missing":
                return None
            raise
        return None if answer is None else take(SubsonicSong, [answer], limit=1).entries[0]

    def found(self, entry: SubsonicSong) -> Found | None:
        return _found(entry)

    def places(self, entry: SubsonicSong) -> Sequence[Candidate]:
        """The file itself; then, for users who may only listen, its stream as it is."""
        client, access = self.client, self._who()
        asked = [*access.query(song=entry.id), ("id", entry.id)]
        return tuple(
            self.http_candidate(client.url(f"/rest/{method}.view", query), headers=access.headers)
            for method, query in (("download", asked), ("stream", [*asked, ("format", "raw")]))
        )

    def _ask(self, method: str, *query: tuple[str, str]) -> SubsonicBody:
        body = self.client.get(SubsonicAnswer, f"/rest/{method}.view", [*self._who().query(), *query]).body
        if body.status != "ok" or body.error is not None:
            self._fail(body.error.code if body.error else 0)
        return body

    def _who(self) -> Access:
        if self._access is None:
            raise PermanentError(self._missing, code="source-not-configured")
        return self._access

    def _fail(self, code: int) -> NoReturn:
        """What an error of the API means for the item. Its message is not repeated: it is anybody's text."""
        error: PermanentError | TransientError
        if code == _NOT_FOUND:
            raise PermanentError("The server does not have it.", code="source-file-missing")
        if code in _NO_TOKENS and self._who().kind == "token":
            error = PermanentError(
                "The server takes no tokens. Set SUBSONIC_AUTH to basic (supysonic) or password, best with https.",
                code="access-refused",
            )
        elif code in _REFUSED:
            error = self.client.refused()
        elif code == 0:
            error = TransientError("The server reports an error of its own. It is asked again later.", code="api-error")
        else:
            error = PermanentError(f"The server refuses the request (Subsonic error {code}).", code="api-error")
        self.client.noted(error)
        raise error


def _found(song: SubsonicSong) -> Found | None:
    if song.isDir or song.isVideo:
        return None
    named = (ArtistName.model_validate(one) for one in song.artists[:50] if isinstance(one, dict))
    several = tuple(dict.fromkeys(artist.name for artist in named if artist.name))
    extra = {"track": song.track, "year": song.year, "genre": song.genre}
    return Found(
        source=NAME,
        remote_id=song.id,
        name=song.title,
        singers=several or ((song.artist,) if song.artist else ()),
        album=song.album,
        duration_seconds=song.duration,
        ext=song.suffix,
        size=song.size,
        bitrate=song.bitRate,
        lossless=song.suffix in LOSSLESS_EXTENSIONS,
        metadata={key: value for key, value in extra.items() if value is not None},
    )
