"""Reading the record: what the decisions ask for, in chunks that fit one statement."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import fields
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Engine,
    FromClause,
    Row,
    Select,
    and_,
    bindparam,
    exists,
    func,
    not_,
    or_,
    select,
    tuple_,
)

from collector.ports import NOBODY, Givers, Holding, KnownPlaylist, KnownPool, KnownSong
from collector.service.listing import OWNER_KEY
from common.contracts.facts import FileStored, PlaylistHeader, SongListed
from common.contracts.names import UNKNOWN_SHA256, BackendKind
from common.contracts.work import FileUpload, PlaylistSync, SongDownload
from sources.port import Song

from . import tables as t
from .choices import given_up_of, is_on_file_system, unchosen_songs

CHUNK = 500
"""Values in one IN list: SQLite takes more, but compiles longer than it searches."""
X = TypeVar("X")


class DatabaseRecord:
    """The record in ``collector.db``. Safe in threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def songs(self, ids: Iterable[int]) -> Mapping[int, KnownSong]:
        with self._engine.connect() as connection:
            rows = _by_ids(connection, _SONGS, ids)
            return {known.song_id: known for known in map(_known, rows)}

    def listings(self, ids: Iterable[int]) -> Mapping[int, SongDownload]:
        with self._engine.connect() as connection:
            rows = _by_ids(connection, _LISTINGS, ids)
            return {row.song_id: request_of(_listing(row.listing), job_id=0) for row in rows}

    def unchanged(self, platform: str, marks: Mapping[int, tuple[str, str]]) -> Iterator[tuple[KnownSong, Song]]:
        """Songs that are known under the (remote id, fingerprint) given for their id."""
        with self._engine.connect() as connection:
            for row in _by_ids(connection, _LISTED_SONGS, marks):
                known = _known(row[:-1])
                if known.platform == platform and (known.remote_id, known.fingerprint) == marks[known.song_id]:
                    yield known, _song(row.listing)

    def adopted(self, kind: str, platform: str, keys: Iterable[str]) -> Mapping[str, int]:
        """The ids that songs, playlists or pools brought along from an older catalog, by their key at the source."""
        with self._engine.connect() as connection:
            return {
                row.key: row.id
                for chunk in _chunks(dict.fromkeys(keys))
                for row in connection.execute(_ADOPTED, {"kind": kind, "platform": platform, "keys": chunk})
            }

    def holdings(self, ids: Iterable[int], *, givers: Givers = NOBODY) -> Mapping[int, Holding]:
        wanted = list(ids)
        stored: defaultdict[int, set[str | None]] = defaultdict(set)
        with self._engine.connect() as connection:
            for row in _by_ids(connection, _STORED, wanted):
                stored[row.song_id].add(row.listing_fingerprint)
            given_up = {row.song_id: given_up_of(row) for row in _by_ids(connection, _GIVEN_UP, wanted)}
            for song_id in unchosen_songs(connection, givers).intersection(wanted):
                stored.pop(song_id, None)
                given_up.pop(song_id, None)
        return {
            song_id: Holding(stored=frozenset(stored.get(song_id, ())), given_up=given_up.get(song_id))
            for song_id in stored.keys() | given_up.keys()
        }

    def still_listed(self, pairs: Iterable[tuple[int, int]]) -> frozenset[tuple[int, int]]:
        found: set[tuple[int, int]] = set()
        with self._engine.connect() as connection:
            for chunk in _chunks(pairs):
                rows = connection.execute(
                    select(t.entries.c.playlist_id, t.entries.c.song_id)
                    .join(t.playlists, _is_page_of_current())
                    .where(tuple_(t.entries.c.playlist_id, t.entries.c.song_id).in_(chunk), _is_current())
                )
                found.update((row.playlist_id, row.song_id) for row in rows)
        return frozenset(found)

    def playlist(self, playlist_id: int) -> KnownPlaylist | None:
        with self._engine.connect() as connection:
            rows = connection.execute(_PLAYLIST, {"id": playlist_id}).all()
        if not rows:
            return None
        row = rows[0]
        current = [one.version for one in rows if one.page < row.pages]
        return KnownPlaylist(
            playlist_id=playlist_id,
            platform=row.platform,
            remote_id=row.remote_id,
            top_version=max(one.version for one in rows),
            whole=len(set(current)) == 1 and len(current) == row.pages,
            header=PlaylistHeader.model_validate_json(row.header),
            fingerprint=row.fingerprint,
            removed=row.removed,
            entries=lambda: self._entries(playlist_id, row.pages),
        )

    def _entries(self, playlist_id: int, pages: int) -> list[int]:
        with self._engine.connect() as connection:
            return list(
                connection.execute(
                    select(t.entries.c.song_id)
                    .where(t.entries.c.playlist_id == playlist_id, t.entries.c.page < pages)
                    .order_by(t.entries.c.page, t.entries.c.position)
                ).scalars()
            )

    def pool(self, pool_id: int) -> KnownPool | None:
        return next(iter(self._pools(t.pools.c.pool_id == pool_id)), None)

    def pools(self, platforms: Iterable[str]) -> list[KnownPool]:
        return self._pools(and_(t.pools.c.platform.in_(list(platforms)), not_(t.pools.c.removed)))

    def _pools(self, condition: ColumnElement[bool]) -> list[KnownPool]:
        with self._engine.connect() as connection:
            rows = connection.execute(select(t.pools).where(condition).order_by(t.pools.c.pool_id)).all()
            return [
                KnownPool(
                    pool_id=row.pool_id,
                    platform=row.platform,
                    external_id=row.external_id,
                    name=row.name,
                    digest=row.digest,
                    removed=row.removed,
                    playlist_ids=tuple(
                        connection.execute(
                            select(t.pool_playlists.c.playlist_id)
                            .where(t.pool_playlists.c.pool_id == row.pool_id)
                            .order_by(t.pool_playlists.c.position)
                        ).scalars()
                    ),
                )
                for row in rows
            ]

    def playlists_to_sync(self, job_id: int, platforms: Iterable[str]) -> list[PlaylistSync]:
        with self._engine.connect() as connection:
            rows = connection.execute(
                select(t.playlists)
                .where(t.playlists.c.platform.in_(list(platforms)), _is_current())
                .order_by(t.playlists.c.playlist_id)
            ).all()
        return [
            PlaylistSync(
                job_id=job_id,
                source=row.platform,
                playlist_id=row.playlist_id,
                remote_id=row.remote_id,
                name=PlaylistHeader.model_validate_json(row.header).name,
            )
            for row in rows
        ]

    def wanted(
        self,
        job_id: int,
        platforms: Iterable[str],
        *,
        playlists: Collection[int] = (),
        givers: Givers = NOBODY,
        after: int,
        limit: int,
    ) -> list[SongDownload]:
        listed = exists().where(t.entries.c.song_id == t.songs.c.song_id, _is_page_of_current(), _is_current())
        if playlists:
            listed = listed.where(t.entries.c.playlist_id.in_(list(playlists)))
        stored = exists().where(
            t.stored.c.song_id == t.songs.c.song_id,
            is_on_file_system(),
            or_(
                t.stored.c.listing_fingerprint.is_(None),
                t.songs.c.fingerprint.is_(None),
                t.stored.c.listing_fingerprint == t.songs.c.fingerprint,
            ),
        )
        given_up = exists().where(
            t.given_up.c.song_id == t.songs.c.song_id,
            t.given_up.c.wish == t.songs.c.wish,
            *(_might_give(name, anybodys=name in givers.searched) for name in sorted(givers.listed)),
        )
        with self._engine.connect() as connection:
            unchosen = sorted(song_id for song_id in unchosen_songs(connection, givers) if song_id > after)[:limit]
            rows = connection.execute(
                select(t.songs.c.listing)
                .where(
                    t.songs.c.song_id > after,
                    not_(t.songs.c.removed),
                    t.songs.c.platform.in_(list(platforms)),
                    listed,
                    or_(and_(not_(stored), not_(given_up)), t.songs.c.song_id.in_(unchosen)),
                )
                .order_by(t.songs.c.song_id)
                .limit(limit)
            ).scalars()
            return [request_of(_listing(listing), job_id=job_id, givers=givers) for listing in rows]

    def uploads(self, job_id: int, backend: str, *, after: tuple[int, str], limit: int) -> list[FileUpload]:
        earlier = t.stored.alias("earlier")
        statement = (
            select(t.stored.c.payload)
            .where(
                tuple_(t.stored.c.song_id, t.stored.c.variant) > after,
                _is_lacked(t.stored, backend),
                # Of several copies the first backend by name is read.
                not_(
                    exists().where(
                        earlier.c.song_id == t.stored.c.song_id,
                        earlier.c.variant == t.stored.c.variant,
                        earlier.c.backend < t.stored.c.backend,
                        _is_lacked(earlier, backend),
                    )
                ),
            )
            .order_by(t.stored.c.song_id, t.stored.c.variant)
            .limit(limit)
        )
        with self._engine.connect() as connection:
            payloads = connection.execute(statement).scalars()
            return [_upload(FileStored.model_validate_json(payload), job_id, backend) for payload in payloads]


def request_of(fact: SongListed, *, job_id: int, givers: Givers = NOBODY) -> SongDownload:
    """The item that asks for a listed song."""
    return SongDownload(
        job_id=job_id,
        source=fact.platform,
        song_id=fact.song_id,
        remote_id=fact.remote_id,
        name=fact.name,
        singers=fact.singers,
        album=fact.album,
        duration_seconds=fact.duration_seconds,
        ext=fact.ext,
        size=fact.size,
        fingerprint=fact.fingerprint,
        givers=tuple(sorted(givers.of(fact.platform))),
    )


_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
_KNOWN_SONG = tuple(t.songs.c[field.name] for field in fields(KnownSong))
# Made once: making them costs more than running them.
_SONGS = select(*_KNOWN_SONG).where(t.songs.c.song_id.in_(_IDS))
_LISTED_SONGS = select(*_KNOWN_SONG, t.songs.c.listing).where(t.songs.c.song_id.in_(_IDS), not_(t.songs.c.removed))
_LISTINGS = select(t.songs.c.song_id, t.songs.c.listing).where(t.songs.c.song_id.in_(_IDS))
_KEYS: BindParameter[Any] = bindparam("keys", expanding=True)
_ADOPTED = (
    # Of two ids for one key the lowest holds it, as in the catalog.
    select(t.adopted.c.key, func.min(t.adopted.c.id).label("id"))
    .where(
        t.adopted.c.kind == bindparam("kind"), t.adopted.c.platform == bindparam("platform"), t.adopted.c.key.in_(_KEYS)
    )
    .group_by(t.adopted.c.key)
)
_STORED = select(t.stored.c.song_id, t.stored.c.listing_fingerprint).where(
    t.stored.c.song_id.in_(_IDS), t.stored.c.kind == str(BackendKind.FILESYSTEM), not_(t.stored.c.removed)
)
_GIVEN_UP = select(t.given_up).where(t.given_up.c.song_id.in_(_IDS))
_PLAYLIST = (
    select(t.playlists, t.pages.c.page, t.pages.c.version)
    .join(t.pages, t.pages.c.playlist_id == t.playlists.c.playlist_id)
    .where(t.playlists.c.playlist_id == bindparam("id"))
)


def _known(row: Any) -> KnownSong:
    return KnownSong(*row)


def _song(listing: str) -> Song:
    """The song as its source listed it. Read without the model: it was checked when it was written."""
    values = json.loads(listing)
    metadata = values.get("metadata", {})
    metadata.pop(OWNER_KEY, None)
    return Song(
        remote_id=values["remote_id"],
        name=values["name"],
        singers=tuple(values.get("singers", ())),
        album=values.get("album"),
        duration_seconds=values.get("duration_seconds"),
        ext=values.get("ext"),
        size=values.get("size"),
        fingerprint=values.get("fingerprint"),
        metadata_status=values.get("metadata_status", "complete"),
        metadata=metadata,
    )


def _upload(file: FileStored, job_id: int, backend: str) -> FileUpload:
    return FileUpload(
        job_id=job_id,
        backend=backend,
        from_backend=file.backend,
        from_kind=file.backend_kind,
        song_id=file.song_id,
        variant=file.variant,
        asset_id=file.asset_id,
        locator=file.locator,
        sha256=file.sha256,
        size=file.size,
        stored=file.model_dump(mode="json", exclude_none=True),
    )


def _listing(text: str) -> SongListed:
    return SongListed.model_validate_json(text)


def _is_lacked(copy: FromClause, backend: str) -> ColumnElement[bool]:
    """A file on a file system whose bytes the backend does not hold."""
    there = t.stored.alias()
    return and_(
        copy.c.kind == str(BackendKind.FILESYSTEM),
        not_(copy.c.removed),
        copy.c.backend != backend,
        not_(
            exists().where(
                there.c.song_id == copy.c.song_id,
                there.c.variant == copy.c.variant,
                there.c.backend == backend,
                or_(there.c.sha256 == copy.c.sha256, copy.c.sha256 == UNKNOWN_SHA256),
                not_(there.c.removed),
            )
        ),
    )


def _is_page_of_current() -> ColumnElement[bool]:
    return and_(t.entries.c.playlist_id == t.playlists.c.playlist_id, t.entries.c.page < t.playlists.c.pages)


def _is_current() -> ColumnElement[bool]:
    """A playlist that a pool lists now, or of a platform that has no pools (an adopted library)."""
    return and_(
        not_(t.playlists.c.removed),
        or_(
            t.playlists.c.playlist_id.in_(select(t.pool_playlists.c.playlist_id)),
            t.playlists.c.platform.not_in(select(t.pools.c.platform)),
        ),
    )


def _might_give(name: str, *, anybodys: bool) -> ColumnElement[bool]:
    """Whether a song was given up when that source might have given it; ``anybodys``: also songs of others."""
    known = t.given_up.c.givers.contains(f" {name} ", autoescape=True)
    return known if anybodys else or_(t.songs.c.platform != name, known)


def _by_ids(connection: Connection, statement: Select[Any], ids: Iterable[int]) -> Iterator[Row[Any]]:
    for chunk in _chunks(dict.fromkeys(ids)):
        yield from connection.execute(statement, {"ids": chunk})


def _chunks(values: Iterable[X]) -> Iterator[list[X]]:
    rest = iter(values)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk
