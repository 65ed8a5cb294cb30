"""The order of moving in: look, then files, songs, playlists and pools, each only where CATALOG has none.

Files come before the songs that they belong to, and songs before the playlists that list them: whoever reads
meanwhile never sees a song that seems to be missing. Nothing is remembered but CATALOG itself, so that an
interrupted run goes on where it was, and a second one changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar

from nats.js.errors import NotFoundError
from pydantic import BaseModel

from cli.adopt.files import Matching, Place, find_place
from cli.adopt.older import Older, content, discard, identifier, open_copy, text
from cli.adopt.report import Report
from cli.adopt.scan import scan
from cli.adopt.things import Things, token
from common.bus.connection import Bus
from common.bus.facts import IN_FLIGHT, FactWriter
from common.bus.jobs import JOBS_SUBJECT
from common.bus.streams import JOBS_STREAM
from common.contracts.envelope import UndecodableMessage
from common.contracts.facts import BackendDefined, Fact, FileStored, PlaylistCollected, PoolDefined, SongListed
from common.contracts.jobs import JobsState
from common.contracts.names import UNKNOWN_SHA256, BackendKind
from common.contracts.streams import CATALOG
from common.errors import ConfigurationError, DependencyDown, PermanentError
from common.storage.filesystem import FilesystemStorage, copy_verified

Verify = Literal["size", "full"]
Tell = Callable[[str, int, int | None], None]
"""Told (what is being done, how many are done, of how many)."""
T = TypeVar("T")
F = TypeVar("F", bound=Fact)
_READ_AT_ONCE = 2
"""Files read at the same time: disks of a NAS read two streams well, and more of them worse."""

_FEW = 1000
"""With fewer facts in CATALOG most of what is adopted is new, and is published without a look first."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to adopt. ``library`` is known to the services as the backend ``backend``; ``called`` is its older name."""

    database: Path
    library: Path
    backend: str
    called: str | None
    verify: Verify
    dry_run: bool
    work: Path


class Adopt:
    """One run."""

    def __init__(self, *, bus: Bus, wanted: Wanted, report: Report, tell: Tell) -> None:
        self._bus = bus
        self._writer = FactWriter(bus)
        self._wanted = wanted
        self._report = report
        self._tell = tell
        self._cause = f"adopt:{secrets.token_hex(8)}"
        self._reading = asyncio.Semaphore(_READ_AT_ONCE)
        self._empty = self._mostly_new = False

    async def run(self) -> None:
        """Adopt, or only say what would be adopted."""
        await self._look_at_bus()
        self._tell("copying the database", 0, None)
        try:
            with contextlib.closing(open_copy(self._wanted.database, self._wanted.work)) as older:
                place = find_place(
                    older, library=self._wanted.library, backend=self._wanted.backend, called=self._wanted.called
                )
                await self._adopt(older, place)
        except sqlite3.DatabaseError as error:
            raise ConfigurationError(
                f"The older database is damaged ({error}). What was adopted stays; run this again with a good copy."
            ) from None
        finally:
            discard(self._wanted.work)

    async def _adopt(self, older: Older, place: Place) -> None:
        things, matching = Things(older, self._report), Matching(older, place, self._report)
        self._tell("reading the database", 0, None)
        songs, playlists = things.settle()
        scan(place.library, older, self._report, progress=lambda done: self._tell("looking at the library", done, None))
        await self._all("backends", _backends(older, place), 1)
        await self._all("files", matching.facts(), older.count("file_locations"))
        matching.unknown()
        await self._all("songs", things.songs(), songs)
        await self._playlists(things.playlists(), playlists)
        await self._all("pools", things.pools(), older.count("playlist_pools"))

    async def _look_at_bus(self) -> None:
        try:
            info = await self._bus.js.stream_info(CATALOG)
        except NotFoundError:
            raise ConfigurationError(
                "The bus has no catalog yet. Start Music Cloud once (its console makes the catalog), then adopt."
            ) from None
        self._empty = info.state.messages == 0
        self._mostly_new = info.state.messages < _FEW
        jobs = await self._bus.last_message(JOBS_STREAM, JOBS_SUBJECT, JobsState)
        running = [str(job.job_id) for job in jobs.data.jobs if not job.state.ended] if jobs else []
        if running and not self._wanted.dry_run:
            raise ConfigurationError(
                f"A job is under way ({', '.join(running)}): it would download what is about to be adopted. Wait for "
                "it or cancel it (`music-cloud jobs cancel NUMBER`), then adopt."
            )

    async def _all(self, kind: str, facts: Iterable[Fact], total: int) -> None:
        done = 0
        for chunk in _chunks(iter(facts), IN_FLIGHT):
            await asyncio.gather(*(self._count(kind, fact) for fact in chunk))
            done += len(chunk)
            self._tell(kind, done, max(total, done))

    async def _playlists(self, playlists: Iterator[list[PlaylistCollected]], total: int) -> None:
        """Pages of many playlists at once; page 0 of each when the others are there."""
        done = 0
        for chunk in _chunks(playlists, 50):
            others = (page for pages in chunk for page in pages[:-1])
            for some in _chunks(others, IN_FLIGHT):
                await asyncio.gather(*(self._put(page) for page in some))
            await asyncio.gather(*(self._count("playlists", pages[-1]) for pages in chunk))
            done += len(chunk)
            self._tell("playlists", done, max(total, done))

    async def _count(self, kind: str, fact: Fact) -> None:
        try:
            new = await self._put(fact)
        except PermanentError as error:
            if error.code != "message-too-large":
                raise
            self._report.leave("too-large", kind, fact.subject)
        except OSError:
            self._report.leave("file-unreadable", "file", fact.subject, getattr(fact, "locator", ""))
        else:
            (self._report.taken if new else self._report.already)[kind] += 1

    async def _put(self, fact: Fact) -> bool:
        """Publish the fact where there is none; return whether there was none."""
        if isinstance(fact, BackendDefined):
            return await self._define(fact)
        if self._wanted.verify == "full" and isinstance(fact, FileStored):
            return await self._put_read(fact)
        if self._wanted.dry_run:
            return self._empty or await self._is_free(fact)
        if not self._mostly_new and not await self._is_free(fact):
            return False
        if await self._writer.add(fact, cause=self._cause):
            return True
        await self._check_key(fact)
        return False

    async def _is_free(self, fact: Fact) -> bool:
        if await self._bus.last(CATALOG, fact.subject) is None:
            return True
        await self._check_key(fact)
        return False

    async def _check_key(self, fact: Fact) -> None:
        """Report it if another thing stands under this id."""
        if isinstance(fact, FileStored):
            return
        held = await self._held(fact)
        if held is None or _key(held) != _key(fact):
            self._report.leave("id-taken", fact.TYPE.partition(".")[0], fact.subject.rpartition(".")[2], _key(fact)[-1])

    async def _put_read(self, fact: FileStored) -> bool:
        """The file with the digest of its bytes; what was adopted unread before gets one."""
        held = await self._held(fact)
        if held is not None and (
            held.removed or held.sha256 != UNKNOWN_SHA256 or (held.locator, held.size) != (fact.locator, fact.size)
        ):
            return False
        if self._wanted.dry_run:
            return held is None
        async with self._reading:
            fact = await asyncio.to_thread(_digested, self._wanted.library, fact)
        if held is None:
            return await self._writer.add(fact, cause=self._cause)
        await self._writer.publish(held.model_copy(update={"sha256": fact.sha256}), cause=self._cause)
        self._report.notes["files that were adopted before and now have the digest of their bytes"] += 1
        return False

    async def _define(self, fact: BackendDefined) -> bool:
        """The backend's id is added to what the console says of it."""
        held = await self._held(fact)
        if held is not None and (held.removed or held.backend_id is not None or held.kind != fact.kind):
            return False
        if not self._wanted.dry_run:
            known = fact if held is None else held.model_copy(update={"backend_id": fact.backend_id})
            await self._writer.publish(known, cause=self._cause)
        return True

    async def _held(self, fact: F) -> F | None:
        try:
            envelope = await self._bus.last_message(CATALOG, fact.subject, type(fact))
        except UndecodableMessage:
            return None
        return envelope.data if envelope else None


def _backends(older: Older, place: Place) -> Iterator[BackendDefined]:
    """The folder that is adopted, and the older object stores: what is uploaded there later keeps their ids."""
    if place.older_id is not None:
        yield BackendDefined(backend=place.backend, backend_id=place.older_id, kind=BackendKind.FILESYSTEM)
    for row in older.rows("storage_backends"):
        name, id = token(row["name"]), identifier(row["id"])
        if text(row["backend_type"]) == BackendKind.OBJECT_STORAGE and name and id is not None:
            url = (content(row["config_json"]) or {}).get("public_base_url")
            yield BackendDefined(
                backend=name,
                backend_id=id,
                kind=BackendKind.OBJECT_STORAGE,
                public_base_url=url if isinstance(url, str) else None,
            )


def _key(fact: BaseModel) -> tuple[str, ...]:
    match fact:
        case SongListed() | PlaylistCollected():
            return (fact.platform, fact.remote_id)
        case PoolDefined():
            return (fact.platform, fact.external_id)
    return ("",)


def _digested(library: Path, fact: FileStored) -> FileStored:
    """Blocking. Raises OSError when the file cannot be read, or is no longer as long as it was."""
    try:
        with FilesystemStorage(root=library).open(fact.locator) as file:
            sha256, size = copy_verified(file, None)
    except (PermanentError, DependencyDown) as error:
        raise OSError(error.message) from None
    if size != fact.size:
        raise OSError("it changed while it was read")
    return fact.model_copy(update={"sha256": sha256})


def _chunks(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while chunk := list(islice(items, size)):
        yield chunk
