"""The errors of the downloader. Their type decides what happens to the item."""

from __future__ import annotations

from common.errors import DependencyDown, PermanentError, TransientError


class Rejected(PermanentError):
    """The bytes are not this song. ``remember``: the same bytes would be refused for every song."""

    code = "rejected"

    def __init__(self, message: str, *, code: str, remember: bool = True) -> None:
        super().__init__(message, code=code)
        self.remember = remember


class DiskFull(DependencyDown):
    """The library's disk has no room: nothing can be stored until somebody makes some."""

    code = "disk-full"

    def __init__(self) -> None:
        super().__init__(
            "The library's disk is full. Free some space, or lower MIN_FREE_SPACE; downloads go on by themselves.",
            retry_after=15.0,
        )


class SongBusy(TransientError):
    """Another copy of the downloader has this song in hand."""

    code = "song-busy"

    def __init__(self) -> None:
        super().__init__("Another downloader still works on this song; it is tried again.", retry_after=5.0)


class Stopped(TransientError):
    """The item was told to stop; what was fetched so far may be kept."""

    code = "stopped"

    def __init__(self) -> None:
        super().__init__("Stopped before it was complete.")
