"""Facts as the services write them, as stored messages, for tests of whoever reads CATALOG."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from common.bus.connection import Stored
from common.catalog import ids
from common.contracts.envelope import encode, wrap
from common.contracts.facts import (
    AudioFormat,
    Fact,
    FileStored,
    FileTags,
    PlaylistCollected,
    PlaylistHeader,
    PoolDefined,
    SongListed,
)
from common.contracts.names import BackendKind

PLATFORM = "feed"


def song(key: str, **fields: Any) -> SongListed:
    """What a source says of the song ``key``."""
    values = {"song_id": ids.song_id(PLATFORM, key), "platform": PLATFORM, "remote_id": key, "name": f"Song {key}"}
    return SongListed(**{**values, **fields})


def stored(key: str, backend: str = "library", **fields: Any) -> FileStored:
    """A file of the song ``key``."""
    song_id = ids.song_id(PLATFORM, key)
    variant = fields.get("variant", "main")
    values = {
        "backend": backend,
        "backend_kind": BackendKind.FILESYSTEM if backend == "library" else BackendKind.OBJECT_STORAGE,
        "song_id": song_id,
        "asset_id": ids.asset_id(song_id, variant),
        "locator": f"feed/somebody/{key}.mp3",
        "sha256": "ab" * 32,
        "size": 1000,
        "format": AudioFormat(ext="mp3", mime="audio/mpeg", bitrate=320_000),
        "tags": FileTags(),
    }
    return FileStored(**{**values, **fields})


def playlist(
    key: str, songs: Sequence[str], *, version: int = 1, page_size: int = 500, **header: Any
) -> list[PlaylistCollected]:
    """The pages of a playlist in the order in which they are published: page 0 last."""
    chunks = [songs[start : start + page_size] for start in range(0, len(songs), page_size)] or [()]
    pages = [
        PlaylistCollected(
            playlist_id=ids.playlist_id(PLATFORM, key),
            platform=PLATFORM,
            remote_id=key,
            version=version,
            page=number,
            pages=len(chunks),
            header=PlaylistHeader(**{"name": f"Playlist {key}", "song_count": len(songs), **header})
            if number == 0
            else None,
            entries=tuple(
                (number * page_size + index, ids.song_id(PLATFORM, name)) for index, name in enumerate(chunk)
            ),
        )
        for number, chunk in enumerate(chunks)
    ]
    return [*pages[1:], pages[0]]


def pool(key: str, playlists: Sequence[str], **fields: Any) -> PoolDefined:
    """A pool that lists playlists."""
    values = {
        "pool_id": ids.pool_id(PLATFORM, key),
        "platform": PLATFORM,
        "pool_kind": "toplist",
        "external_id": key,
        "name": f"Pool {key}",
        "playlist_ids": tuple(ids.playlist_id(PLATFORM, name) for name in playlists),
    }
    return PoolDefined(**{**values, **fields})


class Log:
    """CATALOG without a server: gives revisions and sequences, and forgets all but the last of a subject."""

    def __init__(self) -> None:
        self.all: list[Stored] = []
        self._revisions: dict[str, int] = {}

    def write(self, *facts: Fact) -> None:
        """Append facts as a writer that knows the last revision would."""
        for fact in facts:
            revision = self._revisions.get(fact.subject, 0) + 1
            self._revisions[fact.subject] = revision
            self.raw(fact.subject, message(fact.model_copy(update={"revision": revision})))

    def raw(self, subject: str, payload: bytes) -> None:
        """Append bytes."""
        self.all.append(Stored(subject=subject, sequence=len(self.all) + 1, data=payload))

    def compacted(self) -> list[Stored]:
        """What a reader that begins now gets."""
        last = {one.subject: one for one in self.all}
        return sorted(last.values(), key=lambda one: one.sequence)


def message(fact: Fact) -> bytes:
    """The fact in its envelope."""
    return encode(wrap(fact, id="test", producer="test.one"))


def rows(database: Path, tables: Iterable[str]) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of tables in order."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in tables}
