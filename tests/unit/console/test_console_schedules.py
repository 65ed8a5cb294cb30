from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from common.contracts.names import JobType
from console.errors import InvalidRequest
from console.ports import ScheduleDraft
from console.service.schedules import next_run

NOON = datetime(2026, 3, 10, 12, 0, 30, tzinfo=UTC)


def draft(cron: str | None = None, every: int | None = None, jitter: int = 0) -> ScheduleDraft:
    return ScheduleDraft(name="nightly", job_type=JobType.FULL, cron=cron, every_seconds=every, jitter_seconds=jitter)


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own time zone is that of cron expressions."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def in_berlin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()


def test_cron_and_intervals_tell_the_next_run() -> None:
    assert next_run(draft("30 3 * * *"), after=NOON) == datetime(2026, 3, 11, 3, 30, tzinfo=UTC)
    assert next_run(draft("*/5 * * * *"), after=NOON) == datetime(2026, 3, 10, 12, 5, tzinfo=UTC)
    assert next_run(draft(every=3600), after=NOON) == NOON + timedelta(hours=1)


def test_jitter_only_delays() -> None:
    runs = [next_run(draft(every=60, jitter=600), after=NOON) - NOON for _ in range(50)]
    assert min(runs) >= timedelta(seconds=60)
    assert max(runs) <= timedelta(seconds=660)
    assert len(set(runs)) > 10


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (draft(), "cron-or-every"),
        (draft("* * * * *", 60), "cron-or-every"),
        (draft("every night"), "cron-unreadable"),
        (draft("61 * * * *"), "cron-unreadable"),
        (draft("* * * * * *"), "cron-unreadable"),
        (draft("*/5 0 3 * * *"), "cron-unreadable"),
        (draft("0 0 30 2 *"), "cron-unreadable"),
        (draft(""), "cron-unreadable"),
    ],
)
def test_what_never_runs_is_refused(wrong: ScheduleDraft, code: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        next_run(wrong, after=NOON)
    assert refused.value.code in (code, "cron-never")


@pytest.mark.parametrize(
    ("after", "due"),
    [
        # Berlin puts its clocks forward on 2026-03-29 at 02:00, and back on 2026-10-25 at 03:00.
        (datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),
        (datetime(2026, 10, 24, 12, tzinfo=UTC), datetime(2026, 10, 25, 2, 30, tzinfo=UTC)),
        (datetime(2026, 3, 29, 12, tzinfo=UTC), datetime(2026, 3, 30, 1, 30, tzinfo=UTC)),
    ],
)
def test_a_run_keeps_its_hour_when_the_clocks_change(
    monkeypatch: pytest.MonkeyPatch, after: datetime, due: datetime
) -> None:
    in_berlin(monkeypatch)
    assert next_run(draft("30 3 * * *"), after=after) == due


def test_every_run_comes_later_than_the_one_before_also_in_the_hour_that_comes_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_berlin(monkeypatch)
    moment, end = datetime(2026, 10, 25, 0, tzinfo=UTC), datetime(2026, 10, 25, 4, tzinfo=UTC)
    while moment < end:
        following = next_run(draft("*/10 * * * *"), after=moment)
        assert timedelta() < following - moment <= timedelta(hours=1, minutes=10)
        moment = following
