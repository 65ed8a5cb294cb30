from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from common.breaker import FIRST_WAIT, MAX_ASKED, MAX_WAIT, THRESHOLD, Breakers
from common.contracts.status import Reason, ServerWait
from common.errors import TransientError, Unreachable, Waiting

SERVER = "music.example.org:443"
REFUSED = TransientError("music.example.org cannot be reached.", code="connection-failed")


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breakers(clock: Clock) -> Breakers:
    return Breakers(patience=3600, clock=clock)


def down(breakers: Breakers) -> None:
    for _ in range(THRESHOLD):
        breakers.check(SERVER)
        assert breakers.failed(SERVER, REFUSED) is REFUSED, "these were real tries"


def test_one_failure_stops_nothing(breakers: Breakers) -> None:
    for _ in range(20):
        breakers.check(SERVER)
        breakers.failed(SERVER, REFUSED)
        breakers.check(SERVER)
        breakers.succeeded(SERVER)
    assert breakers.waits() == ()


def test_a_server_that_is_down_is_left_alone_and_costs_nobody_a_try(breakers: Breakers, clock: Clock) -> None:
    down(breakers)
    with pytest.raises(Waiting, match="cannot be reached") as waiting:
        breakers.check(SERVER)
    assert waiting.value.seconds == pytest.approx(FIRST_WAIT)
    breakers.check("other.example.org:443")

    clock.pass_(FIRST_WAIT + 1)
    breakers.check(SERVER)  # this one finds out
    with pytest.raises(Waiting):
        breakers.check(SERVER)
    assert isinstance(breakers.failed(SERVER, REFUSED), Waiting)
    with pytest.raises(Waiting) as longer:
        breakers.check(SERVER)
    assert longer.value.seconds == pytest.approx(2 * FIRST_WAIT)


def test_a_server_that_is_back_is_used_at_once(breakers: Breakers, clock: Clock) -> None:
    down(breakers)
    clock.pass_(FIRST_WAIT + 1)
    breakers.check(SERVER)
    breakers.succeeded(SERVER)
    for _ in range(10):
        breakers.check(SERVER)
    assert breakers.waits() == ()


def test_the_waits_grow_up_to_a_bound(breakers: Breakers, clock: Clock) -> None:
    breakers = Breakers(patience=1e6, clock=clock)
    down(breakers)
    longest = 0.0
    for _ in range(20):
        clock.pass_(MAX_WAIT + 1)
        breakers.check(SERVER)
        error = breakers.failed(SERVER, REFUSED)
        assert isinstance(error, Waiting)
        longest = max(longest, error.seconds)
    assert longest == MAX_WAIT


@pytest.mark.parametrize(("asked", "kept"), [(30.0, 30.0), (7200.0, 7200.0), (1e12, MAX_ASKED), (0.0, FIRST_WAIT)])
def test_a_pause_that_the_server_asks_for_is_believed(breakers: Breakers, asked: float, kept: float) -> None:
    error = breakers.failed(SERVER, TransientError("busy", code="server-busy", retry_after=asked))
    assert isinstance(error, Waiting)
    assert error.seconds == pytest.approx(kept)
    with pytest.raises(Waiting):
        breakers.check(SERVER)


def test_after_all_patience_items_fail_and_say_so(breakers: Breakers, clock: Clock) -> None:
    down(breakers)
    clock.pass_(3601)
    breakers.check(SERVER)
    with pytest.raises(Waiting):
        breakers.check(SERVER)  # it may be back: the other is finding out
    assert isinstance(breakers.failed(SERVER, REFUSED), Unreachable)
    with pytest.raises(Unreachable, match="more than 1 hour "):
        breakers.check(SERVER)


def test_what_another_copy_found_is_kept_also_after_a_restart(breakers: Breakers, clock: Clock) -> None:
    down(breakers)
    told = breakers.waits()
    assert [wait.server for wait in told] == [SERVER]
    other = Breakers(patience=3600, clock=clock, shared=lambda: told)
    with pytest.raises(Waiting):
        other.check(SERVER)
    clock.pass_(FIRST_WAIT + 1)
    other.check(SERVER)
    error = other.failed(SERVER, REFUSED)
    assert isinstance(error, Waiting), "what another copy found down needs no proof of our own"
    assert other.waits()[0].since == told[0].since


def test_a_wait_from_long_ago_says_nothing(clock: Clock) -> None:
    then = clock.now - timedelta(days=1)
    old = ServerWait(server=SERVER, reason=Reason(code="x", message="x"), since=then, until=then)
    breakers = Breakers(patience=3600, clock=clock, shared=lambda: [old])
    breakers.check(SERVER)
    breakers.check(SERVER)


def test_a_probe_that_never_ends_does_not_keep_all_others_away(
    breakers: Breakers, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    down(breakers)
    clock.pass_(FIRST_WAIT + 1)
    breakers.check(SERVER)
    with pytest.raises(Waiting):
        breakers.check(SERVER)
    monkeypatch.setattr("common.breaker.PROBE_PATIENCE", 0.0)
    breakers.check(SERVER)


def test_any_number_of_servers_takes_little_memory(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.breaker.MAX_SERVERS", 10)
    breakers = Breakers(patience=3600, clock=clock)
    for number in range(100):
        clock.pass_(0.001)
        breakers.failed(f"{number}.example.org:80", TransientError("busy", code="server-busy", retry_after=60))
    assert {wait.server for wait in breakers.waits()} == {f"{number}.example.org:80" for number in range(90, 100)}


def test_a_server_that_is_back_is_used_at_once_although_its_wait_is_still_told(
    breakers: Breakers, clock: Clock
) -> None:
    down(breakers)
    told = breakers.waits()
    copy = Breakers(patience=3600, clock=clock, shared=lambda: told)
    clock.pass_(FIRST_WAIT + 1)
    copy.check(SERVER)
    copy.succeeded(SERVER)
    for _ in range(5):
        copy.check(SERVER)  # all at once: none has to find out


def test_an_answer_to_what_was_asked_before_does_not_end_a_pause(breakers: Breakers) -> None:
    breakers.check(SERVER)
    breakers.check(SERVER)
    breakers.failed(SERVER, TransientError("busy", code="server-busy", retry_after=3600))
    breakers.succeeded(SERVER)
    with pytest.raises(Waiting):
        breakers.check(SERVER)


def test_once_it_is_given_up_all_its_items_fail_without_asking_it(breakers: Breakers, clock: Clock) -> None:
    down(breakers)
    clock.pass_(3601)
    breakers.check(SERVER)
    assert isinstance(breakers.failed(SERVER, REFUSED), Unreachable)
    other = Breakers(patience=3600, clock=clock, shared=breakers.waits)
    for one in (breakers, breakers, other):
        with pytest.raises(Unreachable):
            one.check(SERVER)
    clock.pass_(MAX_WAIT + 1)
    breakers.check(SERVER)
    breakers.succeeded(SERVER)
    breakers.check(SERVER)


def test_while_it_is_found_out_after_a_long_pause_nobody_fails(breakers: Breakers, clock: Clock) -> None:
    breakers.check(SERVER)
    breakers.failed(SERVER, TransientError("busy", code="server-busy", retry_after=7200))
    clock.pass_(7201)
    breakers.check(SERVER)
    with pytest.raises(Waiting):
        breakers.check(SERVER)


def test_an_answer_that_tells_nothing_lets_the_next_one_find_out(breakers: Breakers, clock: Clock) -> None:
    down(breakers)
    clock.pass_(FIRST_WAIT + 1)
    breakers.check(SERVER)
    breakers.undecided(SERVER)
    breakers.check(SERVER)
