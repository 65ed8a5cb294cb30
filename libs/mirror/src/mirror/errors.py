"""What can be wrong with a snapshot. Each error has a stable ``code`` and a sentence for people."""

from __future__ import annotations


class MirrorError(Exception):
    """Base of all expected errors. ``code`` is stable (lower case, hyphens); programs compare it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class ContentError(MirrorError):
    """A database holds what a snapshot may not hold, or lacks what it must."""


class ManifestError(MirrorError):
    """A manifest is not one, or contradicts itself."""


class SignatureError(MirrorError):
    """A manifest is not signed by a key that is trusted."""


class KeyFormatError(MirrorError):
    """A key cannot be read."""


class PackError(MirrorError):
    """A pack is damaged, incomplete, or larger than it may be."""
