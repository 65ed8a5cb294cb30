"""Asking sources where a song's bytes can be had."""

from __future__ import annotations

from collections.abc import Sequence

from common.contracts.work import SongDownload
from common.errors import DependencyDown, MusicCloudError
from sources.port import Candidate
from sources.registry import Sources


class SourceResolver:
    """Blocking, as sources are."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def candidates(self, song: SongDownload, source: str) -> Sequence[Candidate]:
        """What ``source`` offers, best first. Raises the errors of :mod:`common.errors`."""
        found = self._sources.get(source)
        try:
            return found.resolve(song)
        except MusicCloudError as error:
            # A folder that is gone as a whole (not mounted) is no reason to give up its songs.
            if error.code == "source-file-missing" and not (health := found.health()).available:
                raise DependencyDown(health.message, code="source-unavailable") from None
            raise
