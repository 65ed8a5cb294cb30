"""Which sources are asked for a song, and in which order."""

from __future__ import annotations

from common.contracts.work import SongDownload
from common.errors import DependencyDown, MusicCloudError, PermanentError, TransientError, Waiting


def source_order(song: SongDownload) -> tuple[str, ...]:
    """The sources to ask, first first. Only the song's own source is asked so far."""
    return (song.source,)


def most_hopeful(errors: list[MusicCloudError]) -> MusicCloudError:
    """The error that decides when no candidate worked: what may work later outranks what never will.

    A dependency that is down, or a server that is waited for, outranks both, so that no try is lost.
    """
    if not errors:
        return PermanentError(
            "No source in use has this song. Add its source to SOURCES, or remove the song from the playlist.",
            code="no-candidate",
        )
    for kind in (DependencyDown, Waiting, TransientError):
        for error in errors:
            if isinstance(error, kind):
                return error
    return errors[0]
