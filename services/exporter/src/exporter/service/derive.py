"""Deriving the catalog's rows for the keys that a batch touched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Connection

from common.catalog import ids
from common.contracts.names import LIBRARY_BACKEND
from exporter.service import problems
from exporter.service import statements as sql
from exporter.service.functions import dump_json

_SONGS_AT_ONCE = 100_000
"""Assets and locations have ids of their own, all over their tables: each range goes through the whole of these."""
_PLAYLISTS_AT_ONCE = 2_000
"""Playlists are long: this many have as many entries as all songs at once have rows."""


def prepare(connection: Connection) -> None:
    """Make the temporary tables of this connection."""
    for statement in sql.TEMPORARY.split(";\n"):
        if statement.strip():
            connection.exec_driver_sql(statement)


def songs(connection: Connection, touched: Iterable[int], *, kept_out: bool, sequence: int) -> None:
    """Songs with their assets and locations. ``kept_out``: whether any id waits for another's key."""
    _fill(connection, "dirty_songs", touched)
    _songs(connection, kept_out=kept_out, sequence=sequence, new=False)


def all_songs(connection: Connection, *, sequence: int) -> Iterator[int]:
    """All songs of a catalog that has no rows yet, in the order of their ids; yields how many are done."""
    done = 0
    for count in _ranges(connection, "dirty_songs", sql.NEXT_SONGS, _SONGS_AT_ONCE):
        _songs(connection, kept_out=bool(problems.count(connection)), sequence=sequence, new=True)
        yield (done := done + count)


def _songs(connection: Connection, *, kept_out: bool, sequence: int, new: bool) -> None:
    run = connection.exec_driver_sql
    run("DELETE FROM temp.song_files")
    contested = run(sql.SONGS_OF_THE_SAME_KEY).rowcount
    if kept_out:
        contested += run(sql.SONGS_KEPT_OUT).rowcount
    run(sql.SONG_FILES)
    if not new:
        run(sql.DELETE_WITHDRAWN_SONGS)
    if contested:
        run(sql.DELETE_DIRTY_SONGS)
    run(sql.UPSERT_SONGS)
    left_out = run(sql.SONGS_LEFT_OUT).all()
    if left_out and not contested:
        # Two new songs of one key in one batch, one of them perhaps under an old row: once more, from nothing.
        run(sql.DELETE_DIRTY_SONGS)
        run(sql.UPSERT_SONGS)
        left_out = run(sql.SONGS_LEFT_OUT).all()
    if kept_out:
        run("DELETE FROM projection_problems WHERE kind = 'song' AND item_id IN (SELECT id FROM temp.dirty_songs)")
    for song, platform, remote_id, of_fact, holder in left_out:
        problems.record_contested(
            connection,
            kind="song",
            subject=f"song.listed.{song}",
            item=song,
            platform=platform,
            remote_id=remote_id,
            sequence=of_fact,
            holder=holder,
        )
    if not new:
        run(sql.DELETE_LOCATIONS)
        run(sql.DELETE_MOVED_LOCATIONS)
        run(sql.DELETE_ASSETS)
    run(sql.UPSERT_ASSETS)
    run(sql.UPSERT_LOCATIONS)
    for song, variant, backend, asset, of_fact, holder in run(sql.ASSETS_LEFT_OUT).all():
        problems.record(
            connection,
            subject=f"file.stored.{backend}.{song}.{variant}",
            code="id-collision",
            message=f"asset {asset} belongs to song {holder} already; this file is kept out",
            sequence=of_fact,
        )
    run(sql.SONGS_CHANGED, (sequence,))


def playlists(connection: Connection, touched: Iterable[int], *, kept_out: bool, sequence: int) -> None:
    """Playlists with their songs, where the set of pages is whole."""
    _fill(connection, "dirty_playlists", touched)
    _playlists(connection, kept_out=kept_out, sequence=sequence)


def all_playlists(connection: Connection, *, sequence: int) -> Iterator[int]:
    """All playlists of a catalog that has no rows yet, in the order of their ids; yields how many are done."""
    done = 0
    for count in _ranges(connection, "dirty_playlists", sql.NEXT_PLAYLISTS, _PLAYLISTS_AT_ONCE):
        _playlists(connection, kept_out=bool(problems.count(connection)), sequence=sequence)
        yield (done := done + count)


def _playlists(connection: Connection, *, kept_out: bool, sequence: int) -> None:
    run = connection.exec_driver_sql
    run(sql.PLAYLISTS_OF_THE_SAME_KEY)
    if kept_out:
        run(sql.PLAYLISTS_KEPT_OUT)
    run("DELETE FROM temp.heads")
    run(sql.HEADS)
    run(sql.DELETE_PLAYLISTS)
    run(sql.DELETE_PLAYLIST_SONGS)
    run(sql.INSERT_PLAYLIST_SONGS)
    run(sql.UPSERT_PLAYLISTS)
    if kept_out:
        run(
            "DELETE FROM projection_problems"
            " WHERE kind = 'playlist' AND item_id IN (SELECT id FROM temp.dirty_playlists)"
        )
    for playlist, platform, remote_id, of_fact in run(sql.HEADS_LEFT_OUT).all():
        problems.record_contested(
            connection,
            kind="playlist",
            subject=f"playlist.collected.{platform}.{playlist}.0",
            item=playlist,
            platform=platform,
            remote_id=remote_id,
            sequence=of_fact,
            holder=None,
        )
    run(sql.PLAYLISTS_CHANGED, (sequence,))


def pools(connection: Connection, touched: Iterable[int], *, sequence: int) -> None:
    """Pools and which playlists they list."""
    _fill(connection, "dirty_pools", touched)
    for statement in sql.POOLS:
        connection.exec_driver_sql(statement)
    connection.exec_driver_sql(sql.POOLS_CHANGED, (sequence,))


def backends(connection: Connection, *, library_root: str, sequence: int) -> None:
    """All backends: those that were defined, and those that a file names. There are few."""
    run = connection.exec_driver_sql
    rows: dict[str, tuple[Any, ...]] = {}
    named = [tuple(row) for row in run(sql.KNOWN_BACKENDS).all()]
    for name, kind in named:
        rows[name] = (ids.backend_id(name), name, kind, _base_path(name, library_root), None)
    defined = run("SELECT backend, kind, public_base_url, read_only, backend_id FROM fact_backends WHERE NOT removed")
    for name, kind, url, read_only, adopted in defined.all():
        config = {"public_base_url": url, "read_only": bool(read_only) or None}
        known = {key: value for key, value in config.items() if value is not None}
        text = dump_json(known) if known else None
        id = ids.backend_id(name) if adopted is None else int(adopted)
        rows[name] = (id, name, kind, _base_path(name, library_root), text)
    wanted = sorted(rows.values())
    held = sorted(
        (tuple(row) for row in run("SELECT id, name, backend_type, base_path, config_json FROM storage_backends")),
        key=lambda row: row[:2],
    )
    if wanted != held:
        run("DELETE FROM storage_backends")
        for row in wanted:
            run("INSERT OR IGNORE INTO storage_backends VALUES (?, ?, ?, ?, ?)", row)
        for id, name, *_ in held:
            if name in rows and rows[name][0] != id:
                # It was adopted after its files were known: until then it had the derived id.
                run("UPDATE file_locations SET backend_id = ? WHERE backend_id = ?", (rows[name][0], id))
        for changed in sorted({row[0] for row in set(wanted).symmetric_difference(held)}):
            run(sql.BACKEND_CHANGED, (changed, sequence))
    run("DELETE FROM temp.known_backends")
    for name, _ in named:
        run("INSERT INTO temp.known_backends VALUES (?)", (name,))


def _base_path(name: str, library_root: str) -> str:
    return library_root if name == LIBRARY_BACKEND else ""


def _fill(connection: Connection, table: str, keys: Iterable[int]) -> None:
    connection.exec_driver_sql(f"DELETE FROM temp.{table}")  # noqa: S608
    # One statement, not one for each key: while it runs, other threads may.
    connection.exec_driver_sql(
        f"INSERT INTO temp.{table} SELECT value FROM json_each(?)",  # noqa: S608
        (dump_json(sorted(keys)),),
    )


def _ranges(connection: Connection, table: str, following: str, limit: int) -> Iterator[int]:
    """Fill ``table`` with one range of keys after the other; yields how many each holds."""
    last = -1
    while True:
        connection.exec_driver_sql(f"DELETE FROM temp.{table}")  # noqa: S608
        count = connection.exec_driver_sql(f"INSERT INTO temp.{table} {following}", (last, limit)).rowcount
        if not count:
            return
        # Before others are added that have the same key.
        last = connection.exec_driver_sql(f"SELECT max(id) FROM temp.{table}").scalar_one()  # noqa: S608
        yield count
