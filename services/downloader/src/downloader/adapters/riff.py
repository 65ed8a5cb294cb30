"""WAV files: a few numbers in a few chunks.

Read here and not by mutagen, which reads them in ten times the time, and only where there are tags:
folders of uncompressed recordings are the largest that there are.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from downloader.errors import Rejected

ENDLESS = (0, 0xFFFFFFFF)
"""What encoders that cannot seek leave as a length."""
_PCM = frozenset({1, 3})
_EXTENSIBLE = 0xFFFE
_MAX_CHUNKS = 1000
"""Real files have a dozen; a hostile one could have millions."""


@dataclass(frozen=True, kw_only=True)
class Riff:
    """``rate`` in hertz, ``seconds`` None where the format is compressed."""

    pcm: bool
    tagged: bool
    channels: int
    rate: int
    bits: int
    bytes_per_second: int
    seconds: float | None


def read_riff(file: BinaryIO, size: int) -> Riff | None:
    """The header of a WAV file of ``size`` bytes. Raises Rejected where it is cut off or broken.

    None where ``file`` is only its beginning, and that is too short to tell.
    """
    file.seek(0)
    start = file.read(12)
    if len(start) < 12:
        raise Rejected("The file is cut off in its header.", code="content-truncated")
    declared = struct.unpack("<4xI4x", start)[0]
    if declared not in ENDLESS:
        require(size, declared + 8)
    format = b""
    sound: int | None = None
    tagged = False
    place = 12
    for _ in range(_MAX_CHUNKS):
        if place + 8 > size:
            break
        file.seek(place)
        header = file.read(8)
        if len(header) < 8:
            return None
        name, length = struct.unpack("<4sI", header)
        if name == b"fmt ":
            format = file.read(min(length, 40))
        elif name == b"data":
            if length in ENDLESS:
                sound = size - place - 8
                break
            require(size, place + 8 + length)
            sound = length
        elif name.lower() == b"id3 ":
            tagged = True
        place += 8 + length + (length & 1)
    if len(format) < 16:
        raise Rejected("The file looks like wav, but its header does not say how it is coded.", code="content-broken")
    if not sound:
        raise Rejected("The file is cut off: it has a header, but no sound.", code="content-truncated")
    return _riff(format, sound, tagged=tagged)


def require(size: int, declared: int) -> None:
    """Raise Rejected unless a file of ``size`` bytes holds the ``declared`` ones."""
    # Some writers count a padding byte that they do not write.
    if size + 1 < declared:
        raise Rejected(f"The file is cut off: {size} of {declared} bytes are there.", code="content-truncated")


def _riff(format: bytes, sound: int, *, tagged: bool) -> Riff:
    tag, channels, rate, bytes_per_second, block, bits = struct.unpack_from("<HHIIHH", format)
    if tag == _EXTENSIBLE and len(format) >= 26:
        tag = struct.unpack_from("<H", format, 24)[0]
    pcm = tag in _PCM
    if not channels or not rate or (pcm and not block):
        raise Rejected("The file looks like wav, but its header makes no sense.", code="content-broken")
    return Riff(
        pcm=pcm,
        tagged=tagged,
        channels=channels,
        rate=rate,
        bits=bits,
        bytes_per_second=bytes_per_second,
        seconds=sound / block / rate if pcm else None,
    )
