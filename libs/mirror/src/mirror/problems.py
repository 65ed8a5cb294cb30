"""What can keep a mirror from a new snapshot; the type says whose turn it is to do something."""

from __future__ import annotations

from mirror.errors import MirrorError


class SettingsProblem(MirrorError):
    """What the person asked for cannot be: the sentence says what to write instead."""


class LocalProblem(MirrorError):
    """This machine cannot do it now: the disk is full, a folder may not be written."""


class Busy(MirrorError):
    """Another process is at work on the same folder."""


class Unavailable(MirrorError):
    """The server does not answer, or asks to wait: the same again later may work."""

    def __init__(self, code: str, message: str, *, retry_after: float | None = None) -> None:
        """``retry_after``: seconds that the server asked us to wait."""
        super().__init__(code, message)
        self.retry_after = retry_after


class BeingMade(Unavailable):
    """The server is at work on the pack that was asked for: who asks for the same again will get it."""


class NotOffered(MirrorError):
    """The server says that there is no such catalog, or none that we may see."""


class Refused(MirrorError):
    """What came is not what a publisher that we trust would send; the snapshot that we have stays."""
