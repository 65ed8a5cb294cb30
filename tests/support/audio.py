"""Real, small, deterministic audio files for tests."""

from __future__ import annotations

import math
import struct
import wave
from pathlib import Path
from typing import Any

import mutagen
import mutagen.wave
import soundfile
from mutagen.id3 import TALB, TIT2, TPE1

SAMPLE_RATE = 44_100
_WAVE: Any = mutagen.wave.WAVE
_FORMATS = {
    "flac": ("FLAC", "PCM_16"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
}


def make_audio(
    path: Path,
    *,
    ext: str = "flac",
    seconds: float = 1.0,
    title: str | None = None,
    artist: str | None = None,
    album: str | None = None,
    frequency: float = 440,
) -> Path:
    """Write a mono sine tone to ``path`` in the format ``ext`` (wav, flac, mp3, ogg, opus), tagged; return ``path``.

    ``path`` is taken as it is: its own suffix may lie. The same arguments give the same bytes, except that
    OGG pages carry a random stream number.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rate = 48_000 if ext == "opus" else SAMPLE_RATE
    count = int(rate * seconds)
    samples = _tone(rate, count, frequency)
    if ext == "wav":
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes(samples)
    else:
        container, codec = _FORMATS[ext]
        with soundfile.SoundFile(str(path), "w", samplerate=rate, channels=1, format=container, subtype=codec) as sound:
            sound.buffer_write(samples, dtype="int16")
    _tag(path, ext=ext, title=title, artist=artist, album=album)
    return path


def _tone(rate: int, count: int, frequency: float) -> bytes:
    """16-bit samples. A whole frequency repeats every second, so that long files cost no more than one second."""
    step = 2 * math.pi * frequency / rate
    distinct = min(count, rate) if float(frequency).is_integer() else count
    block = struct.pack(f"<{distinct}h", *(int(12_000 * math.sin(step * index)) for index in range(distinct)))
    return (block * (count // max(distinct, 1) + 1))[: 2 * count]


def _tag(path: Path, *, ext: str, title: str | None, artist: str | None, album: str | None) -> None:
    wanted = {"title": title, "artist": artist, "album": album}
    present = {key: value for key, value in wanted.items() if value is not None}
    if not present:
        return
    if ext == "wav":
        frames: dict[str, Any] = {"title": TIT2, "artist": TPE1, "album": TALB}
        sound: Any = _WAVE(path)
        sound.add_tags()
        for key, value in present.items():
            frame: Any = frames[key]
            sound.tags.add(frame(encoding=3, text=[value]))
        sound.save()
        return
    tagged: Any = mutagen.File(path, easy=True)
    if tagged.tags is None:
        tagged.add_tags()
    for key, value in present.items():
        tagged[key] = [value]
    tagged.save()
