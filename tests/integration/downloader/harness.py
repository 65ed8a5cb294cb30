"""The downloader's pipeline without a bus: real spool, library, network and decoders."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from common.catalog.ids import song_id
from common.contracts.facts import FileStored
from common.contracts.names import ImportMode
from common.contracts.work import SongDownload
from common.errors import MusicCloudError
from downloader.adapters.decoder import AudioInspector
from downloader.adapters.disk import Disk
from downloader.adapters.fetch import CandidateFetcher
from downloader.adapters.fetch_file import FileFetcher
from downloader.adapters.fetch_http import HttpFetcher
from downloader.adapters.library import LibraryFolder
from downloader.adapters.matches import MatchDatabase
from downloader.adapters.rejects import RejectDatabase
from downloader.adapters.spool import SpoolFolder
from downloader.adapters.statistics import ResolverNumbers
from downloader.adapters.tags import MutagenTagger
from downloader.ports import NO_CHOICE, Choice, Waited, Watch
from downloader.service.layout import DEFAULT_LAYOUT, parse_layout
from downloader.service.resolve import Finder
from downloader.service.store import Already, Ready, Request, StoreSong
from sources.addresses import AddressPolicy
from sources.http import GuardedHttp
from sources.port import Candidate, Found, SearchQuery
from tests.support.postgres import location


class Given:
    """Sources that have what a test gave them: songs of their own, and results of searches."""

    def __init__(self) -> None:
        self.candidates_of: dict[str, list[Candidate]] = {}
        self.results: dict[str, list[Found] | MusicCloudError] = {}
        """What a search of a source answers; a source that is not here cannot be searched."""
        self.errors: dict[str, MusicCloudError] = {}
        """What a song's own source says of it, by remote id."""
        self.asked: list[str] = []
        self.renamed: dict[str, Found] = {}
        """What a source calls otherwise by now, by its former remote id."""
        self.waits: list[float] = []
        """What is told of waiting, before a search answers."""

    def own(self, song: SongDownload, *, waited: Waited) -> Sequence[Candidate]:
        self.asked.append(f"own {song.source}")
        if song.remote_id in self.errors:
            raise self.errors[song.remote_id]
        return self.candidates_of.get(song.remote_id, [])

    def in_use(self) -> Sequence[str]:
        return ("feed", "local", *self.results)

    def can_search(self, source: str) -> bool:
        return source in self.results

    def search(self, source: str, query: SearchQuery, *, waited: Waited) -> Sequence[Found]:
        self.asked.append(f"search {source}")
        for seconds in self.waits:
            waited(seconds)
        answer = self.results[source]
        if isinstance(answer, MusicCloudError):
            raise answer
        return answer

    def refresh(self, source: str, remote_id: str, *, waited: Waited) -> Found | None:
        self.asked.append(f"refresh {source}")
        answer = self.results.get(source, [])
        if isinstance(answer, MusicCloudError):
            raise answer
        return self.renamed.get(remote_id) or next((found for found in answer if found.remote_id == remote_id), None)

    def candidates(self, found: Found, *, waited: Waited) -> Sequence[Candidate]:
        return self.candidates_of.get(found.remote_id, [])


class Pipeline:
    """One copy of the downloader below ``root``; several may share one root."""

    def __init__(
        self,
        root: Path,
        *,
        full: bool = True,
        max_size: int = 64 * 1024**2,
        reserve: int = 0,
        stall_timeout: float = 1.0,
        layout: str = DEFAULT_LAYOUT,
        tolerance: float = 5.0,
        database_url: str = "",
    ) -> None:
        self.library = root / "library"
        self.library.mkdir(parents=True, exist_ok=True)
        self.spool = SpoolFolder(self.library / ".spool")
        self.rejects = RejectDatabase(location("downloader", root / "state" / "downloader.db", database_url))
        self.sources = Given()
        self.order: tuple[str, ...] = ()
        self.numbers = ResolverNumbers(
            location("resolver_stats", root / "state" / "resolver_stats.db", database_url),
            warmup_attempts=0,
            half_life_days=0,
            exploration=0,
        )
        self.matches = MatchDatabase(self.rejects.database)
        disk = Disk(path=self.library, reserve=reserve)
        self.http = http = GuardedHttp(policy=AddressPolicy(), connect_timeout=1.0, stall_timeout=stall_timeout)
        self.folder = LibraryFolder(self.library, lock=self.spool.folder_lock)
        self.store = StoreSong(
            spool=self.spool,
            finder=Finder(
                sources=self.sources, statistics=self.numbers, matches=self.matches, order=lambda: self.order
            ),
            fetcher=CandidateFetcher(
                files=FileFetcher(spool=self.spool, disk=disk, max_size=max_size),
                http=HttpFetcher(http=http, spool=self.spool, disk=disk, max_size=max_size),
            ),
            inspector=AudioInspector(),
            tagger=MutagenTagger(),
            rejects=self.rejects,
            library=self.folder,
            layout=parse_layout(layout),
            full=full,
            duration_tolerance=tolerance,
        )
        self.canceled = threading.Event()
        self.seen: list[tuple[int, int | None, str]] = []
        self.watch = Watch(progress=self._progress, canceled=self.canceled.is_set)

    def _progress(self, done: int, total: int | None, note: str) -> None:
        self.seen.append((done, total, note))

    def close(self) -> None:
        self.http.close()
        self.numbers.close()
        self.rejects.close()
        self.spool.close()

    def request(
        self,
        song: SongDownload,
        candidate: Candidate | None = None,
        *,
        mode: ImportMode = ImportMode.REFLINK,
        cause: str = "try-1",
        known: FileStored | None = None,
        referenced: FileStored | None = None,
        mine: str | None = None,
        choice: Choice = NO_CHOICE,
        only: tuple[str, ...] = (),
        last_try: bool = True,
    ) -> Request:
        if candidate is not None:
            self.sources.candidates_of[song.remote_id] = [candidate]
        return Request(
            song=song,
            mode=mode,
            cause=cause,
            known=known,
            referenced=referenced,
            mine=mine,
            choice=choice,
            only=only,
            last_try=last_try,
        )

    def run(self, request: Request) -> Already | Ready:
        """All steps under the song's lock, up to the fact."""
        with self.spool.lock(request.song.song_id, canceled=self.watch.canceled):
            return self.store.store(request, self.watch)

    def complete(self, request: Request) -> FileStored:
        """All steps, also those after the fact; return the fact."""
        with self.spool.lock(request.song.song_id, canceled=self.watch.canceled):
            result = self.store.store(request, self.watch)
            if isinstance(result, Ready):
                self.store.finish(result)
            return result.fact

    def files(self) -> list[str]:
        """The songs in the library."""
        return sorted(
            str(path.relative_to(self.library))
            for path in self.library.rglob("*")
            if path.is_file() and not path.relative_to(self.library).parts[0].startswith(".")
        )

    def trash(self) -> list[Path]:
        folder = self.library / ".trash"
        return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.exists() else []

    def leftovers(self) -> list[str]:
        """What the spool holds beside its locks."""
        return sorted(
            path.name
            for path in self.spool.root.iterdir()
            if path.name != "locks" and not path.name.startswith("spare-")
        )


def make_song(remote_id: str = "one", *, source: str = "feed", **fields: object) -> SongDownload:
    values: dict[str, object] = {
        "job_id": 1,
        "source": source,
        "song_id": song_id(source, remote_id),
        "remote_id": remote_id,
        "name": "Name",
        "singers": ("Singer",),
        **fields,
    }
    return SongDownload.model_validate(values)
