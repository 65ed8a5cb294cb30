"""The spool: unfinished songs, what is known of each, and the lock of each.

A part is ``<song>.part``, its record ``<song>.json``. The record of a fetch says whose bytes the part
holds; the record of a placing says where the file goes, and is written before the file moves. It outlives
the process, but is not forced to the disk, which would cost a third of a small song's time: a power cut
may tear it, which tells that the song's file may lie in the library already.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.contracts.facts import FileStored
from downloader.adapters.locks import ByteLock, Locks
from downloader.adapters.records import SPARE, Records
from downloader.errors import SongBusy
from downloader.ports import FetchState, Placing, Torn

LOCK_PATIENCE = 20.0
"""Seconds that a song waits for another copy: long enough for it to notice that its lease is gone."""
KEEP_SECONDS = 7 * 86_400.0
"""Parts of songs that nobody asks for any more are kept so long."""
_FOLDER_LOCKS = 1 << 60
"""Songs have 53 bits; the locks of folders begin here."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class HeldSong:
    """A song's lock; what this process has open of the song is closed before others get it."""

    def __init__(self, lock: ByteLock, leave: Callable[[], None], note: Callable[[str], None]) -> None:
        self.waited = lock.waited
        self._lock = lock
        self._leave = leave
        self._note = note

    def held_for(self, item: str) -> None:
        """Note the item (the subject of its status) on whose behalf the song is fetched."""
        self._note(item)

    def release(self) -> None:
        """Let go; a second call does nothing."""
        if self._lock.held:
            try:
                self._leave()
            finally:
                self._lock.release()

    def __enter__(self) -> HeldSong:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class SpoolFolder:
    """A folder on the library's own file system, shared by all copies of the downloader."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self._prefix = f"{root}/"
        self._locks = Locks(root / "locks")
        self._records = Records(root)
        self._items: dict[int, str] = {}
        # After a power cut the length of a part says nothing of its content.
        self._boot = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""

    def lock(self, song_id: int, *, canceled: Callable[[], bool]) -> HeldSong:
        """Take a song. Raises SongBusy when another copy keeps it."""
        lock = self._locks.acquire(song_id, patience=LOCK_PATIENCE, canceled=canceled)
        if lock is None:
            raise SongBusy

        def note(item: str) -> None:
            self._items[song_id] = item

        def leave() -> None:
            self._items.pop(song_id, None)
            self._records.let_go(song_id)

        return HeldSong(lock, leave, note)

    @contextmanager
    def folder_lock(self, number: int) -> Iterator[None]:
        """Keep all others from choosing names in the same folder for a moment."""
        offset = _FOLDER_LOCKS + number
        lock = self._locks.acquire(offset, patience=LOCK_PATIENCE, canceled=lambda: False)
        if lock is None:
            raise SongBusy
        with lock:
            yield

    def part(self, song_id: int) -> Path:
        """Where the song's bytes are collected."""
        return self.root / f"{song_id}.part"

    def recall(self, song_id: int) -> FetchState | Placing | Torn | None:
        """What an earlier try left noted."""
        content = self._records.read(song_id)
        if content is None:
            return None
        try:
            record = json.loads(content)
            if record["song"] != song_id:
                return Torn()
            if record["state"] == "fetching":
                return FetchState(**record["fetch"]) if record["boot"] == self._boot else None
            return Placing(
                cause=record["cause"],
                fact=FileStored.model_validate_json(record["fact"]),
                path=self.root / Path(record["path"]).name,
                targets=tuple(record["targets"]),
                inode=int(record["inode"]),
                old=record["old"],
                result=dict(record["result"]),
            )
        except (KeyError, TypeError, ValueError):
            return Torn()

    def remember_fetch(self, song_id: int, state: FetchState) -> None:
        """Note whose bytes the part holds."""
        record = {"song": song_id, "state": "fetching", "boot": self._boot, "fetch": vars(state)}
        self._write(song_id, {**record, "item": self._items.get(song_id, "")})

    def remember_placing(self, song_id: int, state: Placing) -> None:
        """Note where the song goes."""
        record = {
            "song": song_id,
            "state": "placing",
            "item": self._items.get(song_id, ""),
            "cause": state.cause,
            "fact": state.fact.model_dump_json(exclude_none=True),
            "path": state.path.name,
            "targets": state.targets,
            "inode": state.inode,
            "old": state.old,
            "result": state.result,
        }
        self._write(song_id, record)

    def drop_part(self, song_id: int) -> None:
        """Remove the song's bytes."""
        self._remove(f"{song_id}.part")

    def forget(self, song_id: int, *, only_record: bool = False) -> None:
        """Remove everything of the song. ``only_record``: its bytes are known to be gone."""
        if not only_record:
            for name in (f"{song_id}.part", f"{song_id}.tagged"):
                self._remove(name)
        self._records.remove(song_id)

    def clean(self, *, keep_seconds: float = KEEP_SECONDS) -> int:
        """Remove what nobody came back for; return how many songs.

        Not what another copy has in hand, nor the record of a file that is in the library without a fact:
        the next job that asks for that song takes it over.
        """
        limit = time.time() - keep_seconds
        removed = 0
        for spare in self.root.glob(f"{SPARE}*"):
            if self._changed_at(spare) < limit:
                self._remove(spare.name)
        for song in {int(entry.stem) for entry in self.root.iterdir() if entry.stem.isdecimal()}:
            lock = self._locks.acquire(song, patience=0.0, canceled=lambda: False)
            if lock is None:
                continue
            with lock:
                ages = [self._changed_at(self.root / f"{song}.{ext}") for ext in ("part", "tagged", "json")]
                if max(ages) < limit and not isinstance(self.recall(song), Placing):
                    self.forget(song)
                    removed += 1
        return removed

    def left(self) -> list[tuple[int, str]]:
        """Songs with a part that nobody has in hand, and the item it was fetched for.

        Empty where nothing is noted of the part: then it cannot be continued.
        """
        found = []
        for song in [int(part.stem) for part in self.root.glob("*.part") if part.stem.isdecimal()]:
            lock = self._locks.acquire(song, patience=0.0, canceled=lambda: False)
            if lock is None:
                continue
            with lock, contextlib.suppress(ValueError, KeyError, AttributeError):
                record = json.loads(self._records.read(song) or b"{}")
                if not record:
                    found.append((song, ""))
                elif record.get("item") and (record["state"] == "fetching" or self._unmoved(song)):
                    found.append((song, str(record["item"])))
        return found

    def abandon(self, song_id: int) -> bool:
        """Remove the part of a song that nobody has in hand; False where somebody has by now, or it was placed."""
        lock = self._locks.acquire(song_id, patience=0.0, canceled=lambda: False)
        if lock is None:
            return False
        with lock:
            noted = self.recall(song_id)
            if isinstance(noted, Torn) or (isinstance(noted, Placing) and not self._unmoved(song_id)):
                return False
            self.forget(song_id)
        return True

    def _unmoved(self, song_id: int) -> bool:
        """Whether a file that was to be placed is here and nowhere else: a move that began gave it a second name."""
        try:
            return self.part(song_id).stat().st_nlink == 1
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Remove our spare records, and let go of all locks."""
        self._records.close()
        self._locks.close()

    def _remove(self, name: str) -> None:
        path = f"{self._prefix}{name}"
        # Removing locks the folder for all others; looking first does not, and most often there is nothing.
        if os.path.lexists(path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108

    @staticmethod
    def _changed_at(path: Path) -> float:
        try:
            return path.stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _write(self, song_id: int, record: dict[str, Any]) -> None:
        self._records.write(song_id, json.dumps(record, ensure_ascii=False).encode())
