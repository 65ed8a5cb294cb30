"""Resolving songs over four local sources with known hit rates: tries a song, against the fixed order.

    python bench/resolve_songs.py                 10,000 songs
    python bench/resolve_songs.py --songs 2000 --seed 7

The downloader's own resolver with its matching, its statistics in SQLite and its memory of searches; only the
sources are made here: each has a song with a known probability, answers at once, and shows a remix where it has
nothing. Nothing is fetched: the first recording that is offered counts as the song. The peer, in the same run on
the same songs: the same resolver in the configured order for ever (the worst first), as with an endless warm-up.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common.contracts.work import SongDownload
from common.database import Location
from common.errors import PermanentError
from downloader.adapters.matches import MatchDatabase
from downloader.adapters.rejects import RejectDatabase
from downloader.adapters.statistics import ResolverNumbers
from downloader.ports import NO_CHOICE, Waited
from downloader.service.resolve import Finder
from sources.port import Candidate, Found, HttpCandidate, SearchQuery

RATES = {"poor": 0.05, "fair": 0.35, "good": 0.60, "best": 0.90}
NEVER = 10**12


class LocalSources:
    """Four sources on this machine; ``tries`` counts searches."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.tries = 0

    def own(self, song: SongDownload, *, waited: Waited) -> Sequence[Candidate]:
        raise PermanentError("It is gone.", code="source-file-missing")

    def in_use(self) -> Sequence[str]:
        return ("origin", *RATES)

    def can_search(self, source: str) -> bool:
        return source in RATES

    def search(self, source: str, query: SearchQuery, *, waited: Waited) -> Sequence[Found]:
        self.tries += 1
        has = Random(f"{self._seed} {source} {query.name}").random() < RATES[source]
        return [
            Found(
                source=source,
                remote_id=query.name,
                name=query.name if has else f"{query.name} (Remix)",
                singers=query.singers,
                duration_seconds=query.duration_seconds,
            )
        ]

    def refresh(self, source: str, remote_id: str, *, waited: Waited) -> Found | None:
        return None

    def candidates(self, found: Found, *, waited: Waited) -> Sequence[Candidate]:
        return [HttpCandidate(source=found.source, url=f"http://127.0.0.1/{found.source}")]


def resolve(songs: int, seed: int, *, warmup: int) -> tuple[float, float, float]:
    """Tries a song, share of the songs found, milliseconds a song."""
    with tempfile.TemporaryDirectory(prefix="bench-resolve-") as folder:
        sources = LocalSources(seed)
        numbers = ResolverNumbers(
            Location(service="resolver_stats", path=Path(folder) / "resolver_stats.db"),
            warmup_attempts=warmup,
            half_life_days=30,
            exploration=0.02,
        )
        rejects = RejectDatabase(Location(service="downloader", path=Path(folder) / "downloader.db"))
        finder = Finder(
            sources=sources, statistics=numbers, matches=MatchDatabase(rejects.database), order=lambda: tuple(RATES)
        )
        found, began = 0, time.perf_counter()
        for number in range(songs):
            song = SongDownload(
                job_id=1,
                source="origin",
                song_id=number,
                remote_id=str(number),
                name=f"Evening {number}",
                singers=("The Singer",),
                duration_seconds=200.0,
            )
            search = finder.search(song, choice=NO_CHOICE, say=lambda _: None)
            offer = next(iter(search.offers()), None)
            if offer is not None:
                search.succeeded(offer)
                found += 1
        took = time.perf_counter() - began
        numbers.close()
        rejects.close()
        return sources.tries / songs, found / songs, took / songs * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    fixed = resolve(given.songs, given.seed, warmup=NEVER)
    learned = resolve(given.songs, given.seed, warmup=1000)
    print(f"{given.songs:,} songs that their own source lost, sources {RATES}, seed {given.seed}")
    for name, (tries, found, took) in (("fixed order, the worst first", fixed), ("as learned", learned)):
        print(f"  {name:30}{tries:.3f} tries a song, {found:.3f} found, {took:.1f} ms a song")
    print(f"  tries of the learned order      {learned[0] / fixed[0]:.3f} of the fixed one's")


if __name__ == "__main__":
    main()
