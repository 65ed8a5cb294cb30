"""In which order the resolver asks sources, from what was counted."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from common.errors import ConfigurationError
from common.resolver_stats import ResolverStatsRepository

DAY = 86_400.0
SOURCES = ["qq", "kuwo", "migu"]


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def record(stats: ResolverStatsRepository, origin: str, candidate: str, *, successes: int, failures: int) -> None:
    for number in range(successes + failures):
        stats.record_fallback_result(origin, candidate, succeeded=number < successes)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "resolver_stats.db"


def test_below_the_warm_up_the_configured_order_stays(file: Path) -> None:
    stats = ResolverStatsRepository(file)
    record(stats, "netease", "migu", successes=5, failures=0)
    record(stats, "netease", "qq", successes=0, failures=4)
    assert stats.rank_fallback_sources("netease", SOURCES) == SOURCES
    assert stats.rank_fallback_sources("netease", SOURCES, warmup_attempts=10) == SOURCES
    assert stats.rank_fallback_sources("netease", SOURCES, warmup_attempts=9) == ["migu", "kuwo", "qq"]
    assert [row.code for row in stats.explain("netease", SOURCES).standings] == ["warm-up"] * 3
    stats.close()


def test_the_warm_up_counts_every_try_of_the_origin(file: Path) -> None:
    stats = ResolverStatsRepository(file)
    record(stats, "netease", "gone", successes=0, failures=9)
    record(stats, "netease", "migu", successes=1, failures=0)
    assert stats.rank_fallback_sources("netease", SOURCES, warmup_attempts=10) == ["migu", "qq", "kuwo"]
    stats.close()


def test_an_untried_source_stands_before_a_failing_one_and_behind_a_good_one(file: Path) -> None:
    stats = ResolverStatsRepository(file)
    record(stats, "netease", "qq", successes=0, failures=1)
    record(stats, "netease", "migu", successes=2, failures=1)
    ranking = stats.explain("netease", SOURCES, warmup_attempts=1)
    assert ranking.sources == ["migu", "kuwo", "qq"]
    assert [row.score for row in ranking.standings] == [pytest.approx(3 / 5), 0.5, pytest.approx(1 / 3)]
    assert [row.place for row in ranking.standings] == [1, 2, 3]
    assert ranking.standings[1].code == "untried"
    assert "2 of 3" in ranking.standings[0].why
    stats.close()


def test_ties_keep_the_configured_order(file: Path) -> None:
    stats = ResolverStatsRepository(file)
    for source in SOURCES:
        record(stats, "netease", source, successes=1, failures=1)
    assert stats.rank_fallback_sources("netease", SOURCES, warmup_attempts=1) == SOURCES
    assert stats.rank_fallback_sources("netease", SOURCES[::-1], warmup_attempts=1) == SOURCES[::-1]
    assert stats.rank_fallback_sources("netease", ["qq", "qq", "migu"], warmup_attempts=1) == ["qq", "migu"]
    assert stats.rank_fallback_sources("netease", [], warmup_attempts=1) == []
    stats.close()


def test_origins_never_mix(file: Path) -> None:
    stats = ResolverStatsRepository(file)
    record(stats, "netease", "migu", successes=9, failures=0)
    record(stats, "qq", "kuwo", successes=9, failures=0)
    assert stats.rank_fallback_sources("netease", SOURCES, warmup_attempts=5)[0] == "migu"
    assert stats.rank_fallback_sources("qq", SOURCES, warmup_attempts=5)[0] == "kuwo"
    assert stats.rank_fallback_sources("other", SOURCES, warmup_attempts=5) == SOURCES
    stats.close()


def test_every_pair_is_told_in_use_or_not(file: Path) -> None:
    stats = ResolverStatsRepository(file)
    assert stats.pairs() == {}
    record(stats, "netease", "qq", successes=1, failures=2)
    record(stats, "netease", "gone", successes=0, failures=1)
    record(stats, "kuwo", "qq", successes=1, failures=0)
    told = {
        (origin, name): (counts.successes, counts.attempts)
        for origin, pairs in stats.pairs().items()
        for name, counts in pairs.items()
    }
    assert told == {("netease", "qq"): (1, 3), ("netease", "gone"): (0, 1), ("kuwo", "qq"): (1, 1)}
    stats.close()


def test_old_results_fade_and_the_counters_stay_exact(file: Path, clock: Clock) -> None:
    stats = ResolverStatsRepository(file, half_life_days=10, clock=clock)
    record(stats, "netease", "qq", successes=90, failures=10)
    record(stats, "netease", "kuwo", successes=50, failures=50)
    assert stats.rank_fallback_sources("netease", ["qq", "kuwo"], warmup_attempts=1) == ["qq", "kuwo"]
    clock.now += 50 * DAY
    record(stats, "netease", "qq", successes=0, failures=20)
    record(stats, "netease", "kuwo", successes=10, failures=10)
    best, other = stats.explain("netease", ["qq", "kuwo"], warmup_attempts=1).standings
    assert (best.source, other.source) == ("kuwo", "qq")
    assert other.counts.recent_attempts == pytest.approx(100 / 32 + 20)
    assert other.counts.recent_successes == pytest.approx(90 / 32)
    assert (other.counts.attempts, other.counts.successes) == (120, 90)
    clock.now += 10 * DAY
    assert stats.explain("netease", ["qq"]).standings[0].counts.recent_attempts == pytest.approx((100 / 32 + 20) / 2)
    stats.close()
    plain = ResolverStatsRepository(file, clock=clock)
    assert plain.rank_fallback_sources("netease", ["kuwo", "qq"], warmup_attempts=1) == ["qq", "kuwo"]
    plain.close()


def test_a_source_that_nobody_asked_for_long_counts_as_untried_again(file: Path, clock: Clock) -> None:
    stats = ResolverStatsRepository(file, half_life_days=1, clock=clock)
    record(stats, "netease", "qq", successes=0, failures=50)
    clock.now += 30 * DAY
    assert stats.explain("netease", ["qq"], warmup_attempts=1).standings[0].score == pytest.approx(0.5, abs=1e-6)
    stats.close()


def test_a_clock_that_jumps_back_neither_fades_nor_grows(file: Path, clock: Clock) -> None:
    stats = ResolverStatsRepository(file, half_life_days=1, clock=clock)
    record(stats, "netease", "qq", successes=4, failures=0)
    clock.now -= 1000 * DAY
    record(stats, "netease", "qq", successes=1, failures=0)
    assert stats.explain("netease", ["qq"]).standings[0].counts.recent_attempts == 5.0
    stats.close()


def test_a_success_whose_bytes_were_refused_counts_as_none(file: Path) -> None:
    stats = ResolverStatsRepository(file, half_life_days=365)
    for source in ("qq", "kuwo"):
        record(stats, "netease", source, successes=10, failures=0)
    for number in range(10):
        stats.record_verification("netease", "qq", passed=number < 2)
        stats.record_verification("netease", "kuwo", passed=True)
    best, other = stats.explain("netease", ["qq", "kuwo"], warmup_attempts=1).standings
    assert (best.source, other.source) == ("kuwo", "qq")
    assert other.counts.recent_successes == pytest.approx(2, abs=1e-3)
    assert (other.counts.verified, other.counts.refuted, other.counts.successes) == (2, 8, 10)
    assert "8 of its files were refused" in other.why
    for _ in range(5):
        stats.record_verification("netease", "qq", passed=False)
    assert stats.explain("netease", ["qq"]).standings[0].counts.recent_successes == 0
    stats.record_verification("netease", "never tried", passed=False)
    assert stats.explain("netease", ["never tried"], warmup_attempts=1).standings[0].code == "untried"
    stats.close()


def test_with_fading_off_verification_changes_no_order(file: Path) -> None:
    stats = ResolverStatsRepository(file)
    record(stats, "netease", "qq", successes=10, failures=0)
    record(stats, "netease", "kuwo", successes=9, failures=1)
    for _ in range(10):
        stats.record_verification("netease", "qq", passed=False)
    assert stats.rank_fallback_sources("netease", ["kuwo", "qq"], warmup_attempts=1) == ["qq", "kuwo"]
    stats.close()


def test_a_share_of_the_orders_explores_and_the_random_source_decides_which(file: Path) -> None:
    def orders(seed: int) -> list[tuple[str, ...]]:
        stats = ResolverStatsRepository(file, exploration=0.2, random=random.Random(seed))
        taken = [tuple(stats.rank_fallback_sources("netease", SOURCES, warmup_attempts=1)) for _ in range(300)]
        stats.close()
        return taken

    stats = ResolverStatsRepository(file, exploration=1.0, random=random.Random(1))
    record(stats, "netease", "qq", successes=50, failures=0)
    record(stats, "netease", "kuwo", successes=10, failures=40)
    record(stats, "netease", "migu", successes=0, failures=50)
    ranking = stats.ranking("netease", SOURCES, warmup_attempts=1)
    assert ranking.explored == ranking.sources[0] != "qq"
    assert ranking.standings[0].code == "explored" and [row.place for row in ranking.standings] == [1, 2, 3]
    assert stats.explain("netease", SOURCES, warmup_attempts=1).sources == SOURCES
    assert stats.rank_fallback_sources("netease", SOURCES) == SOURCES, "nothing is explored during the warm-up"
    stats.close()
    taken = orders(7)
    assert taken == orders(7) != orders(8)
    assert 30 <= sum(order[0] != "qq" for order in taken) <= 90
    assert {order[0] for order in taken} == set(SOURCES)
    assert all(sorted(order) == sorted(SOURCES) for order in taken)


@pytest.mark.parametrize(
    ("half_life_days", "exploration"), [(-1, 0), (float("nan"), 0), (float("inf"), 0), (0, 1.1), (0, float("nan"))]
)
def test_numbers_that_cannot_be_meant_are_refused(file: Path, half_life_days: float, exploration: float) -> None:
    with pytest.raises(ConfigurationError):
        ResolverStatsRepository(file, half_life_days=half_life_days, exploration=exploration)


def test_what_cannot_be_read_is_the_configured_order_exactly(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "resolver_stats.db"
    file.mkdir(parents=True)
    stats = ResolverStatsRepository(file, exploration=1.0)
    assert stats.problem
    assert [stats.rank_fallback_sources("netease", SOURCES) for _ in range(20)] == [SOURCES] * 20
