"""What was not taken and why: a line each in a CSV file, counts in a JSON file and on the screen."""

from __future__ import annotations

import csv
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

REASONS = {
    "file-missing": "the file is not in the library; its song is wanted again at the next job",
    "wrong-size": "the file is not as large as the database says; it is left alone, its song is wanted again",
    "empty-file": "the file has no bytes; it is left alone, its song is wanted again",
    "not-a-file": "a link, a folder or a device lies there; it is left alone, its song is wanted again",
    "file-unreadable": "the file could not be read; mend its rights or the disk, and run this again",
    "outside-library": "the path leads out of the library; nothing there is touched, its song is wanted again",
    "locator-invalid": "the path cannot be a path in a library; its song is wanted again",
    "ambiguous-name": "several files differ from the path only in case or spelling; its song is wanted again",
    "path-doubled": "another song has this file already; this song is wanted again",
    "second-location": "the same file is there under another path, which was taken",
    "inactive": "the older system had given this copy up",
    "other-backend": "it lies in another folder of the older system; run this again for that one with --backend",
    "object-copy": "a copy in an object store is not verified here; the next job with uploads looks and completes it",
    "dangling-file": "a file that belongs to no song of the database",
    "duplicate-song": "the same song again; the first one keeps its id and takes over what names this one",
    "duplicate-playlist": "the same playlist again; the first one keeps its id",
    "duplicate-id": "another row has this id already",
    "dangling-entry": "a playlist's entry that names no song of the database",
    "dangling-pool-entry": "a pool's entry that names no playlist of the database",
    "id-unusable": "the id is not a whole number from 0 to 9007199254740991",
    "key-unusable": "the platform or the id at the source is missing, or cannot be a name here",
    "id-taken": "the catalog has something else under this id; it was not changed",
    "too-large": "it does not fit into a message of the bus",
    "unknown-file": "the database knows nothing of this file; it is listed here and not touched",
}
"""Stable codes of the report, each with what will happen."""


class Report:
    """Counts, and the CSV file of everything that was not taken. Used in a ``with`` block."""

    def __init__(self, folder: Path, *, dry_run: bool) -> None:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        name = f"adopt-{'dry-run-' if dry_run else ''}{stamp}"
        self.table = folder / f"{name}.csv"
        self.summary = folder / f"{name}.json"
        self.dry_run = dry_run
        self.taken: Counter[str] = Counter()
        self.already: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self.left: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self.table.parent.mkdir(parents=True, exist_ok=True)
        # With a mark, or spreadsheets take the names for another encoding.
        self._file = self.table.open("w", encoding="utf-8-sig", errors="replace", newline="")
        self._rows = csv.writer(self._file)
        self._rows.writerow(("reason", "what", "id", "name", "what happens"))
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        if value is not None and not self.taken and not self.left:
            self.table.unlink()  # refused before anything was looked at
            return
        self.summary.write_text(json.dumps(self.content(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")

    def leave(self, reason: str, what: str, id: object = "", name: object = "") -> None:
        """Something is not taken."""
        self.left[reason] += 1
        self._rows.writerow((reason, what, _shown(id), _shown(name), REASONS[reason]))

    def content(self) -> dict[str, Any]:
        """The counts, for programs."""
        return {
            "dry_run": self.dry_run,
            "taken": dict(self.taken),
            "already_there": dict(self.already),
            "notes": dict(self.notes),
            "not_taken": dict(self.left),
            "meaning": {reason: REASONS[reason] for reason in self.left},
            "report": str(self.table),
        }

    def lines(self) -> list[str]:
        """The counts, for people."""
        verb = "would be taken" if self.dry_run else "taken"
        kinds = ("backends", "files", "songs", "playlists", "pools")
        told = [f"{kind}: {self.taken[kind]} {verb}, {self.already[kind]} there already" for kind in kinds]
        told += [f"{count} {note}" for note, count in sorted(self.notes.items())]
        told += [f"{reason}: {count} ({REASONS[reason]})" for reason, count in sorted(self.left.items())]
        return [*told, f"Everything that was not taken, line by line: {self.table}"]


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    text = "" if value is None else str(value)
    # A spreadsheet would take it for a formula.
    return f"'{text[:500]}" if text[:1] in ("=", "+", "-", "@") else text[:500]
