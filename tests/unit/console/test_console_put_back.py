"""Putting back what waited: all of it, a bounded part at a time, whatever the machine's clock says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from common.breaker import Breakers
from common.bus.errors import StreamFull
from common.contracts.envelope import now
from common.contracts.jobs import Lane
from common.contracts.names import ItemState, JobType, Stage
from common.contracts.status import ItemStatus, Reason, ServerWait
from common.contracts.work import SongDownload, WorkItem
from common.errors import TransientError, Waiting
from console.adapters.ledger import Database, ItemStore, RunStore
from console.adapters.ledger.items import Told
from console.ports import Job, JobDraft
from console.service.aside import Aside, merged
from tests.support.postgres import location

SERVER = "music.example.org:443"
DUE = datetime(2026, 1, 1, tzinfo=UTC)


class Queue:
    """The end of the queue that items are put into."""

    def __init__(self) -> None:
        self.put: list[str] = []
        self.room = 10**9
        self.held: set[str] = set()

    async def put_back(self, item: WorkItem, lane: Lane, *, cause: str, trace: str, stranded: bool) -> bool:
        assert stranded, "it was due long ago"
        if len(self.put) >= self.room:
            raise StreamFull("full")
        self.put.append(item.key)
        return item.key not in self.held


@pytest.fixture
def database(tmp_path: Path, database_url: str) -> Iterator[Database]:
    opened = Database(location("console", tmp_path / "ops.db", database_url))
    yield opened
    opened.close()


@pytest.fixture
def job(database: Database) -> Job:
    draft = JobDraft(job_type=JobType.DOWNLOAD_ONLY, stages=(Stage.DOWNLOAD,), sources=("feed",))
    return RunStore(database).create(draft, after=0, trace="t", config={}, at=now())


def wait(database: Database, job: Job, count: int) -> ItemStore:
    """Items that wait for a time that has come."""
    items, told = ItemStore(database), []
    for number in range(1, count + 1):
        url = f"https://h/{number}"
        song = SongDownload(job_id=job.job_id, source="feed", song_id=number, remote_id=url, name="song")
        status = ItemStatus(
            job_id=job.job_id,
            stage=Stage.DOWNLOAD,
            lane="feed",
            key=song.key,
            title=song.title,
            state=ItemState.QUEUED,
            reason=Reason(code="server-waiting", message="Waiting."),
            next_try_at=DUE + timedelta(microseconds=number // 3),
            request=song.model_dump(mode="json", exclude_defaults=True),
        )
        told.append(Told(sequence=number, at=DUE, status=status))
    items.apply(told, sequence=count)
    return items


def make(items: ItemStore, queue: Any) -> Aside:
    return Aside(items=items, queue=queue, lease=60.0)


async def test_a_machine_that_was_just_started_puts_back_too(
    database: Database, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 5.0)
    queue = Queue()
    assert await make(wait(database, job, 3), queue).put_back(job) == 3
    assert sorted(queue.put) == ["1", "2", "3"]


async def test_many_are_put_back_a_part_at_a_time_and_each_once(
    database: Database, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: clock)
    queue = Queue()
    back = make(wait(database, job, 2600), queue)
    assert await back.put_back(job) == 1000, "commands of people are not to wait for all of them"
    clock += 100  # slower than anyone would think: it goes on all the same
    assert await back.put_back(job) == 1000
    assert await back.put_back(job) == 600
    assert len(set(queue.put)) == len(queue.put) == 2600
    assert await back.put_back(job) > 0, "what nobody has taken up is put back once more"


async def test_what_the_queue_holds_already_is_tried_again_soon(
    database: Database, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: clock)
    queue = Queue()
    back = make(wait(database, job, 3), queue)
    queue.held = {"2"}
    await back.put_back(job)
    clock += 5
    await back.put_back(job)
    assert len(queue.put) == 3, "not at once: its lease may be about to end"
    clock += 6
    queue.held = set()
    await back.put_back(job)
    assert len(queue.put) == 6, "what was there may never be delivered"
    clock += 20
    await back.put_back(job)
    assert len(queue.put) == 6, "now all of them are queued"


async def test_a_full_queue_is_waited_for(database: Database, job: Job) -> None:
    queue = Queue()
    back = make(wait(database, job, 300), queue)
    queue.room = 100
    assert await back.put_back(job) == 0
    queue.room = 10**9
    assert await back.put_back(job) == 300
    assert len(set(queue.put)) == 300


def test_a_server_that_asks_for_pauses_all_day_and_answers_in_between_is_never_given_up() -> None:
    clock, shared = DUE, list[ServerWait]()
    busy = TransientError("busy", code="server-busy", retry_after=60)
    copies = [Breakers(patience=3600, clock=lambda: clock, shared=lambda: shared) for _ in range(2)]
    for turn in range(60):
        one = copies[turn % 2]
        one.check(SERVER)
        assert isinstance(one.failed(SERVER, busy), Waiting)
        shared = list(merged(one.waits(), shared, at=clock))
        clock += timedelta(seconds=90)
        for other in copies:
            other.check(SERVER)
            other.succeeded(SERVER)
        clock += timedelta(seconds=30)
