"""The sources: ``musicdl`` for all open clients together, and one for each old name that a person wants to keep."""

from __future__ import annotations

import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pydantic import Field

from common.contracts.work import SongDownload
from common.errors import MusicCloudError, PermanentError, Waiting
from common.settings import Settings, load
from common.telemetry import get_logger
from sources.api.pace import Pace, rate_of
from sources.api.source import MAX_SONGS, Listing, search_words
from sources.port import (
    TOPLIST,
    About,
    Candidate,
    Found,
    Health,
    HttpCandidate,
    KnownSongs,
    Playlist,
    PlaylistRef,
    Pool,
    Progress,
    SearchQuery,
)

from .answers import Listed, Result, listed, remote_id
from .clients import CLIENTS, CLIENTS_SETTING, OPEN, Client, ListLink, allowed_clients, list_links
from .process import PATIENCE, START_SECONDS, Process
from .words import Words

NAME = "musicdl"
POOL = "playlists"
RATE = 0.5
"""Searches a second: each makes the library ask several times."""
MAX_RESULTS = 10
"""Of one client: the library asks for each of them once more, to see whether it can be had."""
FRESH_SECONDS = 300.0
"""Addresses of many services end after minutes."""
MAX_FRESH = 20_000
PROBLEM_SECONDS = 300.0
"""How long the last failure speaks for the library's health."""


class MusicdlSettings(Settings):
    """Settings of the bridge."""

    plugin_musicdl_python: Path | None = None
    plugin_musicdl_clients: str = ",".join(OPEN)
    plugin_musicdl_playlists: str = ""
    plugin_musicdl_timeout_seconds: float = Field(default=60, ge=5, le=600)
    plugin_musicdl_list_seconds: float = Field(default=1800, ge=5, le=86_400)
    plugin_musicdl_memory_mib: int = Field(default=1024, ge=256)


def musicdl(settings: Settings) -> MusicdlSource:
    """The entry point of the open clients together."""
    return _create(settings, NAME)


def netease(settings: Settings) -> MusicdlSource:
    """The entry point of NetEase Cloud Music under its old name; so are those that follow."""
    return _create(settings, "netease")


def qq(settings: Settings) -> MusicdlSource:
    return _create(settings, "qq")


def kuwo(settings: Settings) -> MusicdlSource:
    return _create(settings, "kuwo")


def migu(settings: Settings) -> MusicdlSource:
    return _create(settings, "migu")


def qianqian(settings: Settings) -> MusicdlSource:
    return _create(settings, "qianqian")


def _create(settings: Settings, name: str) -> MusicdlSource:
    own = load(MusicdlSettings)
    allowed = allowed_clients(own.plugin_musicdl_clients)
    links = list_links(own.plugin_musicdl_playlists, allowed)
    clients = tuple(client for client in allowed if (client.open if name == NAME else client.name == name))
    folder = settings.state / NAME
    return MusicdlSource(
        name=name,
        clients=clients,
        links=tuple(link for link in links if link.client in clients),
        process=Process(
            # Not resolved: the interpreter of a virtual environment is a link, and its place says whose it is.
            python=(own.plugin_musicdl_python or Path(sys.executable)).absolute(),
            base=folder,
            megabytes=own.plugin_musicdl_memory_mib,
            allow_private=settings.allow_private_addresses,
        ),
        words=Words(folder / "words.sqlite3"),
        pace=Pace(source=name, rate=rate_of(settings, name, RATE)),
        search_seconds=own.plugin_musicdl_timeout_seconds,
        list_seconds=own.plugin_musicdl_list_seconds,
    )


class MusicdlSource:
    """Searches with some clients of the library; its lists are those that a person named."""

    def __init__(
        self,
        *,
        name: str,
        clients: Sequence[Client],
        links: Sequence[ListLink],
        process: Process,
        words: Words,
        pace: Pace,
        search_seconds: float,
        list_seconds: float,
    ) -> None:
        """Without ``clients`` it is not set up."""
        self.name = name
        self._clients = tuple(clients)
        self._links = {remote_id(link.client, link.list_id, source=name): link for link in links}
        self._process = process
        self._words = words
        self._pace = pace
        self._search_seconds = search_seconds
        self._list_seconds = list_seconds
        # Three ways to ask, each of which may wait for another song and for the library to load.
        self.patience = 3 * (search_seconds + PATIENCE) + START_SECONDS
        self._fresh: OrderedDict[str, tuple[HttpCandidate, float]] = OrderedDict()
        self._lock = threading.Lock()
        self._problem: tuple[str, float] | None = None
        self._title = "musicdl" if name == NAME else CLIENTS[name].title
        terms = (
            "Open licences, or given away by who made it; each song its own."
            if name == NAME
            else "All rights reserved, as far as is known."
        )
        self.about = About(
            title=self._title,
            licence=f"{terms} The library musicdl itself may not be used commercially.",
            rate=pace.rate,
            homepage="https://github.com/CharlesPikachu/musicdl",
        )

    def health(self) -> Health:
        """From the installation, and from what the library last did."""
        if not self._clients:
            return Health(available=False, configured=False, message=self._missing)
        if (installation := self._process.problem()) is not None:
            return Health(available=False, message=installation)
        problem = self._problem
        now = problem if problem and time.monotonic() - problem[1] < PROBLEM_SECONDS else None
        return Health(available=now is None, message=now[0] if now else "")

    def pools(self) -> Iterator[Pool]:
        if any(not link.toplist for link in self._links.values()):
            yield Pool(external_id=POOL, name=f"{self._title} playlists", kind="user")
        for one, link in self._links.items():
            if link.toplist:
                # Each is a pool of its own: its id does not change with the others.
                yield Pool(external_id=one, name=f"{link.client.title} toplists", kind=TOPLIST, url=link.url)

    def playlists(self, pool_external_id: str, *, progress: Progress) -> Iterator[PlaylistRef]:
        listed = {
            one: link
            for one, link in self._links.items()
            if (one == pool_external_id if link.toplist else pool_external_id == POOL)
        }
        if not listed:
            raise PermanentError("This source has no such pool.", code="pool-missing")
        for one, link in listed.items():
            yield PlaylistRef(remote_id=one, name=f"{link.client.title} {link.list_id}", url=link.url)

    def read(self, playlist_remote_id: str, *, known: KnownSongs, progress: Progress) -> Playlist:
        link = self._links.get(playlist_remote_id)
        if link is None:
            raise PermanentError("This list is no longer in PLUGIN_MUSICDL_PLAYLISTS.", code="playlist-missing")
        told = self._answers(
            {"do": "playlist", "url": link.url, "limit": MAX_SONGS},
            (link.client,),
            seconds=self._list_seconds,
            tick=lambda: progress(0),
        )[0]
        if not told.results:
            raise PermanentError(
                f"The musicdl library finds no song in this list of {link.client.title}. Check its address.",
                code="playlist-missing",
            )
        listing = Listing()
        listing.add((one.found if one else None for one in told.results), refused=told.refused)
        if told.left_out:
            listing.problem(f"The list goes on for {told.left_out} songs, which were left out.")
        return listing.playlist(
            PlaylistRef(
                remote_id=playlist_remote_id, name=told.name or f"{link.client.title} {link.list_id}", url=link.url
            )
        )

    def resolve(self, song: SongDownload) -> Sequence[Candidate]:
        return self._locate(song.remote_id, song.name, song.singers)

    def search(self, query: SearchQuery, *, limit: int) -> Sequence[Found]:
        return self._search(query, self._clients, limit)

    def refresh(self, remote_id: str) -> Found | None:
        """The library knows no ids: it is found again by what it was called when it was found."""
        called = self._words.find(self.name, remote_id)
        if called is None:
            raise PermanentError(
                "The musicdl library finds songs by their words only, and what this one is called was forgotten. "
                "Search for the song again, and choose once more.",
                code="musicdl-words-unknown",
            )
        return self._again(remote_id, *called)

    def candidates(self, found: Found) -> Sequence[Candidate]:
        return self._locate(found.remote_id, found.name, found.singers)

    def close(self) -> None:
        """End the library's process."""
        self._process.close()

    def _locate(self, remote_id: str, name: str, singers: tuple[str, ...]) -> Sequence[Candidate]:
        candidate = self._recent(remote_id)
        if candidate is None:
            self._again(remote_id, name, singers)
            candidate = self._recent(remote_id)
        if candidate is None:
            raise PermanentError(
                "The musicdl library does not find this song any more, or no longer as a plain file.",
                code="source-file-missing",
            )
        return (candidate,)

    def _again(self, wanted: str, name: str, singers: tuple[str, ...]) -> Found | None:
        # Only where it was found: what another site answers would hide that this one is away.
        clients = [one for one in self._clients if wanted.startswith(remote_id(one, "", source=self.name))]
        found = self._search(SearchQuery(name=name, singers=singers), clients, MAX_RESULTS) if clients else ()
        return next((one for one in found if one.remote_id == wanted), None)

    def _search(self, query: SearchQuery, clients: Sequence[Client], limit: int) -> tuple[Found, ...]:
        most = min(limit, MAX_RESULTS)

        def ask(words: str) -> Iterator[Found]:
            request = {"do": "search", "words": words, "limit": most}
            answers = [told.results for told in self._answers(request, clients, seconds=self._search_seconds)]
            # In turns: the first ones of each client are the better ones.
            return (one.found for place in zip_longest(*answers) for one in place if one is not None)

        return search_words(query, limit=limit, ask=ask)

    def _answers(
        self,
        request: dict[str, Any],
        clients: Sequence[Client],
        *,
        seconds: float,
        tick: Callable[[], None] = lambda: None,
    ) -> list[Listed]:
        """What the clients answer; those that fail are left out, unless all do."""
        if not clients:
            raise PermanentError(self._missing, code="source-not-configured")
        self._pace.take()
        asked = {
            **request,
            "clients": [client.library_name for client in clients],
            "cookies": {client.library_name: dict(client.cookies) for client in clients},
        }
        try:
            answers = self._process.ask(asked, seconds=seconds, tick=tick).get("answers")
            answered, errors = self._read(answers if isinstance(answers, dict) else {}, clients)
            if not answered:
                raise errors[0]
        except Waiting:
            raise
        except MusicCloudError as error:
            self._note(error)
            raise
        self._problem = None
        self._keep(one for told in answered for one in told.results if one is not None)
        return answered

    def _read(self, answers: dict[str, Any], clients: Sequence[Client]) -> tuple[list[Listed], list[MusicCloudError]]:
        answered, errors = [], []
        for client in clients:
            try:
                answered.append(listed(client, answers.get(client.library_name), source=self.name))
            except MusicCloudError as error:
                get_logger().warning("musicdl client failed", source=self.name, client=client.name, code=error.code)
                errors.append(error)
        return answered, errors

    def _note(self, error: MusicCloudError) -> None:
        """What speaks of the library or its sites, not of one song."""
        if not isinstance(error, PermanentError) and error.code != "musicdl-failed":
            self._problem = (error.message, time.monotonic())

    def _keep(self, results: Iterable[Result]) -> None:
        kept = list(results)
        now = time.monotonic()
        with self._lock:
            for one in kept:
                self._fresh.pop(one.found.remote_id, None)
                self._fresh[one.found.remote_id] = (one.candidate, now)
            while len(self._fresh) > MAX_FRESH:
                self._fresh.popitem(last=False)
        self._words.keep(one.found for one in kept)

    def _recent(self, remote_id: str) -> HttpCandidate | None:
        with self._lock:
            candidate, since = self._fresh.get(remote_id, (None, 0.0))
        return candidate if time.monotonic() - since < FRESH_SECONDS else None

    @property
    def _missing(self) -> str:
        if self.name == NAME:
            return f"No open client is listed. Set {CLIENTS_SETTING} to some of: {', '.join(OPEN)}."
        return f"{self.name} is not listed. Add it to {CLIENTS_SETTING}, if you may use it."
