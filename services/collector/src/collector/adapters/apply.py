"""Writing the record: facts and item states, as they come from the streams."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError
from sqlalchemy import Connection, Engine, Table, bindparam, delete, insert, select

from collector.service import listing
from collector.service.identity import PLAYLIST, POOL, SONG, derived_id
from collector.service.pools import digest_of as pool_digest
from common.bus.connection import Stored
from common.contracts.envelope import UndecodableMessage, decode
from common.contracts.facts import Fact, FileStored, PlaylistCollected, PoolDefined, SongListed, SongPinned
from common.contracts.names import ItemState
from common.contracts.status import ItemStatus
from common.contracts.work import SongDownload
from common.database import upsert
from common.telemetry import get_logger

from . import tables as t

CATALOG_KEY = "catalog"
STATUS_KEY = "status"
F = TypeVar("F", bound=Fact)
K = TypeVar("K")


class Writer:
    """Applies batches, each in one transaction with the place in the stream. One thread at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def place(self, key: str) -> tuple[int, str]:
        """(last sequence applied, identity of the stream it came from)."""
        with self._engine.connect() as connection:
            value = connection.execute(select(t.meta.c.value).where(t.meta.c.key == key)).scalar()
        sequence, _, identity = (value or "0").partition(" ")
        return int(sequence), identity

    def reset(self, key: str, identity: str) -> None:
        """Forget what came from one stream, and begin it anew."""
        own: Sequence[Table] = (t.given_up,) if key == STATUS_KEY else _CATALOG_TABLES
        with self._engine.begin() as connection:
            for table in own:
                connection.execute(delete(table))
            _set_place(connection, key, 0, identity)

    def apply_catalog(self, batch: Sequence[Stored], identity: str) -> dict[int, str]:
        """Apply facts; return the digests of the songs among them."""
        songs: dict[int, SongListed] = {}
        stored: dict[tuple[int, str, str], FileStored] = {}
        collected: dict[tuple[int, int], PlaylistCollected] = {}
        pools: dict[int, PoolDefined] = {}
        choices: dict[int, SongPinned] = {}
        for message in batch:
            if (song := _decode(message, SongListed)) is not None:
                _keep_newest(songs, song.song_id, song)
            elif (file := _decode(message, FileStored)) is not None:
                _keep_newest(stored, (file.song_id, file.variant, file.backend), file)
            elif (page := _decode(message, PlaylistCollected)) is not None:
                _keep_newest(collected, (page.playlist_id, page.page), page)
            elif (pool := _decode(message, PoolDefined)) is not None:
                _keep_newest(pools, pool.pool_id, pool)
            elif (choice := _decode(message, SongPinned)) is not None:
                _keep_newest(choices, choice.song_id, choice)
        rows = {song_id: _song_row(song) for song_id, song in songs.items()}
        with self._engine.begin() as connection:
            _upsert(connection, t.songs, rows.values())
            _upsert(connection, t.stored, map(_stored_row, stored.values()))
            _upsert(connection, t.choices, map(_choice_row, choices.values()))
            _apply_pages(connection, collected.values())
            for pool in pools.values():
                _apply_pool(connection, pool)
            _apply_adopted(connection, songs.values(), collected.values(), pools.values())
            _set_place(connection, CATALOG_KEY, batch[-1].sequence, identity)
        return {song_id: row["digest"] for song_id, row in rows.items()}

    def apply_status(self, batch: Sequence[Stored], identity: str) -> None:
        """Apply states of download items: what failed for good, and what did not after all."""
        failed: dict[int, dict[str, Any]] = {}
        succeeded: set[int] = set()
        for message in batch:
            try:
                status = decode(message.data, ItemStatus).data
                request = SongDownload.model_validate(status.request)
            except (UndecodableMessage, ValidationError):
                continue
            if status.state is ItemState.FAILED and status.permanent and status.reason is not None:
                succeeded.discard(request.song_id)
                failed[request.song_id] = {
                    "song_id": request.song_id,
                    "wish": listing.wish_of(request),
                    "code": status.reason.code,
                    "givers": f" {' '.join(request.givers)} ",
                }
            elif status.state is ItemState.SUCCEEDED:
                failed.pop(request.song_id, None)
                succeeded.add(request.song_id)
        with self._engine.begin() as connection:
            if succeeded:
                connection.execute(
                    delete(t.given_up).where(t.given_up.c.song_id == bindparam("id")),
                    [{"id": song_id} for song_id in succeeded],
                )
            _upsert(connection, t.given_up, failed.values(), revised=False)
            _set_place(connection, STATUS_KEY, batch[-1].sequence, identity)


_CATALOG_TABLES = (t.songs, t.playlists, t.pages, t.entries, t.pools, t.pool_playlists, t.stored, t.adopted, t.choices)


def _decode(message: Stored, model: type[F]) -> F | None:
    """The fact in a message of this type; None for another type, and for what is not ours."""
    if not message.subject.startswith(f"{model.TYPE}."):
        return None
    try:
        fact = decode(message.data, model).data
        if fact.subject != message.subject:
            raise UndecodableMessage("its payload belongs to another subject")
    except UndecodableMessage as error:
        get_logger().warning("a fact was ignored", subject=message.subject[:200], reason=str(error)[:200])
        return None
    return fact


def _keep_newest(facts: dict[K, F], key: K, fact: F) -> None:
    if (other := facts.get(key)) is None or fact.revision >= other.revision:
        facts[key] = fact


def _choice_row(fact: SongPinned) -> dict[str, Any]:
    return {
        "song_id": fact.song_id,
        "choice": fact.model_dump_json(),
        "revision": fact.revision,
        "removed": fact.removed,
    }


def _song_row(fact: SongListed) -> dict[str, Any]:
    return {
        "song_id": fact.song_id,
        "platform": fact.platform,
        "remote_id": fact.remote_id,
        "fingerprint": fact.fingerprint,
        "digest": listing.digest_of(fact),
        "wish": listing.wish_of(fact),
        "owner": listing.owner_of(fact),
        "listing": fact.model_dump_json(exclude_defaults=True, exclude={"revision"}),
        "revision": fact.revision,
        "removed": fact.removed,
    }


def _stored_row(fact: FileStored) -> dict[str, Any]:
    return {
        "song_id": fact.song_id,
        "variant": fact.variant,
        "backend": fact.backend,
        "kind": fact.backend_kind,
        "sha256": fact.sha256,
        "listing_fingerprint": fact.listing_fingerprint,
        "payload": fact.model_dump_json(exclude_defaults=True),
        "revision": fact.revision,
        "removed": fact.removed,
    }


def _upsert(connection: Connection, table: Table, rows: Iterable[dict[str, Any]], *, revised: bool = True) -> None:
    """Write rows; one with an older revision than what is there is ignored."""
    values = list(rows)
    if not values:
        return
    statement = upsert(connection, table)
    keys = [column.name for column in table.primary_key]
    statement = statement.on_conflict_do_update(
        index_elements=keys,
        set_={column.name: statement.excluded[column.name] for column in table.c if column.name not in keys},
        where=(statement.excluded.revision >= table.c.revision) if revised else None,
    )
    connection.execute(statement, values)


def _apply_pages(connection: Connection, facts: Iterable[PlaylistCollected]) -> None:
    facts = [fact for fact in facts if _is_newer(connection, fact)]
    if not facts:
        return
    connection.execute(
        delete(t.entries).where(t.entries.c.playlist_id == bindparam("id"), t.entries.c.page == bindparam("number")),
        [{"id": fact.playlist_id, "number": fact.page} for fact in facts],
    )
    rows = [
        {"playlist_id": fact.playlist_id, "page": fact.page, "position": position, "song_id": song_id}
        for fact in facts
        if not fact.removed
        for position, song_id in dict(fact.entries).items()
    ]
    if rows:
        connection.execute(insert(t.entries), rows)
    _upsert(
        connection,
        t.pages,
        [
            {
                "playlist_id": fact.playlist_id,
                "page": fact.page,
                "version": fact.version,
                "revision": fact.revision,
            }
            for fact in facts
        ],
    )
    _upsert(
        connection,
        t.playlists,
        [
            {
                "playlist_id": fact.playlist_id,
                "platform": fact.platform,
                "remote_id": fact.remote_id,
                "pages": fact.pages,
                "header": fact.header.model_dump_json() if fact.header else '{"name":"","song_count":0}',
                "fingerprint": fact.fingerprint,
                "removed": fact.removed,
            }
            for fact in facts
            if fact.page == 0
        ],
        revised=False,
    )


def _is_newer(connection: Connection, fact: PlaylistCollected) -> bool:
    revision = connection.execute(
        select(t.pages.c.revision).where(t.pages.c.playlist_id == fact.playlist_id, t.pages.c.page == fact.page)
    ).scalar()
    return revision is None or fact.revision >= revision


def _apply_pool(connection: Connection, fact: PoolDefined) -> None:
    revision = connection.execute(select(t.pools.c.revision).where(t.pools.c.pool_id == fact.pool_id)).scalar()
    if revision is not None and fact.revision < revision:
        return
    _upsert(
        connection,
        t.pools,
        [
            {
                "pool_id": fact.pool_id,
                "platform": fact.platform,
                "external_id": fact.external_id,
                "name": fact.name,
                "digest": pool_digest(fact),
                "revision": fact.revision,
                "removed": fact.removed,
            }
        ],
    )
    connection.execute(delete(t.pool_playlists).where(t.pool_playlists.c.pool_id == fact.pool_id))
    rows = [
        {"pool_id": fact.pool_id, "position": position, "playlist_id": playlist_id}
        for position, playlist_id in enumerate(fact.playlist_ids)
    ]
    if rows and not fact.removed:
        connection.execute(insert(t.pool_playlists), rows)


def _apply_adopted(
    connection: Connection,
    songs: Iterable[SongListed],
    pages: Iterable[PlaylistCollected],
    pools: Iterable[PoolDefined],
) -> None:
    """Remember the ids that are not the derived ones: they were adopted, and hold their key from then on."""
    found = [
        *((SONG, fact.platform, fact.remote_id, fact.song_id, fact.removed) for fact in songs),
        *((PLAYLIST, fact.platform, fact.remote_id, fact.playlist_id, fact.removed) for fact in pages if not fact.page),
        *((POOL, fact.platform, fact.external_id, fact.pool_id, fact.removed) for fact in pools),
    ]
    kept: list[dict[str, Any]] = []
    gone: list[dict[str, Any]] = []
    for kind, platform, key, id, removed in found:
        if id != derived_id(kind, platform, key):
            (gone if removed else kept).append({"kind": kind, "platform": platform, "key": key, "id": id})
    if gone:
        key_of = [column == bindparam(f"old_{column.name}") for column in t.adopted.primary_key]
        connection.execute(
            delete(t.adopted).where(*key_of), [{f"old_{name}": value for name, value in one.items()} for one in gone]
        )
    if kept:
        connection.execute(upsert(connection, t.adopted).on_conflict_do_nothing(), kept)


def _set_place(connection: Connection, key: str, sequence: int, identity: str) -> None:
    statement = upsert(connection, t.meta).values(key=key, value=f"{sequence} {identity}")
    connection.execute(
        statement.on_conflict_do_update(index_elements=["key"], set_={"value": statement.excluded.value})
    )
