"""Songs that are asked for because of a person's choice: read whole each time, as there are few."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, not_, select

from collector.ports import GivenUp, Givers
from collector.service.wanted import is_unchosen
from common.contracts.facts import FileStored, SongPinned
from common.contracts.names import BackendKind

from . import tables as t


def is_on_file_system() -> ColumnElement[bool]:
    """Whether a stored copy is a file that is there."""
    return and_(t.stored.c.kind == str(BackendKind.FILESYSTEM), not_(t.stored.c.removed))


def given_up_of(row: Any) -> GivenUp:
    """What a row says of a song that was given up."""
    return GivenUp(wish=row.wish, code=row.code, givers=frozenset(row.givers.split()))


_CHOICES = (
    select(
        t.choices.c.song_id,
        t.choices.c.choice,
        t.songs.c.platform,
        t.songs.c.remote_id,
        t.given_up.c.wish,
        t.given_up.c.code,
        t.given_up.c.givers,
        t.stored.c.payload,
    )
    .join(t.songs, t.songs.c.song_id == t.choices.c.song_id)
    .outerjoin(t.given_up, and_(t.given_up.c.song_id == t.songs.c.song_id, t.given_up.c.wish == t.songs.c.wish))
    .outerjoin(t.stored, and_(t.stored.c.song_id == t.songs.c.song_id, is_on_file_system()))
    .where(not_(t.choices.c.removed))
)


def unchosen_songs(connection: Connection, givers: Givers) -> set[int]:
    """The songs that are asked for because of a person's choice."""
    copies: defaultdict[int, list[FileStored]] = defaultdict(list)
    rows = {}
    for row in connection.execute(_CHOICES):
        rows[row.song_id] = row
        if row.payload is not None:
            copies[row.song_id].append(FileStored.model_validate_json(row.payload))
    given_up = {
        song_id: known
        for song_id, row in rows.items()
        if row.wish is not None and (known := given_up_of(row)).givers.issuperset(givers.of(row.platform))
    }
    return {
        song_id
        for song_id, row in rows.items()
        if is_unchosen(
            SongPinned.model_validate_json(row.choice),
            copies[song_id],
            platform=row.platform,
            remote_id=row.remote_id,
            given_up=given_up.get(song_id),
        )
    }
