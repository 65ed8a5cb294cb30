"""How jobs end that have many items: some at a time, so that others have their turn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from common.contracts.names import Command, ItemState, JobState, JobType, Stage
from common.contracts.status import ItemStatus
from console.errors import Refused
from console.ports import Item, Items, Job, JobDraft, Projection, Runs, Wish, WorkQueue
from console.service.ending import Ending
from console.service.retries import Retries

AT = datetime(2026, 1, 1, tzinfo=UTC)
DRAFT = JobDraft(job_type=JobType.DOWNLOAD_ONLY, stages=(Stage.DOWNLOAD,), sources=("feed",))
JOB = Job(job_id=1, state=JobState.CANCELED, draft=DRAFT, trace="t", created_at=AT)


@dataclass
class World:
    """The ledger, and a bus whose statuses are in it at once."""

    statuses: list[ItemStatus]
    told: list[int] = field(default_factory=list)
    """How many items each call told of their end."""
    dropped: int = 0
    marked: dict[str, Any] = field(default_factory=dict)

    def unended(self, job_id: int, *, after: int, limit: int) -> list[Item]:
        return [one for one in self._items(after) if not one.status.state.ended][:limit]

    def failed(self, job_id: int, *, error_code: str | None, after: int, limit: int) -> list[Item]:
        return [one for one in self._items(after) if one.status.state is ItemState.FAILED][:limit]

    def mark(self, job_id: int, **marks: Any) -> None:
        self.marked |= marks

    async def tell(self, statuses: Iterable[ItemStatus], *, cause: str, trace: str) -> None:
        new = list(statuses)
        self.told.append(len(new))
        for status in new:
            self.statuses[int(status.key) - 1] = status

    async def drop_lane(self, lane: object) -> None:
        self.dropped += 1

    async def purge_lane(self, lane: object) -> None: ...

    async def status_end(self) -> int:
        return 0

    async def wait_for(self, sequence: int, timeout: float) -> bool:
        return True

    def ending(self) -> Ending:
        return Ending(
            runs=cast(Runs, self),
            items=cast(Items, self),
            queue=cast(WorkQueue, self),
            projection=cast(Projection, self),
            lease=1.0,
        )

    def _items(self, after: int) -> list[Item]:
        numbered = enumerate(self.statuses[after:], start=after + 1)
        return [Item(item_id=number, subject=status.subject, status=status) for number, status in numbered]


def status(number: int, state: ItemState = ItemState.QUEUED, **more: Any) -> ItemStatus:
    return ItemStatus(
        job_id=1, stage=Stage.DOWNLOAD, lane="feed", key=str(number), title=f"song {number}", state=state, **more
    )


def world(count: int) -> World:
    return World([status(number) for number in range(1, count + 1)])


async def test_a_large_job_is_canceled_a_thousand_items_at_a_time() -> None:
    many = world(2500)
    ending = many.ending()
    for told in ([1000], [1000, 1000], [1000, 1000, 500]):
        assert many.marked == {}
        await ending.close(JOB)
        assert many.told == told
    assert many.marked == {"closed": True}
    assert many.dropped == 2, "its consumers are dropped once, not at each call"
    assert {one.state for one in many.statuses} == {ItemState.CANCELED}


async def test_a_console_that_begins_anew_in_the_middle_cancels_the_rest() -> None:
    many = world(2500)
    await many.ending().close(JOB)
    after = many.ending()
    await after.close(JOB)
    await after.close(JOB)
    assert many.told == [1000, 1000, 500], "none is told twice"
    assert many.marked == {"closed": True}


async def test_a_job_is_not_reopened_while_it_is_being_canceled() -> None:
    ending = world(1).ending()
    with pytest.raises(Refused) as refused:
        ending.reopen(JOB)
    assert refused.value.code == "job-ending"
    ending.reopen(Job(job_id=1, state=JobState.CANCELED, draft=DRAFT, trace="t", created_at=AT, closed=True))


def test_a_retry_of_all_that_failed_is_accepted_where_one_of_it_can_be_done() -> None:
    song = {"job_id": 1, "source": "feed", "song_id": 2, "remote_id": "r", "name": "song 2"}
    lost, kept = status(1, ItemState.FAILED), status(2, ItemState.FAILED, request=song)
    wish = Wish(command=Command.RETRY_FAILED)

    def check(*statuses: ItemStatus) -> str | None:
        known = World(list(statuses))
        return Retries(items=cast(Items, known), queue=cast(WorkQueue, known)).check(JOB, wish)

    assert check(lost, kept) is None
    for failed, code in (((), "nothing-failed"), ((lost,), "request-lost")):
        with pytest.raises(Refused) as refused:
            check(*failed)
        assert refused.value.code == code
