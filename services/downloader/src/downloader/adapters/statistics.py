"""The resolver's statistics, with the settings of this downloader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from common.database import Location
from common.errors import PermanentError
from common.resolver_stats import Counts, ResolverStatsRepository


class ResolverNumbers:
    """Counts and orders as :class:`ResolverStatsRepository` does. Nothing here raises for its database."""

    def __init__(self, location: Location, *, warmup_attempts: int, half_life_days: float, exploration: float) -> None:
        self._statistics = ResolverStatsRepository(location, half_life_days=half_life_days, exploration=exploration)
        self._warmup = warmup_attempts

    def order(self, origin: str, sources: Sequence[str]) -> list[tuple[str, str]]:
        """``sources`` in the order to ask them for songs of ``origin``, each with why it stands there."""
        ranking = self._statistics.ranking(origin, sources, self._warmup)
        return [(standing.source, standing.why) for standing in ranking.standings]

    def record_fallback_result(self, origin: str, candidate: str, *, succeeded: bool) -> None:
        """Count one try: whether ``candidate`` had a song of ``origin``."""
        self._statistics.record_fallback_result(origin, candidate, succeeded=succeeded)

    def record_verification(self, origin: str, candidate: str, *, passed: bool) -> None:
        """Count whether the bytes of a found song were the song."""
        self._statistics.record_verification(origin, candidate, passed=passed)

    def tell(self, question: dict[str, Any], listed: Sequence[str]) -> dict[str, Any]:
        """The order for songs of ``question["origin"]``, each source with its numbers and why it stands there.

        ``others``: what was counted for sources that are not asked now. Without an origin the same for each
        one that there are numbers of, as ``items``.
        """
        origin = question.get("origin")
        if origin is not None and (not isinstance(origin, str) or not 0 < len(origin) <= 64):
            raise PermanentError("Say for which source's songs, or nothing for all: origin.", code="origin-malformed")
        counted = self._statistics.pairs()
        tables = [
            self._table(one, counted.get(one, {}), listed) for one in (sorted(counted) if origin is None else [origin])
        ]
        return {"items": tables} if origin is None else tables[0]

    def _table(self, origin: str, counted: Mapping[str, Counts], listed: Sequence[str]) -> dict[str, Any]:
        ranking = self._statistics.explain(origin, [name for name in listed if name != origin], self._warmup)
        return {
            "origin": origin,
            "warmup_attempts": self._warmup,
            "problem": self._statistics.problem,
            "sources": [asdict(standing) for standing in ranking.standings],
            "others": [
                {"source": name, "counts": asdict(counted[name])}
                for name in sorted(set(counted) - set(ranking.sources))
            ],
        }

    def close(self) -> None:
        """Close the database."""
        self._statistics.close()
