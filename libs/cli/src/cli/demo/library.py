"""The demo library on disk: a folder as a person might have mounted it, and the songs of a feed."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import mutagen
import soundfile

from cli.demo.melodies import SAMPLE_RATE, melody

MADE_AT = 1_767_225_600
"""Time of every file (2026-01-01, UTC), so that a library made again is the same one."""

DAMAGED_TITLE = "Damaged tape (on purpose)"
FEED_FILE = "radio.xspf"


@dataclass(frozen=True)
class DemoSong:
    """One song. A song without a title gets no tags at all."""

    path: str
    title: str | None
    artist: str | None
    album: str | None
    seed: int
    voice: str
    seconds: float = 6.0
    key: float = 220.0


FOLDER_SONGS = (
    DemoSong("Aurora Lane/First Light/01 Daybreak.flac", "Daybreak", "Aurora Lane", "First Light", 11, "bell"),
    DemoSong("Aurora Lane/First Light/02 Tin Roof.flac", "Tin Roof", "Aurora Lane", "First Light", 12, "bell", 5.0),
    DemoSong("Harbour Trio/Low Tide/01 Ferry Song.ogg", "Ferry Song", "Harbour Trio", "Low Tide", 21, "strings"),
    DemoSong("Harbour Trio/Low Tide/02 Rope and Sail.ogg", "Rope and Sail", "Harbour Trio", "Low Tide", 22, "strings"),
    DemoSong("星河乐队/夜航/01 月光.mp3", "月光", "星河乐队", "夜航", 31, "flute", 6.0, 330.0),
    DemoSong("星河乐队/夜航/02 归途.mp3", "归途", "星河乐队", "夜航", 32, "flute", 7.0, 330.0),
    DemoSong("Loose tapes/Untitled recording.wav", None, None, None, 41, "flute", 4.0),
)
DAMAGED_SONG = DemoSong(
    "Loose tapes/Damaged tape.flac", DAMAGED_TITLE, "Loose tapes", "Loose tapes", 42, "strings", 6.0
)
FEED_SONGS = (
    DemoSong("songs/morning-signal.mp3", "Morning Signal", "Radio Meridian", "Waves", 51, "bell", 5.0, 262.0),
    DemoSong("songs/long-wave.ogg", "Long Wave", "Radio Meridian", "Waves", 52, "strings", 8.0, 165.0),
    DemoSong("songs/夜曲.flac", "夜曲", "星河乐队", "电波", 53, "flute", 5.0, 294.0),
    DemoSong("songs/closing-theme.mp3", "Closing Theme", "Radio Meridian", "Waves", 54, "bell", 4.0, 196.0),
)

_M3U8 = """#EXTM3U
#PLAYLIST:An evening at home
#EXTINF:6,Harbour Trio - Ferry Song
Harbour Trio/Low Tide/01 Ferry Song.ogg
#EXTINF:6,星河乐队 - 月光
星河乐队/夜航/01 月光.mp3
#EXTINF:6,Aurora Lane - Daybreak
Aurora Lane/First Light/01 Daybreak.flac
"""

_TRACK = """    <track>
      <location>{path}</location>
      <title>{title}</title>
      <creator>{artist}</creator>
      <album>{album}</album>
      <duration>{milliseconds}</duration>
    </track>
"""


@dataclass(frozen=True)
class DemoLibrary:
    """Where the demo lies. ``music`` is the folder to mount, ``feed`` the folder to serve."""

    music: Path
    feed: Path


def ensure_demo(root: Path) -> DemoLibrary:
    """Make the demo library below ``root`` if it is not there; it appears complete or not at all."""
    library = DemoLibrary(music=root / "music", feed=root / "feed")
    if library.feed.is_dir() and library.music.is_dir():
        return library
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".new-") as name:
        new = Path(name)
        _make_music(new / "music")
        _make_feed(new / "feed")
        for part in ("music", "feed"):
            shutil.rmtree(root / part, ignore_errors=True)
            (new / part).replace(root / part)
    return library


def _make_music(folder: Path) -> None:
    for song in FOLDER_SONGS:
        _write_song(folder, song)
    damaged = _write_song(folder, DAMAGED_SONG)
    # As after an interrupted copy: the head promises six seconds, half of the sound is gone.
    os.truncate(damaged, damaged.stat().st_size // 2)
    (folder / "An evening at home.m3u8").write_text(_M3U8, encoding="utf-8")
    _set_times(folder)


def _make_feed(folder: Path) -> None:
    tracks = []
    for song in FEED_SONGS:
        _write_song(folder, song)
        tracks.append(_TRACK.format(**{key: escape(str(value)) for key, value in _track(song).items()}))
    (folder / FEED_FILE).write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<playlist version="1" xmlns="http://xspf.org/ns/0/">\n'
        f"  <title>Radio Meridian</title>\n  <trackList>\n{''.join(tracks)}  </trackList>\n</playlist>\n",
        encoding="utf-8",
    )
    _set_times(folder)


def _track(song: DemoSong) -> dict[str, object]:
    return {
        "path": song.path,
        "title": song.title or "",
        "artist": song.artist or "",
        "album": song.album or "",
        "milliseconds": int(song.seconds * 1000),
    }


def _write_song(folder: Path, song: DemoSong) -> Path:
    path = folder / song.path
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = melody(seed=song.seed, seconds=song.seconds, voice=song.voice, key=song.key)
    soundfile.write(path, samples, SAMPLE_RATE)
    if song.title is not None:
        tags = mutagen.File(path, easy=True)
        if tags.tags is None:
            tags.add_tags()
        tags["title"], tags["artist"], tags["album"] = song.title, song.artist, song.album
        if song.path.rpartition("/")[2][:2].isdigit():
            tags["tracknumber"] = str(int(song.path.rpartition("/")[2][:2]))
        tags.save()
    return path


def _set_times(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (MADE_AT, MADE_AT))
