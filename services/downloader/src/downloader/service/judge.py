"""Whether a file is the song that was asked for, and what is done with what is stored already. Pure."""

from __future__ import annotations

from common.contracts.facts import FileStored, FileTags
from common.contracts.work import SongDownload
from downloader.errors import Rejected
from downloader.ports import Choice, Decoded, Inspected

_RELATIVE_TOLERANCE = 0.03
"""Of the listed length: covers lists that round, and songs that fade out."""
_MISSING = 0.02
"""The part of the declared frames that a decoder may miss: encoder delay and padding, not a cut."""
_MISSING_SECONDS = 0.15

TAGGED_KINDS = frozenset({"flac", "mp3", "ogg", "opus", "oga", "spx", "m4a"})
"""Kinds with one agreed form of tags. RIFF has none, so that WAV files stay as they came."""


def is_current(stored: FileStored | None, song: SongDownload, choice: Choice) -> bool:
    """Whether ``stored`` is what the source lists and a person chose; whether its file is there is another matter."""
    if stored is None or stored.removed or not is_chosen(stored, song, choice):
        return False
    if song.fingerprint is None or stored.listing_fingerprint is None:
        return True
    return song.fingerprint == stored.listing_fingerprint


def is_chosen(stored: FileStored, song: SongDownload, choice: Choice) -> bool:
    """Whether a person, who chose or banned recordings of the song, wants this one."""
    taken = _recording(stored, song)
    return taken not in choice.banned and choice.match in (None, taken)


def is_same_recording(one: FileStored, other: FileStored, song: SongDownload) -> bool:
    """Whether two files of the song were taken from the same place."""
    return _recording(one, song) == _recording(other, song)


def _recording(stored: FileStored, song: SongDownload) -> tuple[str, str]:
    return stored.candidate_source or song.source, stored.candidate_remote_id or song.remote_id


def check_decoded(inspected: Inspected, decoded: Decoded) -> None:
    """Raise :class:`Rejected` where a decoder found less than the container declares, or something else."""
    if decoded.frames == 0:
        raise Rejected("Not one sound could be decoded from the file.", code="content-broken")
    if inspected.frames and decoded.frames < inspected.frames:
        raise _cut_off(decoded.frames / decoded.sample_rate, inspected.frames / decoded.sample_rate)
    declared = inspected.format.duration_seconds
    seconds = decoded.frames / decoded.sample_rate
    if inspected.exact_duration and declared and declared - seconds > max(_MISSING_SECONDS, _MISSING * declared):
        raise _cut_off(seconds, declared)
    if inspected.md5 and decoded.md5 and inspected.md5 != decoded.md5:
        raise Rejected(
            "The decoded sound is not what its own checksum says: the file is damaged.", code="content-broken"
        )


def check_duration(song: SongDownload, seconds: float | None, *, tolerance: float) -> None:
    """Raise :class:`Rejected` where the file is not as long as the song is listed. ``tolerance`` in seconds."""
    listed = song.duration_seconds
    if not listed or listed <= 0 or seconds is None:
        return
    if abs(listed - seconds) > max(tolerance, _RELATIVE_TOLERANCE * listed):
        raise Rejected(
            f"The file is {_clock(seconds)} long, but the song is listed with {_clock(listed)}: it is not this song, "
            "or not all of it. To take it all the same, retry it by force, or choose it on the song's page.",
            code="duration-mismatch",
            remember=False,
        )


def missing_tags(song: SongDownload, tags: FileTags) -> FileTags | None:
    """What the listing knows and the file does not say; None when there is nothing to add."""
    wanted = FileTags(
        title=None if tags.title else _plain(song.name),
        artists=() if tags.artists else tuple(filter(None, map(_plain, song.singers))),
        album=None if tags.album else _plain(song.album or ""),
    )
    return wanted if wanted != FileTags() else None


def quality_label(inspected: Inspected) -> str | None:
    """``lossless``, or the bit rate such as ``320k``."""
    if inspected.format.lossless:
        return "lossless"
    return f"{round(inspected.format.bitrate / 1000)}k" if inspected.format.bitrate else None


def _plain(text: str) -> str | None:
    """Fit for a tag: no NUL (it separates values there) and no control characters."""
    return "".join(char for char in text if char.isprintable()).strip() or None


def _cut_off(have: float, want: float) -> Rejected:
    return Rejected(f"The file is cut off: {_clock(have)} of {_clock(want)} can be played.", code="content-truncated")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{seconds % 60:04.1f}" if seconds < 3600 else f"{seconds / 60:.0f} min"
