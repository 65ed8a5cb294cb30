"""The facts that the console answers for, and what it looks up in CATALOG."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from common.bus.connection import Bus
from common.bus.facts import FactWriter
from common.contracts.facts import BackendDefined, FileStored, SongListed, SongPinned
from common.contracts.names import MAIN_VARIANT
from common.contracts.streams import CATALOG


class CatalogDesk:
    """Reads and writes single facts."""

    def __init__(self, bus: Bus, *, backends: Sequence[str]) -> None:
        """``backends``: the file systems that may have a song, the library first."""
        self._bus = bus
        self._backends = backends
        self._writer = FactWriter(bus)

    async def define(self, backend: BackendDefined) -> None:
        """Publish where files are kept, if that is not known so."""
        known = await self._bus.last_message(CATALOG, backend.subject, BackendDefined)
        if known is not None:
            # An id that was adopted is the backend's for good.
            backend = backend.model_copy(update={"backend_id": known.data.backend_id})
        if known is not None and known.data.model_copy(update={"revision": 0}) == backend:
            return
        await self._writer.publish(backend, cause=f"settings:{secrets.token_hex(8)}")

    async def listed(self, song_id: int) -> SongListed | None:
        """What the song's source says of it."""
        found = await self._bus.last_message(CATALOG, f"{SongListed.TYPE}.{song_id}", SongListed)
        return found.data if found is not None else None

    async def pinned(self, song_id: int) -> SongPinned:
        """What people chose for a song; nothing at first."""
        found = await self._bus.last_message(CATALOG, f"{SongPinned.TYPE}.{song_id}", SongPinned)
        if found is None or found.data.removed:
            return SongPinned(song_id=song_id)
        return found.data

    async def pin(self, choice: SongPinned) -> None:
        """Publish what a person chose. Raises TransientError when others keep choosing."""
        await self._writer.publish(choice, cause=f"choice:{secrets.token_hex(8)}")

    async def copies(self, song_id: int) -> list[FileStored]:
        """The files of a song on file systems, those of the library first."""
        found = [await self.stored(song_id, backend=name) for name in self._backends]
        return [fact for fact in found if fact is not None]

    async def stored(self, song_id: int, *, backend: str | None) -> FileStored | None:
        """The file of a song, in ``backend`` or in the first file system that has one."""
        for name in (backend,) if backend else self._backends:
            found = await self._bus.last_message(CATALOG, f"file.stored.{name}.{song_id}.{MAIN_VARIANT}", FileStored)
            if found is not None and not found.data.removed:
                return found.data
        return None
