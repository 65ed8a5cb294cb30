"""Fetching whatever a source offers."""

from __future__ import annotations

from common.contracts.names import ImportMode
from downloader.adapters.fetch_file import FileFetcher
from downloader.adapters.fetch_http import HttpFetcher
from downloader.ports import Fetched, FetchState, Watch
from sources.port import Candidate, FileCandidate


class CandidateFetcher:
    """Chooses by the kind of candidate."""

    def __init__(self, *, files: FileFetcher, http: HttpFetcher) -> None:
        self._files = files
        self._http = http

    def fetch(
        self, candidate: Candidate, song_id: int, *, mode: ImportMode, noted: FetchState | None, watch: Watch
    ) -> Fetched:
        """Bring the candidate's bytes into the spool (or, by reference, only read them)."""
        if isinstance(candidate, FileCandidate):
            return self._files.fetch(candidate, song_id, mode=mode, watch=watch)
        return self._http.fetch(candidate, song_id, noted=noted, watch=watch)
