"""The msgpack objects of a zstd frame, one after the other, with bounded memory whatever the bytes are."""

from __future__ import annotations

from typing import Any, BinaryIO

import msgpack
import zstandard

from mirror.errors import PackError

_COMPRESSED_AT_ONCE = 1024
"""Few: zstd unfolds four bytes into 128 KiB at worst, so that this many give at most 32 MiB."""
_UNFOLDED = 34 * 1024 * 1024
_WINDOW = 8 * 1024 * 1024
"""The largest window that RFC 8878 asks every decoder to take."""


class PackStream:
    """Reads ``file`` to its end. Raises PackError."""

    def __init__(self, file: BinaryIO, *, decompressed_bytes: int, object_bytes: int) -> None:
        """``decompressed_bytes``: of the whole; ``object_bytes``: of one object."""
        self._file = file
        self._bytes_left = decompressed_bytes
        self._object_bytes = object_bytes
        self._frame = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
        self._fed = self._taken = 0
        self._unpacker = msgpack.Unpacker(
            max_buffer_size=object_bytes + _UNFOLDED,
            max_bin_len=object_bytes,
            max_str_len=256,
            max_array_len=16,
            max_map_len=16,
            max_ext_len=0,
            list_hook=_shallow_list,
            object_hook=_shallow_map,
        )

    def next(self) -> Any:
        """The next object."""
        while True:
            try:
                found = self._unpacker.unpack()
            except msgpack.OutOfData:
                if self._fed - self._taken > self._object_bytes:
                    raise PackError("pack-too-large", "The pack holds a larger blob than is allowed.") from None
                self._fill()
            except (ValueError, msgpack.UnpackException) as error:
                raise _damaged("it holds what a pack does not hold") from error
            else:
                self._taken = self._unpacker.tell()
                return found

    def require_end(self) -> None:
        """Refuse whatever follows the last object."""
        while not self._frame.eof and self._fed == self._taken:
            # The frame's own checksum may still be missing, but nothing else.
            self._fill()
        if self._fed != self._taken or self._frame.unused_data or self._file.read(1):
            raise _damaged("something follows its end")

    def _fill(self) -> None:
        if self._frame.eof:
            raise _damaged("it ends too early")
        data = self._file.read(_COMPRESSED_AT_ONCE)
        if not data:
            raise _damaged("it ends too early")
        try:
            unfolded = self._frame.decompress(data)
        except zstandard.ZstdError as error:
            raise _damaged("its compression is broken") from error
        self._bytes_left -= len(unfolded)
        if self._bytes_left < 0:
            raise PackError("pack-too-large", "The pack holds more bytes than are allowed.")
        try:
            self._unpacker.feed(unfolded)
        except msgpack.BufferFull as error:
            raise PackError("pack-too-large", "The pack holds a larger blob than is allowed.") from error
        self._fed += len(unfolded)


def _shallow_list(found: list[Any]) -> list[Any]:
    # Called as soon as an array ends: whatever is sent never unfolds into a tree.
    for value in found:
        if isinstance(value, list) or (
            isinstance(value, dict) and any(isinstance(inner, list | dict) for inner in value.values())
        ):
            raise ValueError("nested too deeply")
    return found


def _shallow_map(found: dict[Any, Any]) -> dict[Any, Any]:
    if any(isinstance(value, dict) for value in found.values()):
        raise ValueError("nested too deeply")
    return found


def _damaged(what: str) -> PackError:
    return PackError("pack-damaged", f"The pack is not valid: {what}.")
