"""What the resolver has learned of sources: counted for each pair of origin and candidate, and made an order."""

from __future__ import annotations

from common.resolver_stats.ranking import Counts, Ranking, Standing
from common.resolver_stats.repository import SERVICE, STATISTICS_FILE, ResolverStatsRepository

__all__ = ["SERVICE", "STATISTICS_FILE", "Counts", "Ranking", "ResolverStatsRepository", "Standing"]
