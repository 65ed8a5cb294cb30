"""What the errors of a search amount to: which of them decides, and whether it speaks of the song. Pure."""

from __future__ import annotations

from common.errors import DependencyDown, MusicCloudError, PermanentError, TransientError, Unreachable, Waiting

OF_SOURCE = frozenset({"access-refused", "source-not-configured", "source-unknown"})
"""What a song's own source says of itself, not of the song."""


def most_hopeful(errors: list[MusicCloudError]) -> MusicCloudError:
    """The error that decides when no candidate worked: what may work later outranks what never will.

    A dependency that is down, or a server that is waited for, outranks both, so that no try is lost. A server that
    was given up for now outranks what never will: a later job asks again.
    """
    if not errors:
        return PermanentError(
            "No source in use has this song. Add its source to SOURCES and DOWNLOAD_SOURCES, or remove the song from "
            "the playlist.",
            code="no-candidate",
        )
    for kind in (DependencyDown, Waiting, TransientError, Unreachable):
        for error in errors:
            if isinstance(error, kind):
                return error
    return errors[0]


def unanswered(error: MusicCloudError) -> MusicCloudError:
    """``error`` of a source that says nothing of the song: a wrong credential, an answer that cannot be read.

    A person may mend it, so that a later job asks again.
    """
    return Unreachable(error.message, code=error.code) if isinstance(error, PermanentError) else error


def retold(error: MusicCloudError, message: str, *, code: str) -> MusicCloudError:
    """Another message in the place of ``error``: its type, and thereby what becomes of the item, stays."""
    if isinstance(error, TransientError):
        return TransientError(message, code=code, retry_after=error.retry_after)
    return Unreachable(message, code=code) if isinstance(error, Unreachable) else PermanentError(message, code=code)
