"""The commands `backup`, `restore` and `reseed`."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.access import Options
from cli.backup.settings import BackupSettings, check_strength, find_passphrase
from common.errors import ConfigurationError
from common.settings import load

backup_app = typer.Typer(
    help="Make, check and list backups of everything but the music itself.",
    invoke_without_command=True,
    rich_markup_mode=None,
)

PassphraseFile = Annotated[
    Path | None, typer.Option(help="a file whose first line is the passphrase; default: BACKUP_PASSPHRASE")
]
Ask = Annotated[bool, typer.Option("--ask-passphrase", help="type the passphrase")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(backup_app, name="backup")
    app.command()(restore)
    app.command()(reseed)


@backup_app.callback()
def backup(
    context: typer.Context,
    to: Annotated[Path | None, typer.Option(help="make a backup into this folder")] = None,
    keep: Annotated[int | None, typer.Option(min=1, help="then remove all but so many")] = None,
    every: Annotated[str | None, typer.Option(help="go on, one every 30m, 24h or 7d")] = None,
    verify: Annotated[Path | None, typer.Option(help="read this backup to its end instead")] = None,
    passphrase_file: PassphraseFile = None,
    ask_passphrase: Ask = False,
) -> None:
    """Make a backup while everything runs, read it back, and give it its name."""
    # Imported here, as in the other commands: most uses of this program need none of it.
    from cli.backup.check import check_archive
    from cli.backup.errors import ArchiveDamaged
    from cli.backup.restore import summary
    from cli.backup.schedule import parse_interval

    if context.invoked_subcommand is not None:
        return
    if (to is None) == (verify is None):
        raise typer.BadParameter("give either --to FOLDER or --verify FILE")
    try:
        interval = parse_interval(every) if every is not None else None
    except ValueError as error:
        raise typer.BadParameter(f"--every: {error}") from None
    settings = load(BackupSettings)
    passphrase = _passphrase(settings, passphrase_file, ask=ask_passphrase, twice=to is not None)
    if verify is not None:
        try:
            told = summary(check_archive(verify, passphrase))
        except OSError as error:
            raise ArchiveDamaged(
                f"{verify} cannot be read ({error.strerror}). Mend that, or take another one."
            ) from None
        _tell(context, told, f"{verify} is whole; made {told['created']} by version {told['program']}.")
        return
    assert to is not None
    check_strength(passphrase)
    asyncio.run(_backup(context, settings, to, keep=keep, every=interval, passphrase=passphrase))


@backup_app.command("list")
def list_backups(context: typer.Context, folder: Annotated[Path, typer.Argument(help="where the backups are")]) -> None:
    """The backups in a folder, newest first."""
    from cli.backup.archive import is_encrypted
    from cli.backup.layout import time_of
    from cli.backup.schedule import archives

    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is not a folder.")
    rows = [
        {
            "name": file.name,
            "created": at.isoformat() if (at := time_of(file)) else "",
            "bytes": file.stat().st_size,
            "encrypted": is_encrypted(file),
        }
        for file in archives(folder)
    ]
    if context.obj.json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            kind = "encrypted" if row["encrypted"] else "plain"
            print(f"{row['created']}  {row['bytes']:>14,}  {kind:9}  {row['name']}")
        if not rows:
            print("There are no backups here.")


def restore(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="the backup")],
    replace: Annotated[
        bool, typer.Option("--replace", help="also onto a stack with a catalog or jobs; those are kept aside")
    ] = False,
    passphrase_file: PassphraseFile = None,
    ask_passphrase: Ask = False,
) -> None:
    """Restore a backup: only the bus runs, all services are stopped."""
    from cli.backup.restore import Restore, summary

    settings = load(BackupSettings)
    passphrase = _passphrase(settings, passphrase_file, ask=ask_passphrase, twice=False)
    work = Restore(settings=settings, archive=file, passphrase=passphrase, replace=replace, say=_say(context))
    told = summary(asyncio.run(work.run()))
    _tell(
        context,
        told,
        f"Restored the state of {told['created']}. The passwords of the bus are those of the backup again: run "
        "`music-cloud init`, start nats-server anew, then the services. The catalog is made again from the bus.",
    )


def reseed(
    context: typer.Context,
    source: Annotated[Path, typer.Option("--from", help="catalog.db, of STATE_DIR or a copy of it")],
) -> None:
    """Publish the catalog's facts again from catalog.db, where only the bus was lost. The exporter is stopped."""
    from cli.backup.reseed import Reseed
    from common.bus import Bus

    settings = load(BackupSettings)

    async def work() -> dict[str, int]:
        bus = await Bus.connect(settings, service="operator", instance=f"reseed-{os.getpid()}")
        try:
            return await Reseed(bus=bus, say=_say(context), replicas=settings.nats_replicas).run(source)
        finally:
            await bus.close()

    told = asyncio.run(work())
    _tell(
        context,
        told,
        f"{told['published']} facts were published, {told['present']} were there already. Start the exporter again.",
    )


async def _backup(
    context: typer.Context,
    settings: BackupSettings,
    to: Path,
    *,
    keep: int | None,
    every: timedelta | None,
    passphrase: str | None,
) -> None:
    from cli.backup.make import make_backup
    from cli.backup.restore import summary
    from cli.backup.schedule import prune, repeat
    from common.bus import Bus

    async def once() -> Path:
        bus = await Bus.connect(settings, service="operator", instance=f"backup-{os.getpid()}")
        try:
            made, manifest = await make_backup(settings, bus, to, passphrase=passphrase, say=_say(context))
        finally:
            await bus.close()
        try:
            gone = prune(to, keep=keep, newest=made) if keep is not None else []
        except OSError as error:
            gone = []
            _say(context)(f"older backups could not be removed ({error.strerror}); do that by hand")
        told = {"file": str(made), **summary(manifest), "removed": [file.name for file in gone]}
        removed = f"; removed {len(gone)} older" if gone else ""
        _tell(context, told, f"{made}: {made.stat().st_size:,} bytes, checked{removed}")
        return made

    if every is None:
        await once()
    else:
        await repeat(once, folder=to, every=every, say=_say(context))


def _passphrase(settings: BackupSettings, file: Path | None, *, ask: bool, twice: bool) -> str | None:
    asked = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=twice, err=True) if ask else None
    return find_passphrase(settings, file, asked=asked)


def _say(context: typer.Context) -> Callable[[str], None]:
    return lambda words: typer.echo(words, err=True)


def _tell(context: typer.Context, told: dict[str, Any], words: str) -> None:
    options: Options = context.obj
    print(json.dumps(told, indent=2) if options.json else words, flush=True)
