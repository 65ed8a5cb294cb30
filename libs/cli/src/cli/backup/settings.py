"""What backup and restore read, besides what the command line reads."""

from __future__ import annotations

import stat
from pathlib import Path

from pydantic import Field, SecretStr

from cli.backup.errors import WrongPassphrase
from cli.settings import CliSettings

MIN_PASSPHRASE_CHARS = 12
"""Whoever has the archive can try as many as a machine can: a short one is found."""


class BackupSettings(CliSettings):
    """Settings of backup, restore and reseed."""

    backup_passphrase: SecretStr | None = Field(
        default=None, description="encrypts backups; keep it elsewhere too: without it they cannot be read"
    )
    backup_passphrase_file: Path | None = Field(default=None, description="a file whose first line is that passphrase")
    ops_db_path: Path | None = Field(
        default=None, description="the console's own database; default STATE_DIR/ops.db; a local disk"
    )

    @property
    def postgresql_url(self) -> str | None:
        """DATABASE_URL, where the services keep their tables in PostgreSQL."""
        text = self.database_url.get_secret_value().strip() if self.database_url else ""
        return text or None

    def database_file(self, name: str) -> Path:
        """Where a service's SQLite database of this name lies."""
        if name == "ops.db" and self.ops_db_path is not None:
            return self.ops_db_path.absolute()
        return self.state / name


def find_passphrase(settings: BackupSettings, file: Path | None, *, asked: str | None = None) -> str | None:
    """The passphrase: typed, in a file, or in the settings; None where none is given.

    Raises WrongPassphrase when the file cannot be used.
    """
    if asked:
        return asked
    named = file or settings.backup_passphrase_file
    if named is None:
        return settings.backup_passphrase.get_secret_value() if settings.backup_passphrase else None
    try:
        mode = named.stat().st_mode
        lines = named.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        words = error.strerror if isinstance(error, OSError) else "it is not text"
        raise WrongPassphrase(f"The passphrase file {named} cannot be read ({words}).") from None
    if mode & stat.S_IROTH:
        raise WrongPassphrase(f"Anybody on this machine can read {named}; do `chmod 600 {named}` first.")
    if not lines or not lines[0]:
        raise WrongPassphrase(f"The first line of {named} is empty; write the passphrase there.")
    return lines[0]


def check_strength(passphrase: str | None) -> None:
    """Raises WrongPassphrase when a new archive would be encrypted with something that can be guessed."""
    if passphrase is not None and len(passphrase) < MIN_PASSPHRASE_CHARS:
        raise WrongPassphrase(
            f"The passphrase is shorter than {MIN_PASSPHRASE_CHARS} characters, so it could be guessed; make one with: "
            "openssl rand -base64 24"
        )
