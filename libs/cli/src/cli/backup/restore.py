"""Restoring: all is checked before anything is changed; what was there is kept aside; run again, it starts over."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import filecmp
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nats.aio.msg import Msg

from cli.backup import databases
from cli.backup.archive import Manifest, read_entries
from cli.backup.check import check_archive
from cli.backup.errors import ArchiveDamaged, NotEmpty, RestoreFailed
from cli.backup.layout import DATABASES, PROJECTIONS, STREAMS, stamp, stream_of
from cli.backup.make import save_streams
from cli.backup.records import Record, from_lines
from cli.backup.settings import BackupSettings
from cli.backup.streams import drop_stream, key_value_streams, make_bucket, read_stream, stream_info, write_stream
from cli.backup.unfinished import put_back
from cli.files import Locked, take_lock
from common.audit import RESTORE_MARKER
from common.bus import Bus
from common.bus.jobs import JOBS_SUBJECT
from common.bus.streams import JOBS_STREAM, ensure_streams
from common.contracts.envelope import UndecodableMessage, decode, encode, wrap
from common.contracts.jobs import JobsState
from common.contracts.streams import LOG, WORK
from common.private_files import sync_folder, write_private
from common.secret_files import SECRETS_DIR
from common.settings import ENV_FILES, env_files

MARKER = RESTORE_MARKER
"""Which archive, since when, and what of it is done. No service starts while it is there."""
_STAGING = ".restore-staging"
_ASIDE = ".before-restore-"
_HARMLESS = ("backend.defined.", "snapshot.published.")
"""Facts that a stack states by itself when it is started for the first time."""
_LISTEN_SECONDS = 1.0
"""Past the time between two heartbeats."""
_BUS, _SECRETS = "bus", "secrets"


@dataclass
class Marker:
    """How far a restore has come."""

    path: Path
    backup: str
    stamp: str
    done: list[str]

    def write(self) -> None:
        """Keep it, also over a power cut."""
        write_private(
            self.path, json.dumps({"backup": self.backup, "stamp": self.stamp, "done": self.done}, indent=1) + "\n"
        )

    def mark(self, step: str) -> None:
        """Note that a step is done."""
        if step not in self.done:
            self.done.append(step)
            self.write()


class Restore:
    """One restore of one archive."""

    def __init__(
        self,
        *,
        settings: BackupSettings,
        archive: Path,
        passphrase: str | None,
        replace: bool,
        say: Callable[[str], None],
    ) -> None:
        """``replace``: also onto a stack that holds a catalog or jobs; those are kept aside."""
        self._settings = settings
        self._archive = archive
        self._passphrase = passphrase
        self._replace = replace
        self._say = say
        self._state = settings.state
        self._staging = settings.state / _STAGING

    async def run(self) -> Manifest:
        """Restore everything. Raises ArchiveDamaged, WrongPassphrase, NotEmpty, RestoreFailed."""
        try:
            return await self._run()
        except OSError as error:
            where = f" at {error.filename}" if error.filename else ""
            raise RestoreFailed(
                f"The disk does not let us go on{where} ({error.strerror or type(error).__name__}). Mend that, and run "
                "the same command again."
            ) from None

    async def _run(self) -> Manifest:
        self._state.mkdir(parents=True, exist_ok=True)
        with _only_one(self._state), self._stopped_databases():
            try:
                self._say("checking the backup")
                manifest = await asyncio.to_thread(self._check)
                marker = self._read_marker(manifest)
                if _SECRETS not in marker.done:
                    await self._restore_bus_and_databases(manifest, marker)
                self._put_secrets(marker)
                marker.path.unlink()
                sync_folder(marker.path.parent)
            finally:
                shutil.rmtree(self._staging, ignore_errors=True)
        return manifest

    def _check(self) -> Manifest:
        shutil.rmtree(self._staging, ignore_errors=True)
        self._staging.mkdir(mode=0o700)
        return check_archive(self._archive, self._passphrase, extract_to=self._staging)

    async def _restore_bus_and_databases(self, manifest: Manifest, marker: Marker) -> None:
        bus = await Bus.connect(self._settings, service="operator", instance=f"restore-{os.getpid()}")
        try:
            await self._require_silence(bus)
            empty = await self._bus_is_empty(bus)
            if not marker.path.exists():
                self._require_permission(empty and not await asyncio.to_thread(self._jobs_here))
                marker.write()
            if not empty and "saved" not in marker.done:
                self._say("keeping aside what the bus holds")
                await self._save_bus(bus, marker)
            marker.mark("saved")
            self._say("restoring the bus")
            await self._put_streams(bus, manifest)
            self._say("restoring databases and keys")
            await asyncio.to_thread(self._put_databases, marker)
            marker.mark(_SECRETS)
        finally:
            await bus.close()

    def _read_marker(self, manifest: Manifest) -> Marker:
        path = self._state / MARKER
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            found = Marker(path, str(told["backup"]), str(told["stamp"]), [str(step) for step in told["done"]])
        except FileNotFoundError:
            return Marker(path, manifest.digest, stamp(datetime.now(UTC)), [])
        except (ValueError, KeyError, TypeError):
            raise NotEmpty(f"{path} cannot be read. Remove it and restore with --replace.") from None
        if found.backup == manifest.digest:
            self._say("an interrupted restore of this backup is started over")
            return found
        if not self._replace:
            raise NotEmpty(
                "A restore of another backup was interrupted here. Run that one again, or give --replace to use this."
            )
        path.unlink()
        return Marker(path, manifest.digest, stamp(datetime.now(UTC)), [])

    # what must hold before anything is changed

    @contextlib.contextmanager
    def _stopped_databases(self) -> Iterator[None]:
        """Hold the locks that the services hold on their databases: none runs here, and none starts."""
        with contextlib.ExitStack() as stack:
            for name in (*DATABASES.values(), *PROJECTIONS):
                file = self._settings.database_file(name)
                lock = file.with_name(f"{file.name}.lock")
                if not lock.exists():
                    continue
                descriptor = os.open(lock, os.O_RDWR)
                stack.callback(os.close, descriptor)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    raise NotEmpty(
                        f"{name} is in use. Stop all services but the bus (nats), and restore then."
                    ) from None
            yield

    async def _require_silence(self, bus: Bus) -> None:
        heard: set[str] = set()

        async def hear(message: Msg) -> None:
            heard.add(message.subject.split(".")[1])

        subscription = await bus.nc.subscribe("hb.>", cb=hear)
        await asyncio.sleep(self._settings.heartbeat_seconds + _LISTEN_SECONDS)
        await subscription.unsubscribe()
        if heard:
            raise NotEmpty(f"Still running: {', '.join(sorted(heard))}. Stop all services but the bus (nats) first.")

    async def _bus_is_empty(self, bus: Bus) -> bool:
        for stream in STREAMS:
            if await stream_info(bus, stream) is None:
                continue
            async for batch in read_stream(bus, stream):
                if any(not record.subject.startswith(_HARMLESS) for record in batch):
                    return False
        return True

    def _jobs_here(self) -> bool:
        if self._settings.postgresql_url is not None:
            return databases.has_jobs(self._settings.postgresql_url)
        file = self._settings.database_file(DATABASES["console"])
        try:
            return file.is_file() and databases.jobs_of(file)[0] > 0
        except sqlite3.Error:
            return True  # damaged, which may be why there is a restore; it is kept aside like a good one

    def _require_permission(self, empty: bool) -> None:
        if not empty and not self._replace:
            raise NotEmpty(
                "There is a catalog or there are jobs here already. Give --replace to restore all the same; what is "
                "there is kept aside, below STATE_DIR."
            )

    # the bus

    async def _save_bus(self, bus: Bus, marker: Marker) -> None:
        aside = self._aside(marker)
        unfinished = aside / "bus.tar.zst.unfinished"
        unfinished.unlink(missing_ok=True)
        await save_streams(bus, unfinished, passphrase=None)
        unfinished.rename(aside / "bus.tar.zst")

    async def _put_streams(self, bus: Bus, manifest: Manifest) -> None:
        buckets = [name for name in manifest.streams if name.startswith("KV_")]
        for stream in {*STREAMS, WORK, LOG, *buckets, *await key_value_streams(bus)}:
            await drop_stream(bus, stream)
        await ensure_streams(bus, replicas=self._settings.nats_replicas)
        for bucket in buckets:
            if await stream_info(bus, bucket) is None:
                await make_bucket(bus, bucket, manifest.streams[bucket])
        jobs = JobsState()
        for stream, records in self._parts(manifest):
            if stream == JOBS_STREAM:
                jobs = _newest(jobs, records)
            else:
                await write_stream(bus, records)
        # No job is in it: the console finds that, and begins each again that has not ended.
        empty = JobsState(revision=jobs.revision + 1, last_job_id=jobs.last_job_id)
        content = encode(wrap(empty, id=f"restore-{manifest.digest[:24]}", producer=bus.producer))
        await write_stream(bus, [Record(0, JOBS_SUBJECT, 0, content)])
        console = self._staging / "databases" / "console.db"
        unended = databases.jobs_of(console)[1] if console.is_file() else None
        await put_back(bus, unended)

    def _parts(self, manifest: Manifest) -> Iterator[tuple[str, list[Record]]]:
        """The parts of all streams; each is compared with what was checked before a message of it is used."""
        seen: dict[str, tuple[int, str]] = {}
        for entry in read_entries(self._archive, self._passphrase, seen):
            stream = stream_of(entry.name)
            if stream is None:
                continue
            content = entry.content()
            if entry.finish() != manifest.members.get(entry.name):
                raise ArchiveDamaged("The backup has changed since it was checked. Run the same command again.")
            yield stream, list(from_lines(content, stream))

    # files

    def _aside(self, marker: Marker) -> Path:
        aside = self._state / f"{_ASIDE}{marker.stamp}"
        aside.mkdir(mode=0o700, exist_ok=True)
        return aside

    def _put_databases(self, marker: Marker) -> None:
        url = self._settings.postgresql_url
        for service, name in DATABASES.items():
            source = self._staging / "databases" / f"{service}.db"
            if not source.is_file():
                continue
            if url is not None:
                databases.load_schema(url, service, source, aside=f"{service}_before_{marker.stamp.lower()}")
            else:
                self._put_file(source, self._settings.database_file(name), marker)
        for source in sorted(self._staging.glob("state/*")):
            self._put_file(source, self._state / source.name, marker)
        for name in PROJECTIONS:
            self._put_file(None, self._state / name, marker)

    def _put_secrets(self, marker: Marker) -> None:
        folder = self._staging / "secrets"
        for source in sorted(folder.rglob("*")):
            if source.is_file():
                relative = source.relative_to(folder)
                self._put_file(source, self._settings.root_dir.absolute() / SECRETS_DIR / relative, marker)
        for source in sorted(self._staging.glob("config/*")):
            self._put_config(source)

    def _put_config(self, source: Path) -> None:
        """Settings name folders and addresses of a machine, so those that are there stay in force."""
        present = next((file for file in env_files() if file.name in ENV_FILES and file.is_file()), None)
        if present is None:
            target = Path(source.name)
        elif present.read_bytes() == source.read_bytes():
            return
        else:
            target = present.with_name(f"{source.name}.from-backup")
            self._say(f"{present} is left as it is; the one of the backup is beside it as {target.name}")
        try:
            _replace_file(source, target.absolute(), self._owner())
        except OSError as error:
            self._say(f"{target} could not be written ({error.strerror}); set it up again by hand")

    def _put_file(self, source: Path | None, target: Path, marker: Marker) -> None:
        """Put a file in place of another; the other goes aside, unless one of that name did so before."""
        if source is not None and target.is_file() and filecmp.cmp(source, target, shallow=False):
            return
        kept = self._aside(marker) / target.parent.name / target.name
        for suffix in ("-wal", "-shm", ""):
            old = target.with_name(target.name + suffix)
            if not old.exists():
                continue
            # Beside a new database a log would be taken for that one's.
            keep = kept.with_name(old.name)
            if keep.exists():
                old.unlink()
            else:
                keep.parent.mkdir(exist_ok=True, mode=0o700)
                shutil.move(old, keep)
        if source is not None:
            _replace_file(source, target, self._owner())

    def _owner(self) -> tuple[int, int] | None:
        """Whom files shall belong to, where we are root and the services are not."""
        if os.geteuid() != 0:
            return None
        found = self._settings.root_dir.stat()
        return found.st_uid, found.st_gid


def _newest(jobs: JobsState, records: list[Record]) -> JobsState:
    for record in records:
        if record.subject == JOBS_SUBJECT:
            with contextlib.suppress(UndecodableMessage):
                jobs = decode(record.data, JobsState).data
    return jobs


def _replace_file(source: Path, target: Path, owner: tuple[int, int] | None) -> None:
    """A copy under another name, on the disk, then renamed."""
    for folder in reversed([folder for folder in target.parents if not folder.exists()]):
        folder.mkdir(mode=0o700)
        if owner:
            os.chown(folder, *owner)
    temporary = target.with_name(f".{target.name}.restore")
    temporary.unlink(missing_ok=True)
    with (
        source.open("rb") as read,
        os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
    ):
        shutil.copyfileobj(read, file, 1024 * 1024)
        file.flush()
        os.fsync(file.fileno())
        if owner:
            os.fchown(file.fileno(), *owner)
    temporary.replace(target)
    sync_folder(target.parent)


@contextlib.contextmanager
def _only_one(state: Path) -> Iterator[None]:
    try:
        lock = take_lock(state / ".restore.lock", note=f"process {os.getpid()}")
    except Locked as error:
        raise NotEmpty(f"Another restore is under way here ({error}).") from None
    try:
        yield
    finally:
        os.close(lock)


def summary(manifest: Manifest) -> dict[str, Any]:
    """What an archive holds, for people and programs."""
    return {
        "created": manifest.head["created"],
        "program": manifest.head["program"],
        "messages": {name: stream.get("messages") for name, stream in manifest.streams.items()},
        "databases": sorted(name for name in manifest.members if name.startswith(("databases/", "state/"))),
        "bytes": sum(size for size, _ in manifest.members.values()),
    }
