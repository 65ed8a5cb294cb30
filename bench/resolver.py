"""In which order sources are asked: songs found per try, simulated with the real statistics.

    python bench/resolver.py                     10,000 songs, four sources
    python bench/resolver.py --songs 2000 --seed 7

Each source has a song with a known probability, independently; sources are asked in turn until one has it. In the
first run the rates stay; in the second the best source goes bad after 40 % of the songs, and a bad one becomes
the best. The peers, in the same run on the same songs: the configured order (the worst first, as nobody knows
better), and the best order in hindsight, which knows the rates at each moment. A day has 200 songs, by a clock
that is part of the simulation. Each line ends with its share of
that. Aims: 0.95 of hindsight where rates stay, 0.85 where they drift, the warm-up and all relearning included.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common.resolver_stats import ResolverStatsRepository

RATES = {"poor": 0.05, "fair": 0.35, "good": 0.60, "best": 0.90}
AFTER = {"poor": 0.85, "fair": 0.35, "good": 0.60, "best": 0.04}
SOURCES = list(RATES)
SONGS_A_DAY = 200
START = 1_800_000_000.0
WARMUP = 1000

Rates = Callable[[int], dict[str, float]]
Order = Callable[[int], Sequence[str]]


@dataclass(frozen=True)
class Run:
    """What an order came to."""

    songs: int
    tries: int
    found: int

    def line(self, best: Run) -> str:
        """What is printed of it."""
        share = (self.found / self.tries) / (best.found / best.tries)
        return (
            f"{self.found / self.tries:.3f} songs a try, {self.tries / self.songs:.3f} tries a song, "
            f"{self.found} found, {share:.3f} of hindsight"
        )


def resolve(songs: Sequence[dict[str, float]], rates: Rates, order: Order, record: Callable[[str, bool], None]) -> Run:
    """Ask for every song. ``songs``: for each source, how hard the song is to have there."""
    tries = found = 0
    for number, song in enumerate(songs):
        now = rates(number)
        for source in order(number):
            tries += 1
            has = song[source] < now[source]
            record(source, has)
            if has:
                found += 1
                break
    return Run(len(songs), tries, found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    random = Random(options.seed)
    songs = [{source: random.random() for source in SOURCES} for _ in range(options.songs)]
    turn = options.songs * 2 // 5

    def steady(number: int) -> dict[str, float]:
        return RATES

    def drifting(number: int) -> dict[str, float]:
        return RATES if number < turn else AFTER

    learners = {
        "learned, as counted": (0.0, 0.0),
        "learned, fading": (7.0, 0.0),
        "learned, fading and exploring": (7.0, 0.02),
    }
    for name, rates in (("rates stay", steady), ("rates drift", drifting)):
        print(f"{name}: {options.songs:,} songs, warm-up {WARMUP:,} tries, seed {options.seed}")

        def best(number: int, rates: Rates = rates) -> list[str]:
            return sorted(SOURCES, key=lambda source: -rates(number)[source])

        hindsight = resolve(songs, rates, best, lambda source, has: None)
        configured = resolve(songs, rates, lambda number: SOURCES, lambda source, has: None)
        print(f"  {'configured order':32}{configured.line(hindsight)}")
        for learner, (half_life, exploration) in learners.items():
            with tempfile.TemporaryDirectory(prefix="bench-resolver-") as folder:
                now = [START]

                def clock(now: list[float] = now) -> float:
                    return now[0]

                stats = ResolverStatsRepository(
                    Path(folder) / "resolver_stats.db",
                    half_life_days=half_life,
                    exploration=exploration,
                    random=Random(options.seed),
                    clock=clock,
                )

                def order(number: int, stats: ResolverStatsRepository = stats, now: list[float] = now) -> list[str]:
                    now[0] = START + number * 86_400 / SONGS_A_DAY
                    return stats.rank_fallback_sources("own", SOURCES, warmup_attempts=WARMUP)

                def record(source: str, has: bool, stats: ResolverStatsRepository = stats) -> None:
                    stats.record_fallback_result("own", source, succeeded=has)

                started = time.perf_counter()
                line = resolve(songs, rates, order, record).line(hindsight)
                took = (time.perf_counter() - started) / options.songs * 1000
                print(f"  {learner:32}{line} ({took:.1f} ms a song)")
                stats.close()
        print(f"  {'best order in hindsight':32}{hindsight.line(hindsight)}")


if __name__ == "__main__":
    main()
