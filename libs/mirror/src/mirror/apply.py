"""From a pack to a complete snapshot in an empty folder, or to nothing."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from mirror.copying import copy_file
from mirror.errors import ContentError
from mirror.folder import CHUNKS_FILE, Snapshot, explained
from mirror.format.digest import ChunkIndex, Content
from mirror.format.manifest import Manifest, parse
from mirror.format.pack import PackLimits, PackReader
from mirror.format.schema import DATABASE_FILE, MANIFEST_FILE, TABLES, Key, Row, create_tables
from mirror.problems import Refused
from mirror.progress import Progress

_GROUPS_AT_ONCE = 4096
_CACHE_KIB = 64 * 1024
_UPDATE_AT_MOST = 250_000
"""Groups that changed, above which reading everything costs less than reading what they touch."""
_OVERHEAD = 64 << 20
"""Bytes that a pack may hold beside rows: one blob's worth of tombstones and framing."""


class ContentMismatch(Refused):
    """The pack was applied, and the result is not the content that the manifest promises."""


def read_manifest(file: BinaryIO, *, want: str, have: str | None) -> tuple[Manifest, bytes, bool]:
    """(manifest, its bytes, whether the pack is a delta) from the head of a pack. Raises Refused, PackError.

    The signature is not checked here.
    """
    header = PackReader(file).header
    if header.want != want or header.have not in (None, have):
        raise Refused("pack-other", "The server sent a pack for other snapshots than were asked for.")
    data = header.commits[-1].manifest
    manifest = parse(data)
    if manifest.snapshot_id != want:
        raise Refused("pack-other", "The pack holds the manifest of another snapshot than was asked for.")
    return manifest, data, header.have is not None


def build(
    pack: BinaryIO,
    *,
    manifest: Manifest,
    manifest_bytes: bytes,
    base: Snapshot | None,
    folder: Path,
    blobs: int,
    progress: Progress,
) -> None:
    """Write database, chunk digests and manifest into an empty folder; ``base`` None: from a full pack.

    ``blobs``: how many the server announced. Raises PackError, Refused, LocalProblem; ContentMismatch where the
    content is not that of the manifest, be it for the pack or for ``base``.
    """
    database, chunks = folder / DATABASE_FILE, folder / CHUNKS_FILE
    with explained():
        if base is not None:
            copy_file(base.database, database)
            if base.chunks.exists():
                copy_file(base.chunks, chunks)
        try:
            with _opened(database, chunks) as connection:
                content = _apply(connection, pack, manifest, base, blobs, progress)
        except (sqlite3.IntegrityError, ContentError) as error:
            raise ContentMismatch("content-damaged", f"The pack cannot be applied ({error}).") from None
        except sqlite3.DatabaseError as error:
            if base is None or not _malformed(error):
                raise
            raise ContentMismatch("content-damaged", "The database that is here is damaged.") from None
        if content.snapshot_id != manifest.snapshot_id:
            raise ContentMismatch(
                "content-mismatch",
                "What the pack leads to is not the content that the manifest promises. The server's data is wrong, "
                "or the copy that is here was damaged.",
            )
        (folder / MANIFEST_FILE).write_bytes(manifest_bytes)


def _apply(
    connection: sqlite3.Connection,
    pack: BinaryIO,
    manifest: Manifest,
    base: Snapshot | None,
    blobs: int,
    progress: Progress,
) -> Content:
    """One transaction; returns the content that came of it, by the digests of its chunks."""
    index = ChunkIndex(connection, index="chunks")
    connection.execute("BEGIN")
    if base is None:
        create_tables(connection)
    known = base is not None and base.chunks.exists()
    touched: dict[str, list[Key]] = {}
    reader = PackReader(pack, limits=_limits(manifest, base, blobs))
    place = count = 0
    for table, groups in _batches(reader.groups()):
        spec = TABLES[table]
        if base is not None:
            connection.executemany(
                f'DELETE FROM "{table}" WHERE "{spec.group}" = ?',  # noqa: S608 - names of the schema
                [(key,) for key, _ in groups],
            )
            count += len(groups)
            if known := known and count <= _UPDATE_AT_MOST:
                touched.setdefault(table, []).extend(key for key, _ in groups)
        connection.executemany(
            f'INSERT INTO "{table}" VALUES ({", ".join("?" * len(spec.columns))})',  # noqa: S608
            [row for _, rows in groups for row in rows],
        )
        progress.advance(pack.tell() - place)
        place = pack.tell()
    progress.step("checking")
    content = index.update(touched) if known else index.rebuild()
    if known and content.snapshot_id != manifest.snapshot_id:
        # Perhaps it is only what we noted of the parts that is wrong: all of it is read before anybody is blamed.
        content = index.rebuild()
    connection.execute("COMMIT")
    return content


def _limits(manifest: Manifest, base: Snapshot | None, blobs: int) -> PackLimits:
    """No pack needs more than twice the bytes of the rows, as the signed manifest counts them; for tombstones,
    those of the rows that are here."""
    size = sum(table.size for table in manifest.tables.values())
    if base is not None:
        size += sum(table.size for table in base.manifest.tables.values())
    return PackLimits(decompressed_bytes=2 * size + _OVERHEAD, blobs=blobs)


def _batches(groups: Iterator[tuple[str, Key, list[Row]]]) -> Iterator[tuple[str, list[tuple[Key, list[Row]]]]]:
    """Groups of one table, some thousand rows at once."""
    batch: list[tuple[Key, list[Row]]] = []
    of, size = "", 0
    for table, key, rows in groups:
        if batch and (table != of or size >= _GROUPS_AT_ONCE):
            yield of, batch
            batch, size = [], 0
        of = table
        batch.append((key, rows))
        size += 1 + len(rows)
    if batch:
        yield of, batch


@contextlib.contextmanager
def _opened(database: Path, chunks: Path) -> Iterator[sqlite3.Connection]:
    # Nobody reads the two files before they are complete, so that a journal would protect nothing.
    connection = sqlite3.connect(f"file:{quote(str(database))}", uri=True, isolation_level=None)
    with contextlib.closing(connection):
        connection.execute("ATTACH ? AS chunks", (f"file:{quote(str(chunks))}",))
        for pragma in ("main.cache_size", "chunks.cache_size"):
            connection.execute(f"PRAGMA {pragma} = -{_CACHE_KIB}")
        for schema in ("main", "chunks"):
            connection.execute(f"PRAGMA {schema}.journal_mode = OFF")
            connection.execute(f"PRAGMA {schema}.synchronous = OFF")
            connection.execute(f"PRAGMA {schema}.locking_mode = EXCLUSIVE")
        yield connection


def _malformed(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_ERROR,
    )
