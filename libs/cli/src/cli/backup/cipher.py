"""Encryption of an archive with a passphrase, by age: a stream of any length in bounded memory.

A passphrase in age encrypts what fits into memory. So each archive has a key pair of its own: the
archive is encrypted to it as a stream, and the key with the passphrase. Both lie in a plain tar, and
`age --decrypt --identity identity.age backup.tar.zst.age` reads them without this program.
"""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, BinaryIO

import pyrage

from cli.backup.errors import ArchiveDamaged, WrongPassphrase
from cli.backup.layout import BODY, IDENTITY

_BLOCK = tarfile.BLOCKSIZE
_MAX_IDENTITY = 64 * 1024


@contextlib.contextmanager
def encrypted(file: BinaryIO, passphrase: str) -> Iterator[BinaryIO]:
    """A file to write to; what is written arrives in ``file`` encrypted."""
    identity = pyrage.x25519.Identity.generate()
    locked = pyrage.passphrase.encrypt(str(identity).encode(), passphrase)
    file.write(_header(IDENTITY, len(locked)) + locked + _padding(len(locked)))
    place = file.tell()
    file.write(_header(BODY, 0))
    begin = file.tell()

    def encrypt(source: BinaryIO) -> None:
        pyrage.encrypt_io(source, file, [identity.to_public()])

    with _fed(encrypt) as plain:
        yield plain
    size = file.tell() - begin
    file.write(_padding(size) + bytes(2 * _BLOCK))
    # How long it is, is known only now.
    file.seek(place)
    file.write(_header(BODY, size))
    file.seek(0, io.SEEK_END)


@contextlib.contextmanager
def decrypted(path: Path, passphrase: str | None) -> Iterator[IO[bytes]]:
    """What was encrypted, as a stream. Raises WrongPassphrase and ArchiveDamaged."""
    try:
        with tarfile.open(path, "r:") as outer:
            locked, body = outer.extractfile(IDENTITY), outer.extractfile(BODY)
            if locked is None or body is None:
                raise KeyError
            if passphrase is None:
                raise WrongPassphrase("This backup is encrypted. Give its passphrase (BACKUP_PASSPHRASE or a file).")
            identity = _unlock(locked.read(_MAX_IDENTITY), passphrase)
            with _drained(lambda sink: pyrage.decrypt_io(body, sink, [identity])) as plain:
                yield plain
    except (tarfile.TarError, KeyError):
        raise ArchiveDamaged("This file is not a backup of ours, or it is damaged. Take another one.") from None


def _unlock(locked: bytes, passphrase: str) -> pyrage.x25519.Identity:
    try:
        return pyrage.x25519.Identity.from_str(pyrage.passphrase.decrypt(locked, passphrase).decode())
    except pyrage.DecryptError:
        raise WrongPassphrase("The passphrase is not the one of this backup; nothing was changed.") from None
    except (pyrage.IdentityError, UnicodeDecodeError):
        raise ArchiveDamaged("The key in this backup cannot be read: it is damaged. Take another one.") from None


@contextlib.contextmanager
def _fed(work: Callable[[BinaryIO], None]) -> Iterator[BinaryIO]:
    """A file whose content ``work`` reads in a thread of its own; its error is raised at the end."""
    read, write = os.pipe()
    errors: list[BaseException] = []

    def run() -> None:
        with os.fdopen(read, "rb") as source:
            try:
                work(source)
            except BaseException as error:  # raised again below
                errors.append(error)

    thread = threading.Thread(target=run, name="encrypt", daemon=True)
    thread.start()
    try:
        with os.fdopen(write, "wb") as sink:
            yield sink
    except BrokenPipeError:
        if not errors:
            raise
    finally:
        thread.join()
    if errors:
        raise errors[0]


class _Stream(io.RawIOBase):
    """Reads a pipe; at its end, says what went wrong on the other side."""

    def __init__(self, descriptor: int, thread: threading.Thread, errors: list[BaseException]) -> None:
        self._file = os.fdopen(descriptor, "rb")
        self._thread = thread
        self._errors = errors

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        if len(content) < size or size < 0:
            self._thread.join()
            if self._errors:
                raise ArchiveDamaged(
                    "The backup is damaged or cut off: a part of it cannot be decrypted. Take another one."
                ) from None
        return content

    def close(self) -> None:
        self._file.close()
        super().close()


@contextlib.contextmanager
def _drained(work: Callable[[BinaryIO], None]) -> Iterator[IO[bytes]]:
    read, write = os.pipe()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            with os.fdopen(write, "wb") as sink:
                work(sink)
        except BaseException as error:  # told to whoever reads
            errors.append(error)

    thread = threading.Thread(target=run, name="decrypt", daemon=True)
    stream = _Stream(read, thread, errors)
    thread.start()
    try:
        yield stream  # type: ignore[misc]
    finally:
        # A reader that stops early breaks the pipe, and with it the thread.
        stream.close()
        thread.join()


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)
