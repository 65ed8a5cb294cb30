"""Matching: candidates judged a second, beside rapidfuzz's plain ``WRatio`` on the same pairs.

    python bench/matching.py                     the labelled pairs of the tests, 5 rounds
    python bench/matching.py --results 50        each song has so many results, as a search answers

WRatio compares "singers title" of both sides, in lower case, and knows nothing of versions or lengths. What each
is worth is printed too: WRatio accepts from the score on that keeps as many of the right ones as matching does.
Caches are emptied before each round. Aim: 2,000 candidates a second, which is 100 times what sources answer.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rapidfuzz import fuzz

from downloader.service.matching import Matcher, Verdict, normalise, singers, title, verdict, versions
from tests.support.matching import Pair, Recording, labelled_pairs

AIM = 2000


def text(recording: Recording) -> str:
    """What WRatio compares."""
    return f"{' '.join(recording.singers)} {recording.name}".lower()


def rate(rounds: int, count: int, work: Callable[[], None]) -> float:
    """Candidates a second, the median."""
    seconds = []
    for _ in range(rounds):
        for module in (normalise, singers, title, verdict, versions):
            for cached in vars(module).values():
                if hasattr(cached, "cache_clear") and cached is not normalise._simplifier:
                    cached.cache_clear()
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return count / statistics.median(seconds)


def worth(pairs: list[Pair], accepted: list[bool]) -> str:
    """Precision and recall."""
    right = sum(pair.right for pair in pairs)
    taken = [pair for pair, yes in zip(pairs, accepted, strict=True) if yes]
    good = sum(pair.right for pair in taken)
    return f"{len(taken) - good} of {len(taken)} accepted are wrong, {good} of {right} right ones accepted"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    pairs = labelled_pairs()
    # Each song with results that a search for it could give: its own, and those of others.
    searches = [
        (pair.wanted, [pairs[(number + step) % len(pairs)].found for step in range(options.results)])
        for number, pair in enumerate(pairs)
    ]
    count = sum(len(found) for _, found in searches)

    def ours() -> None:
        for wanted, results in searches:
            matcher = Matcher(wanted)
            for found in results:
                matcher.judge(found)

    def peer() -> None:
        for wanted, results in searches:
            one = text(wanted)
            for found in results:
                fuzz.WRatio(one, text(found))

    mine, theirs = rate(options.rounds, count, ours), rate(options.rounds, count, peer)
    print(f"{count:,} candidates of {len(pairs)} songs, median of {options.rounds}")
    print(f"matching   {mine:>10,.0f} candidates/s  {mine / theirs:.3f} of WRatio (aim: {AIM:,}/s)")
    print(f"WRatio     {theirs:>10,.0f} candidates/s")
    accepted = [Matcher(pair.wanted).judge(pair.found).verdict is Verdict.ACCEPTED for pair in pairs]
    scores = [fuzz.WRatio(text(pair.wanted), text(pair.found)) for pair in pairs]
    kept = sum(yes and pair.right for pair, yes in zip(pairs, accepted, strict=True))
    limit = sorted((score for pair, score in zip(pairs, scores, strict=True) if pair.right), reverse=True)[kept - 1]
    print(f"matching: {worth(pairs, accepted)}")
    print(f"WRatio from {limit:.0f}: {worth(pairs, [score >= limit for score in scores])}")


if __name__ == "__main__":
    main()
