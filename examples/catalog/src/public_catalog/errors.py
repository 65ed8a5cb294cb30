"""What can be wrong, each with a sentence for the person who has to act."""

from __future__ import annotations


class SettingsError(Exception):
    """A setting cannot be meant as it is; the sentence says what to do."""


class SnapshotUnusable(Exception):
    """What lies there is not a snapshot that can be shown; the sentence says why."""


class NotThere(Exception):
    """The page is about something that this snapshot does not have."""


class BadAddress(Exception):
    """The address was not made by one of our pages."""


class Busy(Exception):
    """All readers of the catalog are taken for longer than a visitor waits."""
