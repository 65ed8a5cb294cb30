"""Delays stay finite whatever another side asks for, and however long it stays down."""

from __future__ import annotations

import math

import pytest

from common.contracts.envelope import UndecodableMessage, decode
from common.contracts.status import ItemStatus
from common.errors import DependencyDown, TransientError
from common.work.decide import MAX_ASKED, MAX_HOLD, MIN_HOLD, HoldLane, Retry, after_error, hold_delay, retry_delay

HOSTILE = [-1.0, 0.0, 1e300, math.inf, math.nan]


@pytest.mark.parametrize("asked", HOSTILE)
def test_what_is_asked_for_is_believed_within_a_day(asked: float) -> None:
    retry = after_error(TransientError("busy", retry_after=asked), tries=0, max_tries=5, base_delay=0.1)
    hold = after_error(DependencyDown("away", retry_after=asked), tries=0, max_tries=5, base_delay=0.1)
    assert isinstance(retry, Retry)
    assert isinstance(hold, HoldLane)
    assert 0 < retry.delay <= MAX_ASKED
    assert MIN_HOLD <= hold.seconds <= MAX_ASKED
    assert MIN_HOLD <= hold_delay(hold.seconds, holds_in_a_row=3) <= MAX_ASKED


def test_a_dependency_may_be_down_for_weeks() -> None:
    assert hold_delay(10.0, holds_in_a_row=20_000) == MAX_HOLD
    assert retry_delay(20_000, base_delay=5.0, asked=None) > 0


@pytest.mark.parametrize("payload", [b"[" * 100_000, b'{"a":' * 50_000, b"\xff", b"", b"1" * 10_000, b"null"])
def test_no_payload_does_more_than_be_undecodable(payload: bytes) -> None:
    with pytest.raises(UndecodableMessage):
        decode(payload, ItemStatus)
