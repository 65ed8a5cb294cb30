"""The errors of backup, restore and reseed; each says what to do."""

from __future__ import annotations

from common.errors import ConfigurationError, MusicCloudError


class BackupFailed(MusicCloudError):
    """No backup was made; the ones before stay."""

    code = "backup-failed"


class ArchiveDamaged(MusicCloudError):
    """The archive is not whole, or not one of ours; nothing was changed."""

    code = "backup-damaged"


class NewerBackup(ConfigurationError):
    """The archive was made by a newer program."""

    code = "backup-newer"


class WrongPassphrase(ConfigurationError):
    """The archive is encrypted, and the passphrase is missing or another one."""

    code = "backup-passphrase"


class NotEmpty(ConfigurationError):
    """What would be overwritten is in use, or holds a catalog or jobs."""

    code = "restore-not-empty"


class RestoreFailed(MusicCloudError):
    """The restore did not come to its end; the same command starts it over."""

    code = "restore-failed"


class ReseedFailed(MusicCloudError):
    """The reseed did not come to its end; the same command goes on."""

    code = "reseed-failed"
