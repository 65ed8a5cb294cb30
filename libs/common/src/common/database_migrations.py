"""Bringing a service's tables up to date: the migrations that its package carries, in one transaction."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from common.audit import Finding, read_value
from common.audit.commands import start_newer
from common.errors import ConfigurationError

CONNECTION = "connection"
"""Under this name the migrations' ``env.py`` finds the connection to use."""


def migrate(connection: Connection, *, service: str, package: ModuleType, marker: str) -> None:
    """Apply what is missing, on a connection whose transaction the caller ends.

    A database from before the migrations (it has the table ``marker`` and no version) is taken over as it is: its
    tables are those of the first revision. Raises ConfigurationError when it is newer than this program.
    """
    config = _config(package)
    config.attributes[CONNECTION] = connection
    known = _revisions(config)
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in known:
        raise ConfigurationError(
            f"The {service}'s database was made by a newer version of the program ({current}; this one knows "
            f"{known[0]}). Use that version or a later one; nothing was changed.",
            code="database-version",
        )
    if current == known[0]:
        return
    if current is None and inspect(connection).has_table(marker):
        command.stamp(config, known[-1])
    command.upgrade(config, "head")


def newer_database(file: Path, *, package: ModuleType) -> Finding | None:
    """Whether a newer version of the program made this SQLite file; it is not touched."""
    current = read_value(file, "SELECT version_num FROM alembic_version")
    if current is None or current in (known := _revisions(_config(package))):
        return None
    return Finding(
        code="database-newer",
        severity="error",
        message=f"{file.name} was made by a newer version of the program ({str(current)[:40]}; this one knows "
        f"{known[0]}), so it is left as it is; use that version or a later one",
        mend=start_newer(),
    )


def _revisions(config: Config) -> list[str]:
    """All that this program knows, newest first."""
    return [revision.revision for revision in ScriptDirectory.from_config(config).walk_revisions()]


def newest(package: ModuleType) -> str:
    """The revision that this program brings a database to."""
    return str(ScriptDirectory.from_config(_config(package)).get_current_head())


def _config(package: ModuleType) -> Config:
    (folder,) = package.__path__
    config = Config()
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def run_migrations(config: Config) -> None:
    """What the ``env.py`` of each package of migrations does."""
    from alembic import context

    context.configure(connection=config.attributes[CONNECTION], transaction_per_migration=False)
    with context.begin_transaction():
        context.run_migrations()
