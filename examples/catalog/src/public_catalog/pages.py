"""The pages. Each is made from one edition from its first query to its last letter."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from public_catalog import catalog
from public_catalog.errors import BadAddress, NotThere
from public_catalog.follow import Follower
from public_catalog.playback import Place, Player, sites
from public_catalog.rendering import Renderer
from public_catalog.shelf import Edition, Shelf
from public_catalog.toplists import groups
from public_catalog.words import Asked, asked

SONGS, PLAYLISTS = 50, 48
"""On one page; the second fills rows of two, three, four and six."""
_FEATURED_TOPLISTS, _FEATURED_PLAYLISTS = 12, 12
_RETRY_SECONDS = "10"

Values = dict[str, Any]
Made = Callable[[Edition, Request], Values]


class Pages:
    """Everything that can be asked for."""

    def __init__(self, *, shelf: Shelf, follower: Follower, renderer: Renderer, player: Player) -> None:
        self._shelf = shelf
        self._follower = follower
        self._renderer = renderer
        self._player = player
        origin = player.origin.url if player.origin else ""
        self._version = hashlib.sha256(f"{renderer.version}\0{origin}".encode()).hexdigest()[:12]

    def router(self) -> APIRouter:
        """The addresses."""
        router = APIRouter()
        for path, template, made in (
            ("/", "home.html", self.home),
            ("/toplists", "toplists.html", self.toplists),
            ("/playlists", "playlists.html", self.playlists),
            ("/playlists/{playlist_id}", "playlist.html", self.playlist),
            ("/songs/{song_id}", "song.html", self.song),
            ("/search", "search.html", self.search),
        ):
            _add(router, path, functools.partial(self._answer, template, made))
        _add(router, "/songs/{song_id}/files/{key}", self.file)
        _add(router, "/about", self.about)
        _add(router, "/healthz", self.health)
        _add(router, "/robots.txt", self.robots)
        _add(router, "/static/{assets}/{name}", self.asset)
        return router

    def home(self, edition: Edition, request: Request) -> Values:
        """What there is, at a glance."""
        with edition.snapshot.pool.lend() as connection:
            popular = catalog.playlists(connection, after=None, limit=_FEATURED_PLAYLISTS)
        return {"toplists": edition.toplists[:_FEATURED_TOPLISTS], "popular": popular}

    def toplists(self, edition: Edition, request: Request) -> Values:
        """All toplists by group."""
        return {"groups": groups(edition.toplists)}

    def playlists(self, edition: Edition, request: Request) -> Values:
        """A page of all playlists."""
        after = request.query_params.get("after")
        with edition.snapshot.pool.lend() as connection:
            return {"page": catalog.playlists(connection, after=after, limit=PLAYLISTS), "first": after is None}

    def playlist(self, edition: Edition, request: Request) -> Values:
        """A playlist and a page of its songs."""
        playlist_id = catalog.number(request.path_params["playlist_id"])
        after = request.query_params.get("after")
        with edition.snapshot.pool.lend() as connection:
            playlist = catalog.playlist(connection, playlist_id)
            page = catalog.entries(connection, playlist_id, after=after, limit=SONGS)
        playable = self._playable([entry.song for entry in page.items if entry.song])
        return {"playlist": playlist, "page": page, "first": after is None, **playable}

    def song(self, edition: Edition, request: Request) -> Values:
        """A song: a player or the reason why not, its files, the playlists it is in."""
        song_id = catalog.number(request.path_params["song_id"])
        listed = edition.search.playlists_of(song_id, limit=12)
        with edition.snapshot.pool.lend() as connection:
            song = catalog.song(connection, song_id)
            playlists = catalog.playlists_by_id(connection, listed)
        playable = self._playable([song])
        reason = None if playable["places"][song_id] else self._player.reason(song)
        return {"song": song, "playlists": playlists, "reason": reason, **playable}

    def search(self, edition: Edition, request: Request) -> Values:
        """Songs and playlists for some words."""
        text = request.query_params.get("q", "")
        only_playlists = request.query_params.get("in") == "playlists"
        after = request.query_params.get("after")
        found = asked(text)
        values: Values = {"text": found.text if found else "", "asked": found, "ready": edition.search.ready}
        values |= {"only_playlists": only_playlists, "first": after is None, "after": None}
        values |= {"songs": [], "playlists": [], "places": {}, "media": []}
        if found is not None:
            values |= self._found(edition, found, after, only_playlists=only_playlists)
        return values

    def _found(self, edition: Edition, found: Asked, after: str | None, *, only_playlists: bool) -> Values:
        searching = edition.search
        try:
            if only_playlists:
                hits = searching.find("playlist", found, after=after, limit=PLAYLISTS)
                with edition.snapshot.pool.lend() as connection:
                    return {"playlists": catalog.playlists_by_id(connection, hits.ids), "after": hits.after}
            songs = searching.find("song", found, after=after, limit=SONGS)
            beside = searching.find("playlist", found, after=None, limit=6).ids if after is None else []
        except ValueError:
            raise BadAddress("No page of these results begins there.") from None
        with edition.snapshot.pool.lend() as connection:
            shown = catalog.songs_by_id(connection, songs.ids)
            playlists = catalog.playlists_by_id(connection, beside)
        return {"songs": shown, "playlists": playlists, "after": songs.after, **self._playable(shown)}

    def file(self, request: Request) -> Response:
        """Where a file plays from, for the next hours: never kept by anybody."""
        with self._shelf.read() as edition:
            if edition is None:
                return self._closed(request)
            song_id = catalog.number(request.path_params["song_id"])
            with edition.snapshot.pool.lend() as connection:
                song = catalog.song(connection, song_id)
        place = self._player.find(song, request.path_params["key"])
        if place is None:
            raise NotThere("This file is not in the catalog any more, or cannot be played here.")
        url = place.public_url
        if url is None:
            assert self._player.origin is not None
            url = self._player.origin.address(place.file)
        headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        return RedirectResponse(url, status_code=302, headers=headers)

    def about(self, request: Request) -> Response:
        """What is shown, since when, and what is not as it should be."""
        with self._shelf.read() as edition:
            if edition is None:
                return self._closed(request)
            return self._renderer.page(
                request,
                "about.html",
                headers={"Cache-Control": "no-cache"},
                edition=edition,
                state=self._follower.state,
                origin=self._player.origin is not None,
            )

    def health(self, request: Request) -> Response:
        """For a supervisor: 200 while there is something to show."""
        edition, state = self._shelf.current, self._follower.state
        shown = edition.snapshot.manifest.snapshot_id if edition else None
        content = {"snapshot_id": shown, "problem": state.problem, "search": bool(edition and edition.search.ready)}
        return JSONResponse(content, 200 if edition else 503, headers={"Cache-Control": "no-store"})

    def robots(self, request: Request) -> Response:
        """Search results and files are not for robots; everything else is."""
        return Response("User-agent: *\nDisallow: /search\nDisallow: /songs/*/files/\n", media_type="text/plain")

    def asset(self, request: Request) -> Response:
        """Style and pictures."""
        found = self._renderer.asset(request.path_params["name"])
        if found is None:
            raise NotThere("There is no such file.")
        return found

    def _answer(self, template: str, made: Made, request: Request) -> Response:
        with self._shelf.read() as edition:
            if edition is None:
                return self._closed(request)
            tag = self._tag(edition)
            headers = {"ETag": tag, "Cache-Control": "public, max-age=60"}
            known = {one.strip() for one in request.headers.get("if-none-match", "").split(",")}
            if tag in known:
                return Response(status_code=304, headers=headers)
            values = made(edition, request)
            media = values.pop("media", ())
            return self._renderer.page(request, template, headers=headers, media=media, edition=edition, **values)

    def _tag(self, edition: Edition) -> str:
        """The same for the same bytes: they follow from the snapshot, the search at hand, and this program."""
        snapshot_id = edition.snapshot.manifest.snapshot_id[7:23]
        return f'W/"{snapshot_id}{"i" if edition.search.ready else "s"}{self._version}"'

    def _playable(self, songs: list[catalog.Song]) -> Values:
        places = {song.song_id: self._player.places(song) for song in songs}
        every: list[Place] = [place for some in places.values() for place in some]
        return {"places": places, "media": sites(every)}

    def _closed(self, request: Request) -> Response:
        headers = {"Retry-After": _RETRY_SECONDS, "Cache-Control": "no-store"}
        return self._renderer.page(
            request, "closed.html", status=503, headers=headers, edition=None, problem=self._follower.state.problem
        )


def _add(router: APIRouter, path: str, answer: Callable[..., Response]) -> None:
    def endpoint(request: Request) -> Response:
        return answer(request)

    router.add_api_route(path, endpoint, methods=["GET", "HEAD"], response_model=None)
