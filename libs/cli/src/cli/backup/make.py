"""Making a backup while everything runs. The order of what is read is what makes it consistent (ADR 18)."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cli.backup import databases
from cli.backup.archive import PART_BYTES, ArchiveWriter, Manifest, write_archive
from cli.backup.check import check_archive
from cli.backup.errors import BackupFailed
from cli.backup.layout import DATABASES, ENV_FILES, PROJECTIONS, STREAMS, archive_name, is_safe, part_name
from cli.backup.records import to_line
from cli.backup.settings import BackupSettings
from cli.backup.streams import key_value_streams, read_stream, stream_info
from cli.files import Locked, take_lock
from common.bus import Bus
from common.bus.streams import JOBS_STREAM
from common.contracts.streams import CATALOG, STATUS
from common.private_files import sync_folder
from common.secret_files import SECRETS_DIR
from common.settings import env_files

LOCK = ".music-cloud-backup.lock"
_UNFINISHED = ".music-cloud-unfinished-"
_WORK = ".backup-"
_NOT_DATA = (".lock", "-wal", "-shm", "-journal")


async def make_backup(
    settings: BackupSettings, bus: Bus, folder: Path, *, passphrase: str | None, say: Callable[[str], None]
) -> tuple[Path, Manifest]:
    """Make one archive in ``folder``, read it back, and give it its name; the archive and its manifest.

    Raises BackupFailed; what was made before stays.
    """
    at = datetime.now(UTC)
    with _locked(folder):
        final = folder / archive_name(at, encrypted=passphrase is not None)
        if final.exists():
            raise BackupFailed(f"{final.name} is there already. Wait a second and try again.")
        unfinished = folder / f"{_UNFINISHED}{os.getpid()}"
        try:
            created = at.isoformat(timespec="seconds")
            with (
                _work_folder(settings.state) as work,
                write_archive(unfinished, created=created, passphrase=passphrase) as out,
            ):
                known = await asyncio.to_thread(add_databases, settings, out, work)
                streams = await add_streams(bus, out, known_jobs=known)
                if CATALOG not in streams:
                    raise BackupFailed("The bus has no stream CATALOG. Start the console, or restore first.")
                add_files(settings, out)
                manifest = out.finish(streams)
            say("written; reading it back")
            checked = await asyncio.to_thread(check_archive, unfinished, passphrase)
            if checked.digest != manifest.digest:
                raise BackupFailed("What was read back is not what was written: the disk of the backups is failing.")
            unfinished.rename(final)
            sync_folder(folder)
        finally:
            unfinished.unlink(missing_ok=True)
    return final, manifest


async def save_streams(bus: Bus, path: Path, *, passphrase: str | None) -> None:
    """Only what the bus holds, for the case that a restore was a mistake."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    with write_archive(path, created=created, passphrase=passphrase) as out:
        out.finish(await add_streams(bus, out, known_jobs=None))


def add_databases(settings: BackupSettings, out: ArchiveWriter, work: Path) -> int | None:
    """The databases that no replay gives back; the highest number of a job in them, None if there is no console's."""
    known: int | None = None
    taken: set[Path] = set()
    copies: list[tuple[str, Path]] = []
    # All are copied before one is packed: the console's shall not be younger than what follows.
    for service, name in DATABASES.items():
        file, copy = settings.database_file(name), work / f"{service}.db"
        taken.add(file)
        if settings.postgresql_url is not None:
            if not databases.dump_schema(settings.postgresql_url, service, copy):
                continue
        elif file.is_file():
            databases.copy_sqlite(file, copy)
        else:
            continue
        copies.append((f"databases/{service}.db", copy))
        if service == "console":
            known = databases.jobs_of(copy)[0]
    for name, copy in copies:
        out.add_file(name, copy)
        copy.unlink()
    for file in sorted(settings.state.glob("*")) if settings.state.is_dir() else ():
        if file in taken or not _is_data(file):
            continue
        copy = work / file.name
        databases.copy_sqlite(file, copy) if databases.is_sqlite(file) else shutil.copyfile(file, copy)
        out.add_file(f"state/{file.name}", copy)
        copy.unlink()
    return known


async def add_streams(bus: Bus, out: ArchiveWriter, *, known_jobs: int | None) -> dict[str, Any]:
    """STATUS, DEAD, CATALOG, then the KV buckets, JOBS last; what is said of each in the manifest.

    States of jobs above ``known_jobs``, begun since the databases were copied, are left out.
    """
    told: dict[str, Any] = {}
    buckets = [name for name in await key_value_streams(bus) if is_safe(part_name(name, 1))]
    for stream in (*STREAMS, *sorted(buckets, key=lambda name: name == JOBS_STREAM)):
        info = await stream_info(bus, stream)
        if info is None:
            continue
        count = number = last = 0
        part = bytearray()
        async for batch in read_stream(bus, stream):
            for record in batch:
                last = record.sequence
                if stream == STATUS and known_jobs is not None and _job_of(record.subject) > known_jobs:
                    continue
                part += to_line(record)
                count += 1
                if len(part) >= PART_BYTES:
                    number += 1
                    await asyncio.to_thread(out.add_bytes, part_name(stream, number), bytes(part))
                    part.clear()
        if part:
            out.add_bytes(part_name(stream, number + 1), bytes(part))
        config = info.config
        told[stream] = {
            "messages": count,
            "last_sequence": last,
            "created": info.created.isoformat() if info.created else None,
            "max_msgs_per_subject": config.max_msgs_per_subject,
            "max_age": config.max_age,
        }
    return told


def add_files(settings: BackupSettings, out: ArchiveWriter) -> None:
    """Keys and passwords, and the env file where it can be seen."""
    secrets = settings.root_dir / SECRETS_DIR
    for file in sorted(secrets.rglob("*")):
        name = f"secrets/{file.relative_to(secrets).as_posix()}"
        # A name that is not safe is not one that we make: editors leave such files.
        if file.is_file() and not file.is_symlink() and is_safe(name):
            out.add_bytes(name, file.read_bytes())
    for file in env_files():
        if file.name in ENV_FILES and file.is_file():
            out.add_bytes(f"config/{file.name}", file.read_bytes())


def sweep(folder: Path) -> None:
    """Remove what a killed backup left. Only under the lock."""
    for file in folder.glob(f"{_UNFINISHED}*"):
        file.unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = take_lock(folder / LOCK, note=f"process {os.getpid()}")
    except Locked as error:
        raise BackupFailed(f"Another backup into this folder is under way ({error}). Wait for it.") from None
    except OSError as error:
        raise BackupFailed(
            f"{folder} cannot be written ({error.strerror}). Mend that, or name another folder."
        ) from None
    try:
        sweep(folder)
        yield
    except OSError as error:
        raise BackupFailed(
            f"The backup cannot be written or read ({error.strerror or error}). Mend that and try again."
        ) from None
    finally:
        os.close(lock)


@contextmanager
def _work_folder(state: Path) -> Iterator[Path]:
    """Copies of databases lie on the local disk, never beside the archive, which may be a share."""
    own = os.access(state, os.W_OK)
    for left in state.glob(f"{_WORK}*") if own else ():
        _remove_left(left)
    with tempfile.TemporaryDirectory(prefix=_WORK, dir=state if own else None) as name, _locked_folder(Path(name)):
        yield Path(name)


@contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _remove_left(folder: Path) -> None:
    """What a killed backup left; a backup into another folder that is under way has its own locked."""
    with suppress(BlockingIOError, FileNotFoundError), _locked_folder(folder):
        shutil.rmtree(folder, ignore_errors=True)


def _is_data(file: Path) -> bool:
    return (
        file.is_file()
        and not file.is_symlink()
        and not file.name.endswith(_NOT_DATA)
        and not file.name.startswith((".", *PROJECTIONS))
        and is_safe(f"state/{file.name}")
    )


def _job_of(subject: str) -> int:
    token = subject.split(".")[1]
    return int(token) if token.isdigit() else 0
