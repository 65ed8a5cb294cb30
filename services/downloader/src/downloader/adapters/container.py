"""What audio files say of themselves, and whether they are all there.

mutagen reads format and tags; it stops at the headers, so that lengths are compared here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from mutagen.aac import AAC
from mutagen.aiff import AIFF
from mutagen.asf import ASF
from mutagen.dsdiff import DSDIFF
from mutagen.dsf import DSF
from mutagen.flac import FLAC
from mutagen.monkeysaudio import MonkeysAudio
from mutagen.mp3 import MP3, BitrateMode
from mutagen.mp4 import MP4
from mutagen.musepack import Musepack
from mutagen.ogg import OggPage
from mutagen.oggflac import OggFLAC
from mutagen.oggopus import OggOpus
from mutagen.oggspeex import OggSpeex
from mutagen.oggvorbis import OggVorbis
from mutagen.trueaudio import TrueAudio
from mutagen.wave import WAVE
from mutagen.wavpack import WavPack

from common.contracts.facts import AudioFormat, FileTags
from downloader.adapters.riff import Riff, read_riff, require
from downloader.errors import Rejected
from downloader.ports import Inspected
from downloader.service.sniff import MIME

_TYPES: dict[str, Callable[[BinaryIO], Any]] = {
    "flac": FLAC,
    "mp3": MP3,
    "mp2": MP3,
    "ogg": OggVorbis,
    "oga": OggFLAC,
    "opus": OggOpus,
    "spx": OggSpeex,
    "m4a": MP4,
    "wav": WAVE,
    "aiff": AIFF,
    "aac": AAC,
    "wma": ASF,
    "ape": MonkeysAudio,
    "wv": WavPack,
    "mpc": Musepack,
    "tta": TrueAudio,
    "dsf": DSF,
    "dff": DSDIFF,
}
_PAGE: Any = OggPage
_LOSSLESS = frozenset({"flac", "oga", "wav", "aiff", "ape", "wv", "tta", "dsf", "dff"})
_CODECS = {"ogg": "vorbis", "oga": "flac", "spx": "speex", "wav": "pcm", "aiff": "pcm", "wma": "wma"}
_TITLE = ("title", "TIT2", "\xa9nam", "Title")
_ARTIST = ("artist", "TPE1", "\xa9ART", "Artist", "Author")
_ALBUM = ("album", "TALB", "\xa9alb", "Album", "WM/AlbumTitle")
_MAX_TAG = 1000
"""Characters; longer titles are mistakes, and would travel with every fact."""
_MAX_ARTISTS = 32


def inspect(path: Path, kind: str, *, size: int, head: bytes) -> Inspected:
    """Read the container. ``head`` is its beginning. Raises Rejected when it is broken or cut off."""
    if kind == "wav" and (riff := read_riff(BytesIO(head), size)) is not None and riff.pcm and not riff.tagged:
        return _plain_wave(riff)
    with path.open("rb") as file:
        riff = read_riff(file, size) if kind == "wav" else None
        if riff is not None and riff.pcm and not riff.tagged:
            return _plain_wave(riff)
        try:
            file.seek(0)
            sound = _TYPES[kind](file)
        except Exception as error:  # a parser given hostile bytes may raise anything
            # mutagen says a missing end in many ways; where lengths tell that it is cut off, that is the reason.
            _check_lengths(file, kind, size)
            raise Rejected(
                f"The file looks like {kind}, but cannot be read as such ({type(error).__name__}).",
                code="content-broken",
            ) from None
        _check_lengths(file, kind, size)
    return _inspected(sound, kind, pcm=riff is not None and riff.pcm)


def _plain_wave(riff: Riff) -> Inspected:
    return Inspected(
        format=AudioFormat(
            ext="wav",
            mime=MIME["wav"],
            codec="pcm",
            duration_seconds=round(riff.seconds, 3) if riff.seconds else None,
            bitrate=riff.bytes_per_second * 8 or None,
            sample_rate=riff.rate,
            channels=riff.channels,
            lossless=True,
        ),
        tags=FileTags(),
        exact_duration=True,
        pcm=True,
        bits=riff.bits,
    )


def _inspected(sound: Any, kind: str, *, pcm: bool) -> Inspected:
    info = sound.info
    seconds = _number(getattr(info, "length", None))
    rate = _integer(getattr(info, "sample_rate", None))
    frames = _integer(getattr(info, "total_samples", None)) if kind == "flac" else None
    codec = getattr(info, "codec", None) if kind == "m4a" else _CODECS.get(kind, kind)
    lossless = kind in _LOSSLESS or codec == "alac"
    md5 = getattr(info, "md5_signature", 0) if kind == "flac" else 0
    return Inspected(
        format=AudioFormat(
            ext=kind,
            mime=MIME[kind],
            codec=codec[:32] if isinstance(codec, str) and codec else None,
            duration_seconds=round(seconds, 3) if seconds else None,
            bitrate=_integer(getattr(info, "bitrate", None)),
            sample_rate=rate,
            channels=_integer(getattr(info, "channels", None)),
            lossless=lossless,
        ),
        tags=FileTags(
            title=next(iter(_texts(sound.tags, _TITLE)), None),
            artists=_texts(sound.tags, _ARTIST)[:_MAX_ARTISTS],
            album=next(iter(_texts(sound.tags, _ALBUM)), None),
        ),
        exact_duration=_exact(sound, kind),
        pcm=pcm,
        frames=frames,
        md5=md5.to_bytes(16, "big") if md5 else None,
        bits=_integer(getattr(info, "bits_per_sample", None)),
    )


def _exact(sound: Any, kind: str) -> bool:
    """An MP3 without a header of its own only has a guess, from its size."""
    if kind in ("mp3", "mp2"):
        return bool(getattr(sound.info, "bitrate_mode", BitrateMode.UNKNOWN) != BitrateMode.UNKNOWN)
    return kind not in ("aac",)


def _check_lengths(file: BinaryIO, kind: str, size: int) -> None:
    """Raise Rejected where the container declares more than there is."""
    if kind == "aiff":
        file.seek(0)
        require(size, 8 + struct.unpack(">4xI", file.read(8))[0])
    elif kind == "m4a":
        _check_boxes(file, size)
    elif kind == "dsf":
        file.seek(0)
        header = file.read(28)
        if len(header) == 28:
            require(size, struct.unpack("<12xQ8x", header)[0])
    elif kind in ("ogg", "oga", "opus", "spx"):
        _check_ogg(file)


def _check_boxes(file: BinaryIO, size: int) -> None:
    place, found = 0, set()
    while place + 8 <= size:
        file.seek(place)
        header = file.read(16)
        length, name = struct.unpack_from(">I4s", header)
        found.add(name)
        if length == 0:
            return
        if length == 1:
            if len(header) < 16:
                break
            length = struct.unpack_from(">Q", header, 8)[0]
        if length < 8:
            raise Rejected("The structure of the file is damaged.", code="content-broken")
        place += length
    require(size, place)
    if b"moov" not in found or not found & {b"mdat", b"moof"}:
        raise Rejected("The file is cut off: its table of contents or its sound is missing.", code="content-truncated")


def _check_ogg(file: BinaryIO) -> None:
    """The last page of a whole Ogg stream is marked; one that is cut off has no such page."""
    file.seek(0)
    try:
        last = _PAGE.find_last(file, _PAGE(file).serial)
    except Exception:  # hostile bytes again
        last = None
    if last is None or not last.last:
        raise Rejected("The file is cut off: its last page is missing.", code="content-truncated")


def _texts(tags: Any, keys: tuple[str, ...]) -> tuple[str, ...]:
    """The values of the first key that is there, as clean text."""
    if tags is None:
        return ()
    for key in keys:
        try:
            value = tags.get(key)
        except Exception:  # noqa: S112 - keys that one kind of tags has are malformed for another
            continue
        if value is None:
            continue
        values = value if isinstance(value, list) else getattr(value, "text", [value])
        clean = tuple(text for item in values if (text := _clean(str(item))))
        if clean:
            return clean
    return ()


def _clean(text: str) -> str:
    return "".join(char for char in text.replace("\0", " ") if char.isprintable())[:_MAX_TAG].strip()


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and 0 < value < 1e7 else None


def _integer(value: Any) -> int | None:
    return int(value) if isinstance(value, (int, float)) and 0 < value < 2**53 else None
