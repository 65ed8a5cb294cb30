"""The container: a tar, compressed by zstd, encrypted if there is a passphrase; written and read as a stream."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO, Self

import zstandard

from cli.backup.cipher import decrypted, encrypted
from cli.backup.errors import ArchiveDamaged, NewerBackup
from cli.backup.layout import FORMAT, HEAD, MANIFEST, is_safe, program_version

Json = dict[str, Any]

PART_BYTES = 8 * 1024 * 1024
"""A part of a stream is held in memory while it is written or checked."""
_MAX_IN_MEMORY = 160 * 1024 * 1024
"""No honest part is larger: it ends with the message that fills it, and the bus takes 64 MiB at most."""
_MAX_EXTENSION = 64 * 1024
"""Of a header: a long name, a size above 8 GiB."""
_LEVEL = 3
_CHUNK = 1024 * 1024
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_MAX_WINDOW = 128 * 1024 * 1024
_NOT_OURS = "This file is not a backup of ours, or it is damaged. Take another one."


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an archive says of itself. ``members``: size in bytes and SHA-256 by name."""

    head: Json
    members: dict[str, tuple[int, str]]
    streams: dict[str, Json]
    digest: str


@dataclass
class ArchiveWriter:
    """Adds members one after the other, and the manifest at the end."""

    tar: tarfile.TarFile
    head: Json
    members: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add_bytes(self, name: str, content: bytes) -> None:
        """A member from memory."""
        self._add(name, io.BytesIO(content), len(content))

    def add_file(self, name: str, path: Path) -> None:
        """A member from a file that does not change meanwhile."""
        with path.open("rb") as file:
            self._add(name, file, os.fstat(file.fileno()).st_size)

    def _add(self, name: str, source: IO[bytes], size: int) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o600
        hashing = _Hashing(source)
        self.tar.addfile(info, hashing)
        self.members[name] = (size, hashing.hexdigest())

    def finish(self, streams: dict[str, Json]) -> Manifest:
        """Write the manifest; nothing may follow."""
        content = json.dumps(
            {
                **self.head,
                "streams": streams,
                "members": [
                    {"name": name, "size": size, "sha256": digest} for name, (size, digest) in self.members.items()
                ],
            },
            indent=1,
        ).encode()
        self._add(MANIFEST, io.BytesIO(content), len(content))
        members = {name: value for name, value in self.members.items() if name != MANIFEST}
        return Manifest(head=self.head, members=members, streams=streams, digest=hashlib.sha256(content).hexdigest())


@contextlib.contextmanager
def write_archive(path: Path, *, created: str, passphrase: str | None) -> Iterator[ArchiveWriter]:
    """Write a new archive at ``path``, which must not exist; it is on the disk at the end of the block."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w+b") as file:
        with contextlib.ExitStack() as stack:
            sink: BinaryIO = file if passphrase is None else stack.enter_context(encrypted(file, passphrase))
            compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
            packed = stack.enter_context(compressor.stream_writer(sink, closefd=False))
            tar = stack.enter_context(tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT))
            writer = ArchiveWriter(tar, {"format": FORMAT, "program": program_version(), "created": created})
            writer.add_bytes(HEAD, json.dumps(writer.head).encode())
            yield writer
        file.flush()
        os.fsync(file.fileno())


@dataclass
class Entry:
    """A member while it is read: take it by :meth:`content` or :meth:`save_to`, at most once."""

    name: str
    size: int
    _file: _Hashing

    def content(self) -> bytes:
        """All of it."""
        if self.size > _MAX_IN_MEMORY:
            raise ArchiveDamaged(_NOT_OURS)
        return self._file.read()

    def save_to(self, path: Path) -> None:
        """Into a new file that only its owner may read, on the disk when this returns.

        Raises OSError, also where there is no room for it: the bus may lie on the same disk.
        """
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if shutil.disk_usage(path.parent).free < self.size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path.parent))
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            while chunk := self._file.read(_CHUNK):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())

    def finish(self) -> tuple[int, str]:
        """Read what is left; (bytes read, SHA-256)."""
        while self._file.read(_CHUNK):
            continue
        return self._file.length, self._file.hexdigest()


def read_entries(path: Path, passphrase: str | None, seen: dict[str, tuple[int, str]]) -> Iterator[Entry]:
    """The members in their order; what was read of each goes into ``seen``.

    Raises ArchiveDamaged, WrongPassphrase, and NewerBackup before anything else is read.
    """
    try:
        with _unpacked(path, passphrase) as packed, tarfile.open(fileobj=packed, mode="r|", tarinfo=_Header) as tar:
            for info in tar:
                if not info.isreg() or not is_safe(info.name) or info.name in seen:
                    raise ArchiveDamaged(
                        f"The archive holds {info.name[:200]!r}, which no backup of ours does. It is not used."
                    )
                if not seen and info.name != HEAD:
                    raise ArchiveDamaged(_NOT_OURS)
                source = tar.extractfile(info)
                assert source is not None
                entry = Entry(info.name, info.size, _Hashing(source))
                if info.name == HEAD:
                    entry = _checked_head(entry)
                yield entry
                seen[info.name] = entry.finish()
                if seen[info.name][0] != info.size:
                    raise ArchiveDamaged("The backup is cut off. Take another one.")
            while packed.read(_CHUNK):
                continue  # to its end, where the checksum of the whole is
    except (tarfile.TarError, zstandard.ZstdError, EOFError, UnicodeError):
        raise ArchiveDamaged(_NOT_OURS) from None


def parse_manifest(content: bytes, seen: dict[str, tuple[int, str]]) -> Manifest:
    """Read the manifest and compare it with what was ``seen`` before it. Raises ArchiveDamaged."""
    try:
        told = json.loads(content)
        members = {str(one["name"]): (int(one["size"]), str(one["sha256"])) for one in told["members"]}
        streams = {str(name): dict(stream) for name, stream in told["streams"].items()}
        head = {key: told[key] for key in ("format", "program", "created")}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ArchiveDamaged(_NOT_OURS) from None
    for name in members.keys() | seen.keys():
        if members.get(name) != seen.get(name):
            raise ArchiveDamaged(f"The backup is damaged: {name} is not as it was written. Take another one.")
    return Manifest(head=head, members=members, streams=streams, digest=hashlib.sha256(content).hexdigest())


def is_encrypted(path: Path) -> bool:
    """Whether an archive needs a passphrase."""
    with path.open("rb") as file:
        return file.read(4) != _ZSTD_MAGIC


class _Header(tarfile.TarInfo):
    """A header of a member, refused where tarfile would read what belongs to it into memory, or make up zeros."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str | None, errors: str) -> Self:
        info = super().frombuf(buf, encoding or "utf-8", errors)
        if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) and info.size > _MAX_EXTENSION:
            raise ArchiveDamaged(_NOT_OURS)
        return info

    def isreg(self) -> bool:
        return super().isreg() and not self.issparse()


class _Hashing(io.RawIOBase):
    """Reads another file and keeps the digest of what went through."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._hash = hashlib.sha256()
        self.length = 0

    def read(self, size: int = -1) -> bytes:
        content = self._source.read(size)
        self._hash.update(content)
        self.length += len(content)
        return content

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def _checked_head(entry: Entry) -> Entry:
    content = entry.content()
    try:
        told = json.loads(content)
        format, program = int(told["format"]), str(told["program"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ArchiveDamaged(_NOT_OURS) from None
    if format > FORMAT or _numbers(program) > _numbers(program_version()):
        raise NewerBackup(
            f"This backup was made by version {program[:40]}, and this program is {program_version()}. Update it first."
        )
    return entry


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("+")[0].split(".") if part.isdigit())


@contextlib.contextmanager
def _unpacked(path: Path, passphrase: str | None) -> Iterator[IO[bytes]]:
    with contextlib.ExitStack() as stack:
        source: IO[bytes]
        if is_encrypted(path):
            source = stack.enter_context(decrypted(path, passphrase))
        else:
            source = stack.enter_context(path.open("rb"))
        reader = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        yield stack.enter_context(reader.stream_reader(source, closefd=False))
