"""Small music files with tags, made in place: valid WAV with ID3, a fraction of a second long."""

from __future__ import annotations

import struct
from pathlib import Path


def wav(path: Path, *, title: str | None = None, artist: str | None = None, album: str | None = None) -> Path:
    """Write a tiny WAV (0.01 s of silence, 8 kHz) with the tags given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(wav_bytes(title=title, artist=artist, album=album))
    return path


def wav_bytes(*, title: str | None = None, artist: str | None = None, album: str | None = None) -> bytes:
    """The bytes of such a file."""
    samples = b"\x80" * 80
    chunks = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8)
    chunks += b"data" + struct.pack("<I", len(samples)) + samples
    frames = b"".join(
        _frame(name, text) for name, text in ((b"TIT2", title), (b"TPE1", artist), (b"TALB", album)) if text
    )
    if frames:
        tag = b"ID3\x04\x00\x00" + _syncsafe(len(frames)) + frames
        tag += b"\x00" * (len(tag) % 2)
        chunks += b"id3 " + struct.pack("<I", len(tag)) + tag
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def _frame(name: bytes, text: str) -> bytes:
    body = b"\x03" + text.encode()
    return name + _syncsafe(len(body)) + b"\x00\x00" + body


def _syncsafe(number: int) -> bytes:
    return bytes((number >> shift) & 0x7F for shift in (21, 14, 7, 0))
