"""Writing tags, into a copy: a writer that fails half-way must not cost the song."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from mutagen.easymp4 import EasyMP4
from mutagen.flac import FLAC
from mutagen.mp3 import EasyMP3
from mutagen.oggflac import OggFLAC
from mutagen.oggopus import OggOpus
from mutagen.oggspeex import OggSpeex
from mutagen.oggvorbis import OggVorbis

from common.contracts.facts import FileTags
from downloader.ports import Fetched, TaggingFailed
from downloader.service.sniff import HEAD_BYTES

_TYPES: dict[str, Any] = {
    "flac": FLAC,
    "mp3": EasyMP3,
    "ogg": OggVorbis,
    "oga": OggFLAC,
    "opus": OggOpus,
    "spx": OggSpeex,
    "m4a": EasyMP4,
}
_BUFFER = 1024 * 1024
_FICLONE = 0x40049409


class MutagenTagger:
    """Fills in what a file does not say of itself."""

    def fill(self, fetched: Fetched, kind: str, wanted: FileTags) -> Fetched:
        """A tagged copy beside the file. Raises TaggingFailed, and leaves nothing then."""
        copy = fetched.path.with_suffix(".tagged")
        try:
            _clone_or_copy(fetched.path, copy)
            sound = _TYPES[kind](copy)
            if sound.tags is None:
                sound.add_tags()
            for name, values in (
                ("title", [wanted.title] if wanted.title else []),
                ("artist", list(wanted.artists)),
                ("album", [wanted.album] if wanted.album else []),
            ):
                if values:
                    sound.tags[name] = values
            sound.save()
            return _read(fetched, copy)
        except Exception as error:  # a tag writer given hostile bytes may raise anything
            with contextlib.suppress(FileNotFoundError):
                copy.unlink()
            raise TaggingFailed(type(error).__name__) from None


def _clone_or_copy(source: Path, target: Path) -> None:
    with source.open("rb") as read, target.open("wb") as write:
        try:
            fcntl.ioctl(write, _FICLONE, read.fileno())
        except OSError:
            shutil.copyfileobj(read, write, _BUFFER)


def _read(fetched: Fetched, path: Path) -> Fetched:
    sha, head = hashlib.sha256(), b""
    with path.open("r+b") as file:
        while data := file.read(_BUFFER):
            sha.update(data)
            head = head or data[:HEAD_BYTES]
        os.fsync(file.fileno())
        size = file.tell()
    return Fetched(path=path, sha256=sha.hexdigest(), size=size, head=head, import_mode=fetched.import_mode)
