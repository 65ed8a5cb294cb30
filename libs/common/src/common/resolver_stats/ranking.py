"""In which order sources are asked, from what was counted. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

UNTRIED = 0.5
"""What the smoothed rate is without a single try: between what has worked and what has failed."""


_CONFIGURED = frozenset({"warm-up", "statistics-unavailable"})
"""Why an order is the configured one."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What is known of one pair. ``recent_*`` are faded to now."""

    attempts: int = 0
    successes: int = 0
    recent_attempts: float = 0.0
    recent_successes: float = 0.0
    verified: int = 0
    refuted: int = 0
    last_attempt_at: str | None = None
    last_success_at: str | None = None


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a source stands among the others, and why. ``code`` is stable; ``why`` is for people."""

    source: str
    place: int
    """1 is asked first"""
    score: float
    counts: Counts
    code: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """An order, with the numbers that made it. ``explored`` was moved to the front to see how it does now."""

    origin: str
    standings: tuple[Standing, ...]
    explored: str | None = None

    @property
    def sources(self) -> list[str]:
        """First first."""
        return [standing.source for standing in self.standings]


def faded(value: float, *, seconds: float, half_life: float) -> float:
    """``value`` after ``seconds``. Without a half-life nothing fades; time that runs backwards does not either."""
    return value if half_life <= 0 or seconds <= 0 else value * 0.5 ** (seconds / half_life)


def smoothed(successes: float, attempts: float) -> float:
    """The rate of successes, drawn towards a half while there are few tries."""
    return (successes + 1) / (attempts + 2)


def rank(
    origin: str,
    sources: Sequence[str],
    counts: Mapping[str, Counts],
    *,
    total: int,
    warmup_attempts: int,
    fades: bool,
) -> Ranking:
    """Best smoothed rate first, ties in the order of ``sources``; that order alone until the warm-up is over.

    ``total``: tries of this origin in all, also at sources that are not asked now. ``fades``: the faded sums decide
    in place of the exact counts.
    """
    known = [(source, counts.get(source, Counts())) for source in dict.fromkeys(sources)]
    scored = [(source, count, _score(count, fades=fades)) for source, count in known]
    if total < warmup_attempts:
        why = f"Asked in the configured order until {warmup_attempts} tries are counted for {origin}; so far {total}."
        return _ranking(origin, [(source, count, score, "warm-up", why) for source, count, score in scored])
    scored.sort(key=lambda row: -row[2])  # stable: ties keep the configured order
    return _ranking(origin, [(*row, *_reason(row[1], row[2], fades=fades)) for row in scored])


def explore(ranking: Ranking, *, share: float, random: Random) -> Ranking:
    """With probability ``share``: one of the sources behind the first comes first, each as likely as another.

    A source that is seldom reached would else never show that it has become better. During the warm-up, and while
    the numbers cannot be read, nothing is written off, so that there is nothing to explore.
    """
    rest = ranking.standings[1:]
    if share <= 0 or not rest or ranking.standings[0].code in _CONFIGURED or random.random() >= share:
        return ranking
    chosen = random.choice(rest)
    front = replace(chosen, code="explored", why=f"Asked first by chance, to see how it does now. Else: {chosen.why}")
    ordered = (front, *(standing for standing in ranking.standings if standing is not chosen))
    return Ranking(
        origin=ranking.origin,
        standings=tuple(replace(standing, place=place) for place, standing in enumerate(ordered, 1)),
        explored=chosen.source,
    )


def unranked(origin: str, sources: Sequence[str], *, why: str) -> Ranking:
    """The configured order, because nothing can be read."""
    return _ranking(origin, [(source, Counts(), UNTRIED, "statistics-unavailable", why) for source in sources])


def _score(counts: Counts, *, fades: bool) -> float:
    if fades:
        return smoothed(counts.recent_successes, counts.recent_attempts)
    return smoothed(counts.successes, counts.attempts)


def _reason(counts: Counts, score: float, *, fades: bool) -> tuple[str, str]:
    if counts.attempts == 0 and counts.recent_attempts == 0:
        return "untried", f"Never tried; counts {UNTRIED}."
    sentence = f"It had {counts.successes} of {counts.attempts} songs"
    if fades:
        sentence += f"; newer tries weigh more: {counts.recent_successes:.1f} of {counts.recent_attempts:.1f}"
    if counts.refuted:
        sentence += f"; {counts.refuted} of its files were refused afterwards"
    return "ranked", f"{sentence}. Counts {score:.3f}."


def _ranking(origin: str, rows: Sequence[tuple[str, Counts, float, str, str]]) -> Ranking:
    return Ranking(
        origin=origin,
        standings=tuple(
            Standing(source=source, place=place, score=score, counts=counts, code=code, why=why)
            for place, (source, counts, score, code, why) in enumerate(rows, 1)
        ),
    )
