"""The APIs of the sources on loopback, answering as their documentation says, or misbehaving as they are told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import entry_points
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from common.settings import Settings
from sources.port import Playlist, Searchable, Song, Source
from sources.registry import GROUP, load_sources
from tests.support.tagged import wav_bytes

MUSIC = wav_bytes()
Query = dict[str, list[str]]
DRIP = 8
POINTS = tuple(entry_points(group=GROUP))
"""Looked for once: a test makes its source many times over."""


@dataclass
class Reply:
    """How one request is answered. ``drip``: seconds between a few bytes; ``stall``: nothing comes at all."""

    body: bytes = b"{}"
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    announce: int | None = None
    stall: bool = False
    drip: float = 0.0


def as_json(answer: object, status: int = 200) -> Reply:
    return Reply(body=json.dumps(answer).encode(), status=status)


MISSING = Reply(body=b"not found", status=404, content_type="text/plain")


class Api:
    """``songs``: the entries of its one list, in its own words. ``raw`` answers everything else instead.

    ``endless``: lists go on for ever; ``repeating``: with the same page.
    """

    NAME: ClassVar[str]
    LIST: ClassVar[str]
    """remote id of the list that the settings name"""

    def __init__(self) -> None:
        self.raw: Reply | None = None
        self.endless = self.repeating = False
        self.seen: list[tuple[str, Query, dict[str, str]]] = []
        self.stopping = threading.Event()
        self._served = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                outer._answer(self)

            def log_message(self, format: str, *args: object) -> None:
                return

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                return  # clients that hang up are what is tested

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.songs: list[Any] = [self.entry(number) for number in range(1, 4)]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def entry(self, number: int, **changes: Any) -> Any:
        """A song of the list that may be downloaded."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """The settings that a person would make."""
        raise NotImplementedError

    def answer(self, path: str, query: Query) -> Reply:
        raise NotImplementedError

    def withheld(self, number: int) -> Any:
        """A song that may not be downloaded."""
        raise NotImplementedError

    def source(self, **changes: Any) -> Any:
        """The source, as the services load it."""
        settings = Settings(
            sources=self.NAME,
            stall_seconds=10,
            **{"source_timeout_seconds": 5.0, "source_rates": f"{self.NAME}=1000", **self.settings(), **changes},
        )
        source = load_sources(settings, points=POINTS).ready[self.NAME]
        assert isinstance(source, Searchable)
        return source

    def page(self, size: int, offset: int) -> list[Any]:
        """A page of the list."""
        if self.repeating:
            return [self.entry(number) for number in range(1, size + 1)]
        if self.endless:
            self._served += size
            return [self.entry(self._served + number) for number in range(size)]
        return self.songs[offset : offset + size]

    @property
    def api_requests(self) -> int:
        return len(self.seen)

    def close(self) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        self.seen.append((unquote(parts.path), query, dict(handler.headers)))
        reply = self.raw or self.answer(parts.path, query)
        if reply.stall:
            self.stopping.wait(30)
            return
        handler.send_response(reply.status)
        handler.send_header("Content-Type", reply.content_type)
        handler.send_header("Content-Length", str(len(reply.body) if reply.announce is None else reply.announce))
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if not reply.drip:
            handler.wfile.write(reply.body)
            return
        for place in range(0, len(reply.body), DRIP):
            handler.wfile.write(reply.body[place : place + DRIP])
            if self.stopping.wait(reply.drip):
                return


def first(query: Query, name: str, default: str = "") -> str:
    return query.get(name, [default])[0]


class SubsonicApi(Api):
    """Subsonic 1.16: answers in ``subsonic-response``, errors with status 200."""

    NAME, LIST = "subsonic", "pl-1"
    error: int | None = None

    def entry(self, number: int, **changes: Any) -> Any:
        song = {
            "id": f"tr-{number}",
            "parent": "al-1",
            "isDir": False,
            "title": f"Song {number}",
            "album": "The Album",
            "artist": "The Artist",
            "track": number,
            "year": 2001,
            "genre": "Folk",
            "size": len(MUSIC),
            "contentType": "audio/x-wav",
            "suffix": "wav",
            "duration": 1,
            "bitRate": 1411,
            "path": "The Artist/The Album/x.wav",
            "isVideo": False,
            "type": "music",
        }
        return {**song, **changes}

    def withheld(self, number: int) -> Any:
        return self.entry(number, isVideo=True)

    def settings(self) -> dict[str, Any]:
        return {"subsonic_url": self.url, "subsonic_user": "ana", "subsonic_password": "sesame-geheim"}

    def answer(self, path: str, query: Query) -> Reply:
        def ok(**parts: Any) -> Reply:
            return as_json({"subsonic-response": {"status": "ok", "version": "1.16.1", **parts}})

        def failed(code: int) -> Reply:
            error = {"code": code, "message": "secret words of the server"}
            return as_json({"subsonic-response": {"status": "failed", "version": "1.16.1", "error": error}})

        if self.error is not None:
            return failed(self.error)
        playlist = {"id": "pl-1", "name": "Evening", "comment": "for later", "songCount": 3, "owner": "ana"}
        match path.removeprefix("/rest/").removesuffix(".view"):
            case "getPlaylists":
                return ok(playlists={"playlist": [playlist, {**playlist, "id": "pl-2", "name": "Morning"}]})
            case "getPlaylist":
                if first(query, "id") != "pl-1":
                    return failed(70)
                return ok(playlist={**playlist, "entry": self.page(25_000 if self.endless else 1_000_000, 0)})
            case "search3":
                return ok(searchResult3={"song": self.songs})
            case "getSong":
                songs = [one for one in self.songs if isinstance(one, dict) and one.get("id") == first(query, "id")]
                return ok(song=songs[0]) if songs else failed(70)
            case "download" | "stream":
                return Reply(body=MUSIC, content_type="audio/x-wav")
        return MISSING


class JamendoApi(Api):
    """Jamendo v3.0: ``headers`` with a code, ``results``."""

    NAME, LIST = "jamendo", "playlists/900"
    code = 0

    def entry(self, number: int, **changes: Any) -> Any:
        track = {
            "id": str(number),
            "name": f"Song {number}",
            "duration": 180 + number % 100,
            "artist_id": "7",
            "artist_name": "The Artist",
            "artist_idstr": "the.artist",
            "album_name": "The Album",
            "album_id": "70",
            "license_ccurl": "http://creativecommons.org/licenses/by-nc-sa/3.0/",
            "position": 1,
            "releasedate": "2012-02-03",
            "audio": f"{self.url}/stream/{number}",
            "audiodownload": f"{self.url}/download/track/{number}/flac/",
            "shareurl": f"https://www.jamendo.com/track/{number}",
            "audiodownload_allowed": True,
        }
        return {**track, **changes}

    def withheld(self, number: int) -> Any:
        return self.entry(number, audiodownload_allowed=False, audiodownload="")

    def settings(self) -> dict[str, Any]:
        return {
            "jamendo_url": self.url + "/v3.0",
            "jamendo_client_id": "b6747d04",
            "jamendo_playlists": "900",
            "jamendo_albums": "70",
            "jamendo_toplists": "week",
        }

    def answer(self, path: str, query: Query) -> Reply:
        if path.startswith("/download/track/"):
            return Reply(body=MUSIC, content_type="audio/flac")

        def ok(results: list[Any]) -> Reply:
            good = {"status": "success", "code": 0, "error_message": "", "warnings": "", "results_count": len(results)}
            return as_json({"headers": good, "results": results})

        if self.code or first(query, "client_id") != "b6747d04":
            bad = {"status": "failed", "code": self.code or 5, "error_message": "secret words", "warnings": ""}
            return as_json({"headers": bad, "results": []})
        match path.removeprefix("/v3.0"):
            case "/playlists/" | "/albums/":
                return ok([{"id": "900", "name": "Rain"}, {"id": "70", "name": "The Album"}])
            case "/playlists/tracks/":
                page = self.page(200, int(first(query, "offset", "0")))
                return ok([{"id": "900", "name": "Rain", "user_name": "ana", "tracks": page}] if page else [])
            case "/albums/tracks/":
                tracks = [
                    {k: v for k, v in one.items() if k not in ("artist_name", "album_name")} for one in self.songs
                ]
                return ok([{"id": "70", "name": "The Album", "artist_name": "The Artist", "tracks": tracks}])
            case "/tracks/":
                if "id" in query:
                    return ok([one for one in self.songs if isinstance(one, dict) and one["id"] == first(query, "id")])
                return ok(self.songs)
        return MISSING


class AudiusApi(Api):
    """Audius: the list of nodes at the root, and a node in the same place."""

    NAME, LIST = "audius", "users/artist"

    def entry(self, number: int, **changes: Any) -> Any:
        track = {
            "id": f"D7K{number}",
            "title": f"Song {number}",
            "user": {"id": "nlGNe", "name": "The Artist", "handle": "artist"},
            "duration": 180,
            "genre": "Electronic",
            "release_date": "2021-05-05",
            "permalink": f"/artist/song-{number}",
            "license": "Attribution ShareAlike CC BY-SA",
            "is_streamable": True,
            "is_downloadable": True,
            "is_original_available": True,
            "orig_filename": f"song {number}.wav",
            "access": {"stream": True, "download": True},
        }
        return {**track, **changes}

    def withheld(self, number: int) -> Any:
        return self.entry(number, is_downloadable=False)

    def settings(self) -> dict[str, Any]:
        return {
            "audius_url": self.url,
            "audius_users": "artist",
            "audius_playlists": "AxRPz",
            "audius_toplists": "month",
        }

    def answer(self, path: str, query: Query) -> Reply:
        if path == "/":
            return as_json({"data": [self.url]})
        if path.endswith(("/download", "/stream")):
            return Reply(body=MUSIC, content_type="audio/wav")
        match path.removeprefix("/v1"):
            case "/users/handle/artist":
                return as_json({"data": {"id": "nlGNe", "name": "The Artist", "handle": "artist"}})
            case "/users/nlGNe/tracks":
                return as_json({"data": self.page(int(first(query, "limit")), int(first(query, "offset")))})
            case "/playlists/AxRPz":
                return as_json({"data": [{"id": "AxRPz", "playlist_name": "Night", "description": "long roads"}]})
            case "/playlists/AxRPz/tracks" | "/tracks/search" | "/tracks/trending":
                return as_json({"data": self.songs})
            case one if one.startswith("/tracks/"):
                number = one.removeprefix("/tracks/")
                songs = [song for song in self.songs if isinstance(song, dict) and song.get("id") == number]
                return as_json({"data": songs[0]}) if songs else as_json({"code": 404, "error": "not found"}, 404)
        return as_json({"code": 404}, 404)


class ArchiveApi(Api):
    """archive.org: search, scrape, metadata, download. Its songs are the files of the item ``item-1``."""

    NAME, LIST = "internet-archive", "netlabel"
    licence: str | None = "https://creativecommons.org/licenses/by/4.0/"
    restricted = False

    def entry(self, number: int, **changes: Any) -> Any:
        file = {
            "name": f"disc 1/{number:02} Song {number}.flac",
            "source": "original",
            "format": "Flac",
            "title": f"Song {number}",
            "artist": "The Artist",
            "album": "The Album",
            "track": str(number),
            "length": "03:00",
            "size": str(len(MUSIC)),
            "md5": "0" * 32,
        }
        return {**file, **changes}

    def withheld(self, number: int) -> Any:
        return self.entry(number, private="true")

    def settings(self) -> dict[str, Any]:
        return {"internet_archive_url": self.url, "internet_archive_collections": "netlabel,item-1"}

    def answer(self, path: str, query: Query) -> Reply:
        if path.startswith("/download/"):
            return Reply(body=MUSIC, content_type="audio/flac")
        if path == "/advancedsearch.php":
            docs = [{"identifier": "item-1", "title": "The Album", "creator": "The Artist"}]
            return as_json({"responseHeader": {"status": 0}, "response": {"numFound": 1, "start": 0, "docs": docs}})
        if path == "/services/search/v1/scrape":
            if self.endless or self.repeating:
                self._served += 0 if self.repeating else 100
                items = [{"identifier": f"item-{self._served + number}"} for number in range(1, 101)]
                return as_json({"items": items, "count": 100, "total": 10**6, "cursor": f"W3{self._served}"})
            return as_json({"items": [{"identifier": "item-1"}], "count": 1, "total": 1})
        identifier = unquote(path.removeprefix("/metadata/"))
        if identifier == "netlabel":
            return as_json({"metadata": {"identifier": identifier, "mediatype": "collection", "title": "A Netlabel"}})
        if identifier.startswith("item-"):
            about: dict[str, Any] = {
                "identifier": identifier,
                "mediatype": "audio",
                "title": "The Album",
                "creator": ["The Artist"],
            }
            if self.licence:
                about["licenseurl"] = self.licence
            if self.restricted:
                about["access-restricted-item"] = "true"
            thumbs = {"name": "__ia_thumb.jpg", "source": "original", "format": "Item Tile"}
            return as_json({"created": 1, "metadata": about, "files": [*self.songs, thumbs]})
        return as_json({})


class CommonsApi(Api):
    """MediaWiki, ``formatversion=2``."""

    NAME, LIST = "wikimedia-commons", "Category:Audio files of songs"

    def entry(self, number: int, **changes: Any) -> Any:
        about = {
            "LicenseShortName": {"value": "CC BY-SA 4.0", "source": "commons-desc-page"},
            "LicenseUrl": {"value": "https://creativecommons.org/licenses/by-sa/4.0"},
            "Artist": {"value": '<a href="//commons.wikimedia.org/wiki/User:A" title="x">The&nbsp;Artist</a>'},
            "ObjectName": {"value": f"Song {number}"},
        }
        url = f"{self.url}/wikipedia/commons/{number}/Song.flac"
        details = {"size": len(MUSIC), "width": 0, "height": 0, "duration": 180.5, "url": url, "mime": "audio/flac"}
        page = {
            "pageid": number,
            "ns": 6,
            "title": f"File:Song {number}.flac",
            "index": number,
            "imagerepository": "local",
            "imageinfo": [{**details, "extmetadata": about}],
        }
        return {**page, **changes}

    def withheld(self, number: int) -> Any:
        page = self.entry(number)
        del page["imageinfo"][0]["extmetadata"]["LicenseShortName"]
        return page

    def settings(self) -> dict[str, Any]:
        return {
            "wikimedia_commons_url": self.url + "/w/api.php",
            "wikimedia_commons_categories": "Audio_files of songs",
            "source_contact": "ana@example.org",
        }

    def answer(self, path: str, query: Query) -> Reply:
        if path.startswith("/wikipedia/"):
            return Reply(body=MUSIC, content_type="audio/flac")
        if "pageids" in query:
            number = first(query, "pageids")
            pages = [one for one in self.songs if isinstance(one, dict) and str(one.get("pageid")) == number]
            return as_json({"query": {"pages": pages or [{"pageid": int(number), "missing": True}]}})
        if first(query, "generator") == "search":
            # In no order of use, as the real one.
            return as_json({"batchcomplete": True, "query": {"pages": list(reversed(self.songs))}})
        offset = int(first(query, "gcmcontinue", "0"))
        page = self.page(int(first(query, "gcmlimit")), offset)
        answer: dict[str, Any] = {"query": {"pages": page}}
        after = offset + len(page)
        if self.endless or self.repeating or after < len(self.songs):
            answer["continue"] = {"gcmcontinue": str(after), "continue": "gcmcontinue||"}
        return as_json(answer)


APIS: tuple[type[Api], ...] = (SubsonicApi, JamendoApi, AudiusApi, ArchiveApi, CommonsApi)


@contextmanager
def running(kind: Callable[[], Api]) -> Iterator[Api]:
    """A server of this test's own."""
    api = kind()
    try:
        yield api
    finally:
        api.close()


class Nothing:
    """Nothing is known from earlier readings."""

    def unchanged(self, fingerprints: Mapping[str, str]) -> Mapping[str, Song]:
        return {}


def silent(done: int, total: int | None = None) -> None:
    return


def read(source: Source, remote_id: str) -> Playlist:
    """Read a list as the collector does."""
    return source.read(remote_id, known=Nothing(), progress=silent)
