"""Search of the example catalog: building its index and asking it, beside SQLite's own trigram index and LIKE.

    python bench/catalog_search.py                   1,000,000 songs, 20,000 playlists, 2,000,000 entries
    python bench/catalog_search.py --songs 100000

Half of the titles are Latin, half Chinese. A query's number is the median of 9 with its first page of 50; trigram
finds no word of two characters, which is marked. Aim: a page of results within 100 ms, also for
five words that a quarter of all titles have.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples" / "catalog" / "src"))

from sqlalchemy import create_engine

from common.catalog.read_model import metadata
from public_catalog.index_build import build
from public_catalog.pool import open_read_only
from public_catalog.search import Index
from public_catalog.words import asked

LATIN = "Autumn Blue Café Moon River Señorita Queen Velvet Morning Silver Rain Garden Paper Kite Northern Lights Winter"
HAN = "春夏秋冬风花雪月山海星河云雨梦心光影城路夜歌青红白蓝远近天地人间少年故事时光温柔孤单自由"
QUERIES = (
    "moon",
    "moon river",
    "caf",
    "m",
    "春夏",
    "春",
    "春夏秋",
    "月 moon",
    "moon river silver rain winter",
    "nowhere",
)


def make_catalog(path: Path, songs: int) -> None:
    """A snapshot's database with names enough; the rest is not looked at."""
    chance = random.Random(1)
    engine = create_engine(f"sqlite:///{path}")
    metadata.create_all(engine)
    engine.dispose()
    latin = LATIN.split()

    def name() -> str:
        if chance.random() < 0.5:
            return " ".join(chance.choices(latin, k=chance.randint(1, 4)))
        return "".join(chance.choices(HAN, k=chance.randint(2, 6)))

    def rows() -> Iterator[tuple[int, str, str, str, str]]:
        for number in range(songs):
            yield number, "p", str(number), name(), f"{name()} {chance.randrange(5000)}"

    lists, entries = max(1, songs // 50), songs * 2
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executemany(
            "INSERT INTO catalog_tracks (song_id, platform, remote_song_id, name, singers) VALUES (?, ?, ?, ?, ?)",
            rows(),
        )
        connection.executemany(
            "INSERT INTO catalog_playlists (playlist_id, name, play_count) VALUES (?, ?, ?)",
            ((number, name(), chance.randrange(10**6)) for number in range(lists)),
        )
        connection.executemany(
            "INSERT INTO catalog_playlist_tracks VALUES (?, ?, ?)",
            ((place % lists, int(chance.random() ** 2 * songs), place // lists) for place in range(entries)),
        )
        connection.commit()


def make_trigram(catalog: Path, path: Path) -> None:
    """SQLite's own index for any script."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("ATTACH ? AS catalog", (str(catalog),))
        connection.execute("CREATE VIRTUAL TABLE t USING fts5(name, singers, content='', tokenize='trigram')")
        connection.execute(
            "INSERT INTO t(rowid, name, singers) SELECT song_id, name, singers FROM catalog.catalog_tracks ORDER BY 1"
        )


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def median_ms(work: Callable[[], object]) -> float:
    """Milliseconds, the median of 9."""
    return statistics.median(timed(work) for _ in range(9)) * 1000


def main() -> int:
    """Print all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=1_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        catalog, ours, trigram = (Path(folder) / name for name in ("catalog_read.db", "cache/index.db", "trigram.db"))
        make_catalog(catalog, given.songs)
        seconds, peer = timed(lambda: build(catalog, ours)), timed(lambda: make_trigram(catalog, trigram))
        size, peer_size = ours.stat().st_size / 1e6, trigram.stat().st_size / 1e6
        print(f"{given.songs:,} songs")
        print(f"build: {seconds:.1f} s, {seconds / peer:.1f} of trigram ({peer:.1f} s, without ranks and playlists)")
        print(f"size: {size:.0f} MB, {size / peer_size:.1f} of trigram ({peer_size:.0f} MB)")
        index = Index(ours, connections=1)
        scan, other = open_read_only(catalog), open_read_only(trigram)
        worst = 0.0
        for text in QUERIES:
            words = asked(text)
            assert words is not None
            own = median_ms(lambda words=words: index.find("song", words, after=None, limit=50))  # type: ignore[misc]
            worst = max(worst, own)
            match = " AND ".join(f'"{word}"' for word in text.split())
            by_trigram = median_ms(lambda match=match: _trigram(other, match))  # type: ignore[misc]
            blind = " (finds nothing)" if min(map(len, text.split())) < 3 else ""
            by_like = median_ms(lambda text=text: _like(scan, text))  # type: ignore[misc]
            print(f"{text!r}: {own:.2f} ms; trigram {by_trigram:.2f} ms{blind}; LIKE, all of it, {by_like:.0f} ms")
        print(f"slowest query: {worst:.1f} ms (aim: 100)")
        index.close()
    return 0


def _trigram(connection: sqlite3.Connection, match: str) -> None:
    connection.execute("SELECT rowid FROM t WHERE t MATCH ? ORDER BY rank LIMIT 50", (match,)).fetchall()


def _like(connection: sqlite3.Connection, text: str) -> None:
    words = [f"%{word}%" for word in text.split()]
    where = " AND ".join(["(name LIKE ? OR singers LIKE ?)"] * len(words))
    values = [word for word in words for _ in range(2)]
    connection.execute(f"SELECT count(*) FROM catalog_tracks WHERE {where}", values).fetchall()


if __name__ == "__main__":
    sys.exit(main())
