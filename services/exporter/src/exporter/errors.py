"""The errors of the exporter. None of their sentences names a path that the person did not give."""

from __future__ import annotations

from common.errors import ConfigurationError, MusicCloudError


class SnapshotError(MusicCloudError):
    """A snapshot could not be made; the one before stays as it is."""

    code = "snapshot-failed"


class DatabaseInUse(ConfigurationError):
    """A second exporter on the same database would undo the first one's work."""

    code = "database-in-use"


class CatalogUnusable(ConfigurationError):
    """The catalog database cannot be opened as it is."""

    code = "catalog-unusable"


class CatalogWriteFailed(MusicCloudError):
    """A batch could not be written; nothing of it was kept, and it is tried again."""

    code = "catalog-write-failed"


class PackFailed(MusicCloudError):
    """A pack could not be made; nothing of it is left, and it is made anew for the next who asks."""

    code = "pack-failed"


class RequestRefused(MusicCloudError):
    """The answer to a request that gets nothing. ``retry_after`` in seconds, where asking again may help."""

    def __init__(self, status: int, code: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.retry_after = retry_after


def no_such_catalog() -> RequestRefused:
    """Also for a private catalog without its token: nobody can tell the two apart."""
    return RequestRefused(404, "not-found", "There is nothing under this address.")
