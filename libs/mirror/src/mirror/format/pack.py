"""A pack: the bytes that bring a mirror from nothing, or from one snapshot, to another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgpack
import zstandard

from mirror.errors import PackError
from mirror.format.manifest import MAX_MANIFEST_BYTES, is_snapshot_id
from mirror.format.rows import LARGEST, SMALLEST, encoder, problem_of
from mirror.format.schema import SCHEMA_VERSION, TABLES, Key, Row, TableSpec
from mirror.format.stream import PackStream

FORMAT = "music-cloud-pack"
VERSION = 1
BLOB_BYTES = 1024 * 1024
"""About as many bytes of groups make a blob."""
MAX_BLOB_BYTES = 64 * 1024 * 1024
MAX_GROUP_ROWS = 1_000_000
"""Rows of one group at most: a reader holds them in memory."""
MAX_LEVEL = 19
"""Above it zstd uses windows that readers of the format refuse."""
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class PackInfo:
    """What was written: ``pack_id`` is the digest of the ``size`` bytes of the pack."""

    pack_id: str
    size: int
    blob_count: int
    commit_count: int
    groups: int


@dataclass(frozen=True, slots=True)
class PackLimits:
    """What a reader takes at most: bytes after decompression, bytes of one blob, number of blobs."""

    decompressed_bytes: int = 16 * 1024 * 1024 * 1024
    blob_bytes: int = MAX_BLOB_BYTES
    blobs: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Commit:
    """A snapshot that a pack brings: its id and the bytes of its manifest."""

    id: str
    manifest: bytes


@dataclass(frozen=True, slots=True)
class PackHeader:
    """``have`` is the snapshot that the pack is applied to; None: an empty database."""

    want: str
    have: str | None
    commits: tuple[Commit, ...]


class PackWriter:
    """Writes a pack: ``add`` groups by table name and key, both ascending, then ``close``.

    Raises PackError on anything that a reader would refuse, at the latest when the group's blob is complete.
    """

    def __init__(self, file: BinaryIO, *, want: str, have: str | None, manifest: bytes, level: int = 3) -> None:
        """``manifest``: the bytes of the wanted snapshot's manifest. ``level``: of zstd, at most 19."""
        self._file = file
        self._hash = hashlib.sha256()
        self._size = 0
        self._compressor = zstandard.ZstdCompressor(level=min(level, MAX_LEVEL), write_checksum=True).compressobj()
        self._encode = encoder()
        self._packer = msgpack.Packer(use_bin_type=True)
        self._last: tuple[str, Any] | None = None
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._pending_rows: list[Row] = []
        self._blobs = 0
        self._groups = 0
        header = {
            "format": FORMAT,
            "version": VERSION,
            "schema_version": SCHEMA_VERSION,
            "want": want,
            "have": have,
            "commits": [{"id": want, "manifest": manifest}],
        }
        _header(header)
        self._write(self._packer.pack(header))

    def add(self, table: str, key: Key, rows: Sequence[Row]) -> None:
        """Add a group; no rows: its tombstone."""
        spec = TABLES[table]
        _require_order(self._last, table, key)
        if self._last is not None and table != self._last[0]:
            self._flush()
        _require_group(spec, key, rows)
        try:
            data = self._encode((key, rows))
        except (TypeError, ValueError, OverflowError) as error:
            raise _damaged(f"a value of {table} cannot be written") from error
        if len(data) > MAX_BLOB_BYTES - 256:
            raise PackError("group-too-large", f"A group of {table} is larger than a blob may be.")
        if self._pending_bytes + len(data) > BLOB_BYTES:
            self._flush()
        self._last = (table, key)
        self._pending.append(data)
        self._pending_bytes += len(data)
        self._pending_rows += rows
        self._groups += 1

    def close(self) -> PackInfo:
        """End the pack. The file itself stays open."""
        self._flush()
        self._write(self._packer.pack({"end": True, "blob_count": self._blobs}))
        self._put(self._compressor.flush())
        return PackInfo(
            pack_id=f"sha256:{self._hash.hexdigest()}",
            size=self._size,
            blob_count=self._blobs,
            commit_count=1,
            groups=self._groups,
        )

    def _flush(self) -> None:
        if not self._pending or self._last is None:
            return
        table = self._last[0]
        if problem := problem_of(TABLES[table], self._pending_rows):
            raise _damaged(problem)
        head = [self._packer.pack_map_header(2), *map(self._packer.pack, ("table", table, "groups"))]
        blob = b"".join([*head, self._packer.pack_array_header(len(self._pending)), *self._pending])
        self._write(self._packer.pack((f"sha256:{hashlib.sha256(blob).hexdigest()}", blob)))
        self._blobs += 1
        self._pending, self._pending_bytes, self._pending_rows = [], 0, []

    def _write(self, data: bytes) -> None:
        self._put(self._compressor.compress(data))

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self._size += len(data)


class PackReader:
    """Reads a pack that somebody sent. Raises PackError at the first thing that is not as it must be."""

    def __init__(self, file: BinaryIO, *, limits: PackLimits | None = None) -> None:
        self._limits = limits or PackLimits()
        self._stream = PackStream(
            file,
            decompressed_bytes=self._limits.decompressed_bytes,
            object_bytes=max(self._limits.blob_bytes, MAX_MANIFEST_BYTES) + 1024,
        )
        self._header = _header(self._stream.next())

    @property
    def header(self) -> PackHeader:
        return self._header

    def groups(self) -> Iterator[tuple[str, Key, list[Row]]]:
        """The groups in order, each checked; the end is reached only if the pack is whole."""
        blobs = 0
        last: tuple[str, Any] | None = None
        while isinstance(item := self._stream.next(), list):
            blobs += 1
            if blobs > self._limits.blobs:
                raise PackError("pack-too-large", "The pack has more blobs than are allowed.")
            for table, groups in _blob(item, self._limits.blob_bytes):
                for key, rows in groups:
                    _require_order(last, table.name, key)
                    last = (table.name, key)
                    yield table.name, key, rows
        if item != {"end": True, "blob_count": blobs} or item["end"] is not True:
            raise _damaged("its end does not fit its blobs")
        self._stream.require_end()


def _header(found: object) -> PackHeader:
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise PackError("pack-unknown", "This is not a pack.")
    if found.get("version") != VERSION or found.get("schema_version") != SCHEMA_VERSION:
        raise PackError("pack-version-unknown", "The pack has a version that this program does not know; update it.")
    want, have, commits = found.get("want"), found.get("have"), found.get("commits")
    if not isinstance(want, str) or not is_snapshot_id(want) or not isinstance(commits, list) or len(commits) != 1:
        raise _damaged("its header does not name what it brings")
    if have is not None and (not isinstance(have, str) or not is_snapshot_id(have)):
        raise _damaged("its header does not name what it is applied to")
    commit = commits[0]
    if not isinstance(commit, dict) or commit.get("id") != want or not isinstance(commit.get("manifest"), bytes):
        raise _damaged("its commit is not the snapshot that it brings")
    if len(commit["manifest"]) > MAX_MANIFEST_BYTES:
        raise _damaged("its manifest is too large")
    return PackHeader(want=want, have=have, commits=(Commit(id=want, manifest=commit["manifest"]),))


def _blob(item: list[Any], limit: int) -> Iterator[tuple[TableSpec, list[tuple[Key, list[Row]]]]]:
    """The groups of a blob, some thousand rows at once."""
    if len(item) != 2 or not isinstance(item[0], str) or not isinstance(item[1], bytes):
        raise _damaged("a blob is not an id and bytes")
    id, data = item
    if len(data) > limit:
        raise PackError("pack-too-large", "The pack has a larger blob than is allowed.")
    if id != f"sha256:{hashlib.sha256(data).hexdigest()}":
        raise _damaged("a blob does not have the digest that it is named by")
    try:
        yield from _parsed(data)
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        raise _damaged("a blob holds what a blob does not hold") from error


def _parsed(data: bytes) -> Iterator[tuple[TableSpec, list[tuple[Key, list[Row]]]]]:
    width = 0

    def flat(row: tuple[Any, ...]) -> tuple[Any, ...]:
        # Called as soon as an array ends: what is no row never unfolds into a tree.
        if len(row) != width or tuple in map(type, row):
            raise ValueError("an array that is not a row")
        return row

    unpacker = msgpack.Unpacker(
        max_buffer_size=max(len(data), 1),
        max_array_len=16,
        max_map_len=0,
        max_ext_len=0,
        use_list=False,
        list_hook=flat,
    )
    unpacker.feed(data)
    if unpacker.read_map_header() != 2 or unpacker.unpack() != "table":
        raise _damaged("a blob does not name its table")
    name = unpacker.unpack()
    table = TABLES.get(name) if isinstance(name, str) else None
    if table is None or unpacker.unpack() != "groups":
        raise _damaged("a blob does not belong to a table")
    width = len(table.columns)
    groups: list[tuple[Key, list[Row]]] = []
    pending: list[Row] = []
    for _ in range(unpacker.read_array_header()):
        if unpacker.read_array_header() != 2:
            raise _damaged("a group is not a key and rows")
        key = unpacker.unpack()
        count = unpacker.read_array_header()
        if count > MAX_GROUP_ROWS:
            raise PackError("group-too-large", f"A group of {table.name} has more rows than are allowed.")
        rows = [unpacker.unpack() for _ in range(count)]
        _require_group(table, key, rows)
        groups.append((key, rows))
        pending += rows
        if len(groups) + len(pending) >= _ROWS_AT_ONCE:
            yield table, _checked(table, groups, pending)
            groups, pending = [], []
    if unpacker.tell() != len(data):
        raise _damaged("something follows the groups of a blob")
    yield table, _checked(table, groups, pending)


def _checked(table: TableSpec, groups: list[tuple[Key, list[Row]]], rows: list[Row]) -> list[tuple[Key, list[Row]]]:
    if problem := problem_of(table, rows):
        raise _damaged(problem)
    return groups


def _require_order(last: tuple[str, Any] | None, table: str, key: Any) -> None:
    if last is not None and (table < last[0] or (table == last[0] and key <= last[1])):
        raise PackError("pack-order-wrong", "The groups of the pack are not in order, or one stands twice.")


def _require_group(table: TableSpec, key: Any, rows: Sequence[Row]) -> None:
    """The key's type, and that the rows are this table's and this group's; problem_of looks at their values."""
    if type(key) is int and table.group_kind == "integer":
        if not SMALLEST <= key <= LARGEST:
            raise _damaged(f"a key of {table.name} does not fit 64 bits")
    elif not (type(key) is str and table.group_kind == "text" and "\0" not in key):
        raise _damaged(f"a key of {table.name} is not {table.group_kind}")
    if len(rows) > (1 if table.single else MAX_GROUP_ROWS):
        raise _damaged(f"a group of {table.name} has too many rows")
    width, place = len(table.columns), table.group_index
    for row in rows:
        if type(row) is not tuple or len(row) != width or row[place] != key:
            raise _damaged(f"a row of {table.name} does not belong to its group")


def _damaged(what: str) -> PackError:
    return PackError("pack-damaged", f"The pack is not valid: {what}.")
