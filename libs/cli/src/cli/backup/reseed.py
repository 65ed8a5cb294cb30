"""Publishing the facts of CATALOG again from ``catalog.db``, which keeps the last of each as it came.

The tables `fact_…` belong to the exporter; a test that goes there and back holds the two together.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cli.backup.errors import ReseedFailed
from cli.backup.streams import stream_info
from common.bus import Bus, WrongLastSequence
from common.bus.facts import message_id
from common.bus.streams import ensure_streams
from common.catalog.ids import location_id
from common.contracts.envelope import UndecodableMessage, decode
from common.contracts.facts import (
    BackendDefined,
    Fact,
    FileStored,
    PlaylistCollected,
    PoolDefined,
    SongDescribed,
    SongListed,
    SongPinned,
)
from common.contracts.streams import CATALOG
from common.errors import ConfigurationError

_IN_FLIGHT = 500
_SEPARATOR = ", "
Row = dict[str, Any]


class Reseed:
    """Fills an empty CATALOG; what is there already with the same or a later revision stays."""

    def __init__(self, *, bus: Bus, say: Callable[[str], None], replicas: int | None = None) -> None:
        """``replicas``: copies that streams are made with which are missing."""
        self._bus = bus
        self._replicas = replicas
        self._say = say
        self._before = 0
        self._published = 0
        self._present = 0

    async def run(self, source: Path) -> dict[str, int]:
        """Publish every fact; how many were ``published``, ``present``, ``unreadable``. May be run again.

        Raises ConfigurationError when the file is in use or no catalog.db, BusUnavailable.
        """
        if not source.is_file():
            raise ConfigurationError(f"{source} is not a file. Name a catalog.db of the exporter with --from.")
        unreadable = 0
        with _ours(source), closing(_open(source)) as database:
            await ensure_streams(self._bus, replicas=self._replicas)
            self._before = (await self._bus.js.stream_info(CATALOG)).state.last_seq
            for title, facts in _all(database):
                count = 0
                while chunk := list(islice(facts, _IN_FLIGHT)):
                    good = [fact for fact in chunk if fact is not None]
                    unreadable += len(chunk) - len(good)
                    await asyncio.gather(*(self._publish(fact) for fact in good))
                    count += len(good)
                if count:
                    self._say(f"{title}: {count}")
            if await stream_info(self._bus, CATALOG) is None:
                raise ReseedFailed("The stream CATALOG is gone again. Run the same command again.")
            _begin_anew(database)
        return {"published": self._published, "present": self._present, "unreadable": unreadable}

    async def _publish(self, fact: Fact) -> None:
        """Only where the bus has nothing as new: what was collected since the loss has lower revisions."""
        id = message_id(fact.subject, f"reseed:{fact.revision}")
        expected = 0
        while True:
            try:
                sequence = await self._bus.publish(fact.subject, fact, msg_id=id, expect_last=expected)
            except WrongLastSequence:
                stored = await self._bus.last(CATALOG, fact.subject)
                if stored is None:
                    expected = 0
                    continue
                with contextlib.suppress(UndecodableMessage):
                    if decode(stored.data, type(fact)).data.revision >= fact.revision:
                        self._present += 1
                        return
                expected = stored.sequence
                continue
            # The bus knows the id of a run a moment ago, and answers with the place of that message.
            if sequence > self._before:
                self._published += 1
            else:
                self._present += 1
            return


def _open(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=30, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("SELECT sequence FROM projection_state").fetchall()
    except sqlite3.Error as error:
        raise ConfigurationError(
            f"{path} is no catalog of this exporter ({error}). One of the older system is for `music-cloud adopt`."
        ) from None
    return connection


@contextlib.contextmanager
def _ours(path: Path) -> Iterator[None]:
    """Hold the exporter's lock, so that it neither runs nor starts meanwhile."""
    lock = path.with_name(f"{path.name}.lock")
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ConfigurationError("The exporter uses this catalog. Stop it, and start it again afterwards.") from None
    finally:
        os.close(descriptor)


def _begin_anew(database: sqlite3.Connection) -> None:
    """Let the exporter read the new stream from its beginning into the rows that it has: its lineage goes on."""
    database.execute("BEGIN IMMEDIATE")
    database.execute("UPDATE projection_state SET sequence = 0, content_sequence = 0, stream_created = NULL")
    for table in {table for _, table, _, _ in _KINDS}:
        # Sequences of the lost stream would outrank those of the new one.
        database.execute(f"UPDATE {table} SET sequence = 0 WHERE sequence > 0")  # noqa: S608 (our own names)
    database.execute("COMMIT")


def _all(database: sqlite3.Connection) -> Iterator[tuple[str, Iterator[Fact | None]]]:
    """All facts by kind; None for a row that is not one."""
    for title, table, where, make in _KINDS:
        rows = database.execute(f"SELECT * FROM {table} WHERE {where}")  # noqa: S608 (our own names)
        yield title, (_fact(make, dict(row)) for row in rows)


def _fact(make: Callable[[Row], Fact], row: Row) -> Fact | None:
    try:
        return make(row)
    except (ValidationError, ValueError, TypeError, KeyError):
        return None


def _song_listed(row: Row) -> Fact:
    return SongListed(
        **_version(row),
        song_id=row["song_id"],
        platform=row["platform"],
        remote_id=row["remote_id"],
        name=row["name"],
        singers=_names(row, "singers"),
        album=row["album"],
        duration_seconds=row["duration_seconds"],
        ext=row["ext"],
        size=row["size"],
        fingerprint=row["fingerprint"],
        metadata_status=row["metadata_status"],
        metadata=_json(row["metadata"], {}),
    )


def _song_described(row: Row) -> Fact:
    return SongDescribed(
        **_version(row),
        song_id=row["song_id"],
        name=row["name"],
        singers=_names(row, "singers"),
        album=row["album"],
        metadata=_json(row["metadata"], {}),
    )


def _song_pinned(row: Row) -> Fact:
    return SongPinned(
        **_version(row),
        song_id=row["song_id"],
        name=row["name"],
        singers=_names(row, "singers"),
        **_json(row["choice"], {}),
    )


def _file_stored(row: Row) -> Fact:
    return FileStored(
        **_version(row),
        backend=row["backend"],
        backend_kind=row["backend_kind"],
        song_id=row["song_id"],
        variant=row["variant"],
        asset_id=row["asset_id"],
        location_id=_adopted(row["location_id"], location_id(row["asset_id"], row["backend"])),
        locator=row["locator"],
        sha256=row["sha256"],
        size=row["size"],
        quality_label=row["quality_label"],
        format={"ext": row["ext"], **_json(row["format"], {})},
        tags={"title": row["title"], "artists": _names(row, "singers"), "album": row["album"]},
        **_json(row["origin"], {}),
    )


def _playlist_page(row: Row) -> Fact:
    header = None
    if row["song_count"] is not None:
        names = ("name", "description", "cover_url", "play_count", "url", "song_count", "upstream", "notice")
        header = {name: row[name] for name in names}
    return PlaylistCollected(
        **_version(row),
        playlist_id=row["playlist_id"],
        platform=row["platform"],
        remote_id=row["remote_id"],
        version=row["version"],
        page=row["page"],
        pages=row["pages"],
        header=header,
        entries=_json(row["entries"], ()),
        fingerprint=row["fingerprint"],
    )


def _pool_defined(row: Row) -> Fact:
    return PoolDefined(
        **_version(row),
        pool_id=row["pool_id"],
        platform=row["platform"],
        pool_kind=row["pool_kind"],
        external_id=row["external_id"],
        name=row["name"],
        url=row["url"],
        metadata=_json(row["metadata"], {}),
        playlist_ids=_json(row["playlist_ids"], ()),
    )


def _backend_defined(row: Row) -> Fact:
    return BackendDefined(
        **_version(row),
        backend=row["backend"],
        kind=row["kind"],
        public_base_url=row["public_base_url"],
        read_only=bool(row["read_only"]),
        backend_id=row.get("backend_id"),
    )


def _adopted(id: int, derived: int) -> int | None:
    return id if id != derived else None


def _version(row: Row) -> Row:
    return {"revision": row["revision"], "removed": bool(row["removed"])}


def _json(text: str | None, nothing: Any) -> Any:
    return json.loads(text) if text else nothing


def _names(row: Row, column: str) -> tuple[str, ...]:
    """The names as a list; one that holds the separator itself is kept beside by the exporter."""
    if listed := row.get(f"{column}_list"):
        return tuple(json.loads(listed))
    return tuple(row[column].split(_SEPARATOR)) if row[column] else ()


_KINDS: tuple[tuple[str, str, str, Callable[[Row], Fact]], ...] = (
    ("backends", "fact_backends", "true", _backend_defined),
    ("songs", "fact_songs_listed", "true", _song_listed),
    ("descriptions", "fact_songs_described", "true", _song_described),
    ("choices", "fact_songs_pinned", "true", _song_pinned),
    ("files", "fact_files", "true", _file_stored),
    # Page 0 says that the set is complete, so it comes last.
    ("further pages of playlists", "fact_playlist_pages", "page > 0", _playlist_page),
    ("playlists", "fact_playlist_pages", "page = 0", _playlist_page),
    ("pools", "fact_pools", "true", _pool_defined),
)
