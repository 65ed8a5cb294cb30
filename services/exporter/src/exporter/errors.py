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
