"""Which files of the older database are there: each row is matched with what lies in the library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from cli.adopt.older import Older, identifier, natural, text
from cli.adopt.report import Report
from cli.adopt.scan import folded
from common.contracts.facts import AudioFormat, FileStored
from common.contracts.names import MAIN_VARIANT, UNKNOWN_SHA256, BackendKind
from common.errors import ConfigurationError
from common.storage.content_types import content_type
from common.storage.locators import InvalidLocator, check_locator

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Place:
    """The folder that is adopted: its name here, and the id (if it has one), name and path it had."""

    backend: str
    library: Path
    older_id: int | None
    older_path: str


def find_place(older: Older, *, library: Path, backend: str, called: str | None) -> Place:
    """Which backend of the older database ``library`` is. ``called``: its older name, where a person gave one.

    Raises ConfigurationError when it cannot be told.
    """
    folders = [row for row in older.rows("storage_backends") if text(row["backend_type"]) == BackendKind.FILESYSTEM]
    if called is not None:
        folders = [row for row in folders if text(row["name"]) == called]
        if not folders:
            raise ConfigurationError(f"The older database has no folder called {called!r}; see its storage_backends.")
    if len(folders) > 1:
        same = [row for row in folders if _same(text(row["base_path"]), library)]
        if len(same) != 1:
            names = ", ".join(text(row["name"]) for row in folders)
            raise ConfigurationError(
                f"The older database has several folders ({names}). Say which of them --library is, with "
                "--backend NAME."
            )
        folders = same
    row: Row = folders[0] if folders else {}
    return Place(
        backend=backend,
        library=library,
        older_id=identifier(row.get("id")),
        older_path=text(row.get("base_path")),
    )


class Matching:
    """Goes through the rows of files, song by song."""

    def __init__(self, older: Older, place: Place, report: Report) -> None:
        self._older = older
        self._place = place
        self._report = report

    def facts(self) -> Iterator[FileStored]:
        """The files that are there as the database says; everything else goes into the report."""
        for song, rows in groupby(self._rows(), key=lambda row: row["kept"]):
            if song is None:
                for row in rows:
                    self._report.leave("dangling-file", "file", row["location"], row["locator"])
            else:
                yield from self._song(song, [row for row in rows if self._is_meant(row)])

    def unknown(self) -> None:
        """Report the files that no row names."""
        for (locator,) in self._older.connection.execute(
            "SELECT locator FROM adopt_files WHERE NOT named ORDER BY locator"
        ):
            self._report.leave("unknown-file", "file", name=locator)

    def _rows(self) -> Iterator[Row]:
        older = self._older
        if not older.has("file_locations") or not older.has("file_assets"):
            return
        names = (
            "location",
            "asset",
            "kept",
            "locator",
            "status",
            "primary",
            "backend",
            "kind",
            "quality",
            "ext",
            "size",
        )
        kind = "b.backend_type" if older.has("storage_backends") else "'filesystem'"
        join = "LEFT JOIN storage_backends b ON b.id = l.backend_id" if older.has("storage_backends") else ""
        primary = f"coalesce({older.column('file_locations', 'is_primary', 'l')}, 0)"
        location = older.column("file_locations", "id", "l")
        columns = (
            location,
            "a.id",
            "s.kept",
            "l.locator",
            older.column("file_locations", "status", "l"),
            primary,
            "l.backend_id",
            kind,
            older.column("file_assets", "quality_label", "a"),
            older.column("file_assets", "ext", "a"),
            older.column("file_assets", "file_size_bytes", "a"),
        )
        statement = (
            f"SELECT {', '.join(columns)} FROM file_locations l LEFT JOIN file_assets a ON a.id = l.file_asset_id "  # noqa: S608
            f"LEFT JOIN adopt_songs s ON s.id = a.song_id {join} "
            f"ORDER BY s.kept, {primary} DESC, a.id, {location}, l.locator"
        )
        for row in older.connection.execute(statement):
            yield dict(zip(names, row, strict=True))

    def _is_meant(self, row: Row) -> bool:
        """Whether the row is about a copy in the folder that is adopted."""
        reason = None
        if row["kind"] == BackendKind.OBJECT_STORAGE:
            reason = "object-copy"
        elif self._place.older_id is not None and identifier(row["backend"]) != self._place.older_id:
            reason = "other-backend"
        elif row["status"] not in (None, "", "active"):
            reason = "inactive"
        if reason is not None:
            self._report.leave(reason, "file", row["location"], row["locator"])
        return reason is None

    def _song(self, song: int, rows: list[Row]) -> Iterator[FileStored]:
        """The song's files. Its first one is the main one whether it is there or not: a second run must agree."""
        variants: dict[int, str] = {}
        taken: set[int] = set()
        for row in rows:
            asset = identifier(row["asset"])
            if asset is None:
                self._report.leave("id-unusable", "file", row["asset"], row["locator"])
                continue
            variant = variants.setdefault(asset, f"asset-{asset}" if variants else MAIN_VARIANT)
            reason, locator, size = self._judge(row)
            if asset in taken:
                # Of no use, but known: it is not reported as a file of which nobody knows.
                self._report.leave("second-location", "file", row["location"], row["locator"])
            elif reason is not None:
                self._report.leave(reason, "file", row["location"], row["locator"])
            elif not self._take(locator):
                self._report.leave("path-doubled", "file", row["location"], row["locator"])
            else:
                taken.add(asset)
                yield self._fact(row, song=song, asset=asset, variant=variant, locator=locator, size=size)

    def _judge(self, row: Row) -> tuple[str | None, str, int]:
        """(why it is not taken, the locator as it is spelled on the disk, bytes)."""
        said = text(row["locator"])
        try:
            locator = check_locator(self._relative(said))
        except InvalidLocator:
            out = said.startswith(("/", "\\")) or ".." in said.replace("\\", "/").split("/") or said[1:2] == ":"
            return ("outside-library" if out else "locator-invalid"), said, 0
        found = self._find(locator)
        if isinstance(found, str):
            return found, locator, 0
        spelled, size, plain = found
        self._older.connection.execute("UPDATE adopt_files SET named = 1 WHERE locator = ?", (spelled,))
        expected = natural(row["size"])
        if not plain:
            return "not-a-file", spelled, size
        if size == 0:
            return "empty-file", spelled, size
        if expected is not None and size != expected:
            return "wrong-size", spelled, size
        if spelled != said:
            self._report.notes[
                "paths written otherwise in the database; the files were found and stay as they are"
            ] += 1
        if expected is None:
            self._report.notes["files whose size the database does not say; taken as they are"] += 1
        return None, spelled, size

    def _relative(self, said: str) -> str:
        """The path below the library: absolute ones below the older folder are cut, Windows' strokes turned."""
        path = said.replace("\\", "/")
        for root in (self._place.older_path, str(self._place.library)):
            start = root.replace("\\", "/").rstrip("/") + "/"
            if len(start) > 1 and path.startswith(start):
                path = path[len(start) :]
                break
        return "/".join(part for part in path.split("/") if part != ".") if not path.startswith("/") else path

    def _find(self, locator: str) -> tuple[str, int, bool] | str:
        connection = self._older.connection
        exact = connection.execute(
            "SELECT locator, size, plain FROM adopt_files WHERE locator = ?", (locator,)
        ).fetchone()
        if exact is not None:
            return str(exact[0]), int(exact[1]), bool(exact[2])
        alike = connection.execute(
            "SELECT locator, size, plain FROM adopt_files WHERE folded = ? LIMIT 2", (folded(locator),)
        ).fetchall()
        if len(alike) == 1:
            return str(alike[0][0]), int(alike[0][1]), bool(alike[0][2])
        return "ambiguous-name" if alike else "file-missing"

    def _take(self, locator: str) -> bool:
        statement = "UPDATE adopt_files SET taken = 1 WHERE locator = ? AND NOT taken"
        return self._older.connection.execute(statement, (locator,)).rowcount == 1

    def _fact(self, row: Row, *, song: int, asset: int, variant: str, locator: str, size: int) -> FileStored:
        ext = text(row["ext"]).strip().lstrip(".").lower() or locator.rpartition("/")[2].rpartition(".")[2].lower()
        return FileStored(
            backend=self._place.backend,
            song_id=song,
            variant=variant,
            asset_id=asset,
            location_id=identifier(row["location"]),
            locator=locator,
            sha256=UNKNOWN_SHA256,
            size=size,
            quality_label=text(row["quality"]) or None,
            format=AudioFormat(ext=ext, mime=content_type(locator)),
        )


def _same(path: str, library: Path) -> bool:
    try:
        return bool(path) and Path(path).resolve() == library.resolve()
    except (OSError, ValueError):
        return False
