"""What a source is told of earlier readings, and what was published but is not in the record yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from collector.ports import KnownSong
from collector.service.identity import SONG, identify
from collector.service.listing import digest_of, owner_of, wish_of
from common.contracts.facts import SongListed
from sources.port import Song

from .record import DatabaseRecord


class Known:
    """:class:`sources.port.KnownSongs` for one reading; remembers what it looked up."""

    def __init__(self, record: DatabaseRecord, *, platform: str) -> None:
        self._record = record
        self._platform = platform
        self.songs: dict[int, KnownSong] = {}
        self.untouched: dict[str, Song] = {}
        self._ids: dict[str, int] = {}

    def ids_of(self, remote_ids: Iterable[str]) -> Mapping[str, int]:
        """The songs' ids, with others that were asked for before; each is worked out once."""
        new = [one for one in dict.fromkeys(remote_ids) if one not in self._ids]
        self._ids.update(identify(SONG, self._platform, new, self._record.adopted(SONG, self._platform, new)))
        return self._ids

    def unchanged(self, fingerprints: Mapping[str, str]) -> Mapping[str, Song]:
        ids = self.ids_of(fingerprints)
        asked = {ids[remote_id]: (remote_id, mark) for remote_id, mark in fingerprints.items()}
        found: dict[str, Song] = {}
        for known, song in self._record.unchanged(self._platform, asked):
            self.songs[known.song_id] = known
            found[known.remote_id] = song
        self.untouched.update(found)
        return found


class Recent:
    """Songs that were published and have not come back through the stream.

    Written on the event loop only; threads may read.
    """

    def __init__(self) -> None:
        self._facts: dict[int, tuple[str, SongListed]] = {}

    def claim(self, fact: SongListed) -> bool:
        """Whether this listing is still to be published; it counts as published from now on."""
        digest = digest_of(fact)
        claimed = self._facts.get(fact.song_id)
        if claimed is not None and claimed[0] == digest:
            return False
        self._facts[fact.song_id] = (digest, fact)
        return True

    def get(self, song: int) -> SongListed | None:
        claimed = self._facts.get(song)
        return claimed[1] if claimed else None

    def release(self, facts: Iterable[SongListed]) -> None:
        """They were not published after all."""
        for fact in facts:
            self._facts.pop(fact.song_id, None)

    def applied(self, digests: Mapping[int, str]) -> None:
        """They are in the record now."""
        for song, digest in digests.items():
            claimed = self._facts.get(song)
            if claimed is not None and claimed[0] == digest:
                del self._facts[song]

    def over(self, known: Mapping[int, KnownSong], ids: Iterable[int]) -> dict[int, KnownSong]:
        """``known`` with what was published since, for the songs with these ids."""
        merged = dict(known)
        for song in ids:
            if (claimed := self._facts.get(song)) is not None:
                digest, fact = claimed
                merged[song] = KnownSong(
                    song_id=song,
                    platform=fact.platform,
                    remote_id=fact.remote_id,
                    digest=digest,
                    wish=wish_of(fact),
                    fingerprint=fact.fingerprint,
                    owner=owner_of(fact),
                )
        return merged
