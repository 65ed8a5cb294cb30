"""An installation of the older system: its database and its library, with what years of use do to them."""

from __future__ import annotations

import json
import sqlite3
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

SCHEMA = """
CREATE TABLE playlists (
    id INTEGER PRIMARY KEY, platform TEXT NOT NULL, remote_playlist_id TEXT NOT NULL, name TEXT NOT NULL,
    description TEXT, cover_url TEXT, play_count INTEGER, collected_song_count INTEGER
);
CREATE TABLE songs (
    id INTEGER PRIMARY KEY, platform TEXT NOT NULL, remote_song_id TEXT NOT NULL, name TEXT, singers TEXT, ext TEXT,
    file_size_bytes INTEGER, metadata_json TEXT
);
CREATE TABLE playlist_songs (playlist_id INTEGER, song_id INTEGER, position INTEGER);
"""
NEWER = """
CREATE TABLE playlist_pools (
    id INTEGER PRIMARY KEY, platform TEXT, pool_kind TEXT, external_id TEXT, name TEXT, url TEXT, metadata_json TEXT
);
CREATE TABLE pool_playlists (pool_id INTEGER, playlist_id INTEGER);
CREATE TABLE storage_backends (id INTEGER PRIMARY KEY, name TEXT, backend_type TEXT, base_path TEXT, config_json TEXT);
CREATE TABLE file_assets (
    id INTEGER PRIMARY KEY, song_id INTEGER, quality_label TEXT, ext TEXT, file_size_bytes INTEGER
);
CREATE TABLE file_locations (
    id INTEGER PRIMARY KEY, file_asset_id INTEGER, backend_id INTEGER, locator TEXT, status TEXT, is_primary INTEGER
);
"""
PLAYLIST = 500
BACKEND_ID = 3
_SINGERS = ("周杰伦", "Björk", "Сергей Рахманинов", "Abba", "久石 譲", "فيروز", "👩‍🎤 Duo")


@dataclass
class OlderInstallation:
    """Where it lies, and by song id what is to become of each file."""

    database: Path
    library: Path
    taken: set[int] = field(default_factory=set)
    wanted: set[int] = field(default_factory=set)
    left: dict[str, int] = field(default_factory=dict)
    unknown: int = 0

    def connect(self) -> sqlite3.Connection:
        """For changes that a test makes."""
        return sqlite3.connect(self.database, isolation_level=None)

    def leave(self, reason: str, song: int) -> None:
        self.left[reason] = self.left.get(reason, 0) + 1
        self.wanted.add(song)


def make_older(folder: Path, *, songs: int, platform: str = "qq") -> OlderInstallation:
    """Write the installation below ``folder``. Files are small: a size each of its own, and bytes to match."""
    library = folder / "music"
    library.mkdir(parents=True)
    made = OlderInstallation(database=folder / "catalogsync.db", library=library)
    rows, assets, locations = [], [], []
    places = {number: library / platform / name for number, name in enumerate(_SINGERS)}
    for place in places.values():
        place.mkdir(parents=True)
    for id in range(1, songs + 1):
        singer = _SINGERS[id % len(_SINGERS)]
        name = f"Lied é {id}" if id % 10 else f"晴天 {id}"
        locator = f"{platform}/{singer}/{name}.mp3"
        size = 16 + id % 48
        metadata = json.dumps({"album": f"第 {id % 90} 輯", "year": 2000 + id % 25}, ensure_ascii=False)
        rows.append((id, platform, f"r{id}", name, f"{singer}, B", "mp3", size, metadata))
        kind = id % 1000
        if kind == 53:
            made.wanted.add(id)
            continue
        assets.append((id + 1_000_000, id, "320k", "mp3", size))
        content = (f"{id:08d}".encode() * 8)[:size]
        written, said, taken = locator, locator, True
        if id % 100 == 7:
            made.leave("file-missing", id)
            taken = False
        elif kind == 13:
            made.leave("wrong-size", id)
            content, taken = content + b"+", False
            (library / locator).write_bytes(content)
        elif kind == 17:
            made.leave("empty-file", id)
            (library / locator).touch()
            taken = False
        elif kind == 23:
            # Its place is the one of a song before it, of the same size.
            twin = id - 1
            said = f"{platform}/{_SINGERS[twin % len(_SINGERS)]}/Lied é {twin}.mp3"
            assets[-1] = (id + 1_000_000, id, "320k", "mp3", 16 + twin % 48)
            made.leave("path-doubled", id)
            taken = False
        elif kind == 29:
            said = f"/srv/old/music/{locator}"
        elif kind in (31, 37):
            said = "/etc/passwd" if kind == 31 else "../secrets.env"
            made.leave("outside-library", id)
            taken = False
        elif kind == 41:
            written = unicodedata.normalize("NFD", locator)
        elif kind == 43:
            written = locator.replace("Lied", "LIED")
        if taken:
            (library / written).parent.mkdir(parents=True, exist_ok=True)
            (library / written).write_bytes(content)
            made.taken.add(id)
        locations.append((id + 2_000_000, id + 1_000_000, BACKEND_ID, said, "active", 1))
    for number in range(20):
        (library / f"found {number}.mp3").write_bytes(b"who knows")
    made.unknown = 20
    (library / ".trash").mkdir()
    (library / ".trash" / "old.mp3").write_bytes(b"old")
    lists: list[tuple[object, ...]] = [
        (id, platform, f"p{id}", f"Liste {id} 榜", None, f"https://covers/{id}" if id % 2 else None, id * 10, PLAYLIST)
        for id in range(1, -(-songs // PLAYLIST) + 1)
    ]
    entries = [(1 + (id - 1) // PLAYLIST, id, (id - 1) % PLAYLIST) for id in range(1, songs + 1)]
    # One of more than a page, and one song twice in it.
    long = len(lists) + 1
    lists.append((long, platform, "all", "Alles", "lang", None, None, None))
    entries += [(long, 1 + number % songs, number) for number in range(1200)]
    connection = made.connect()
    connection.executescript(SCHEMA + NEWER)
    with connection:
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO songs VALUES (?,?,?,?,?,?,?,?)", rows)
        connection.executemany("INSERT INTO playlists VALUES (?,?,?,?,?,?,?,?)", lists)
        connection.executemany("INSERT INTO playlist_songs VALUES (?,?,?)", entries)
        connection.executemany(
            "INSERT INTO playlist_pools VALUES (?,?,?,?,?,?,?)",
            [
                (5, platform, "toplist", "hot", "Heiß 热", "https://x/hot", '{"color":"red"}'),
                (6, platform, "category", "c", "C", None, None),
            ],
        )
        connection.executemany(
            "INSERT INTO pool_playlists VALUES (?,?)", [(5, one[0]) for one in lists[: len(lists) // 2 + 1]]
        )
        connection.executemany("INSERT INTO pool_playlists VALUES (?,?)", [(6, one[0]) for one in lists])
        connection.execute(
            "INSERT INTO storage_backends VALUES (?, 'library', 'filesystem', '/srv/old/music', NULL)", (BACKEND_ID,)
        )
        connection.executemany("INSERT INTO file_assets VALUES (?,?,?,?,?)", assets)
        connection.executemany("INSERT INTO file_locations VALUES (?,?,?,?,?,?)", locations)
        connection.execute("COMMIT")
    connection.close()
    return made
