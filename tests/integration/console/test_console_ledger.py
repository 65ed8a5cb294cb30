"""The ledger: STATUS projected into rows, counts and a place, on a real database file."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from common.contracts.names import Command, ItemState, JobState, JobType, Stage
from common.contracts.status import ItemStatus, Reason
from common.errors import ConfigurationError
from console.adapters.ledger import Database, ItemStore, Pruner, RunStore, SessionStore
from console.adapters.ledger.items import Told
from console.ports import Job, JobDraft, Wish
from tests.support.postgres import location

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path, database_url: str) -> Iterator[Database]:
    opened = Database(location("console", tmp_path / "state" / "ops.db", database_url))
    yield opened
    opened.close()


@pytest.fixture
def runs(database: Database) -> RunStore:
    return RunStore(database)


@pytest.fixture
def items(database: Database) -> ItemStore:
    return ItemStore(database)


def draft() -> JobDraft:
    return JobDraft(job_type=JobType.DOWNLOAD_ONLY, stages=(Stage.DOWNLOAD,), sources=("local",))


def make(runs: RunStore, after: int = 0) -> Job:
    return runs.create(draft(), after=after, trace="t", config={"a": 1}, at=AT)


def told(sequence: int, number: int, state: ItemState, job_id: int = 1, **values: Any) -> Told:
    status = ItemStatus(
        job_id=job_id,
        stage=Stage.DOWNLOAD,
        lane="local",
        key=str(number),
        title=f"song {number}",
        state=state,
        **values,
    )
    return Told(sequence=sequence, at=AT, status=status)


def test_job_numbers_are_small_and_never_come_twice(runs: RunStore) -> None:
    assert [make(runs).job_id, make(runs).job_id, make(runs, after=9).job_id, make(runs).job_id] == [1, 2, 10, 11]


def test_any_order_of_batches_gives_the_same_rows_and_right_counts(runs: RunStore, items: ItemStore) -> None:
    job = make(runs)
    shuffled = random.Random(7)
    history: list[Told] = []
    last: dict[int, ItemState] = {}
    for sequence in range(1, 2001):
        number, state = shuffled.randrange(200), shuffled.choice(list(ItemState))
        history.append(told(sequence, number, state))
        last[number] = state
    at = 0
    while at < len(history):
        size = shuffled.randrange(1, 90)
        batch = history[at : at + size]
        items.apply(batch, sequence=batch[-1].sequence)
        at += size
    counts = Counter(last.values())
    assert items.counts(job.job_id) == {Stage.DOWNLOAD: dict(counts)}
    assert items.position()[0] == 2000
    # Read once more from the beginning, as after a lost place: nothing changes.
    items.apply(history, sequence=2000)
    assert items.counts(job.job_id) == {Stage.DOWNLOAD: dict(counts)}
    failed = items.page(job.job_id, states=[ItemState.FAILED], after=0, limit=500)
    assert len(failed) == counts[ItemState.FAILED]


def test_a_status_comes_back_as_it_was_told(runs: RunStore, items: ItemStore) -> None:
    make(runs)
    one = told(
        1,
        5,
        ItemState.FAILED,
        tries=2,
        max_tries=5,
        interruptions=1,
        permanent=True,
        worker="nas-1",
        reason=Reason(code="not-audio", message="It is a web page."),
        queued_at=AT,
        started_at=AT + timedelta(seconds=1),
        ended_at=AT + timedelta(seconds=2),
        request={"song_id": 5, "name": "晴天\u202e"},
        result={"bytes": 1},
    )
    items.apply([one], sequence=1)
    (item,) = items.page(1, after=0, limit=10)
    assert item.status == one.status
    assert items.get(1, item.item_id) == item
    assert items.get(2, item.item_id) is None


def test_jobs_that_only_status_remembers_come_back_as_ended(runs: RunStore, items: ItemStore) -> None:
    items.apply([told(1, 1, ItemState.SUCCEEDED, 4), told(2, 2, ItemState.FAILED, 4)], sequence=2)
    job = runs.get(4)
    assert job is not None
    assert (job.state, job.closed, job.job_type) == (JobState.COMPLETED_WITH_ERRORS, True, JobType.DOWNLOAD_ONLY)
    assert runs.unclosed() == []
    assert make(runs).job_id == 5


def test_a_state_and_its_command_commit_together(runs: RunStore) -> None:
    job = make(runs)
    wish = Wish(command=Command.RETRY_FAILED, error_code="not-audio")
    runs.set_state(job.job_id, JobState.RUNNING, at=AT, event="begun", wish=wish)
    runs.applied(runs.pending_commands()[0].command_id, at=AT)
    number = runs.set_state(
        job.job_id, JobState.CANCELED, at=AT, event="cancel asked for", wish=Wish(command=Command.CANCEL)
    )
    (pending,) = runs.pending_commands()
    assert (pending.command_id, pending.wish) == (number, Wish(command=Command.CANCEL))
    runs.applied(pending.command_id, at=AT)
    assert runs.pending_commands() == []
    assert [one.job_id for one in runs.unclosed()] == [job.job_id]
    runs.mark(job.job_id, closed=True)
    assert runs.unswept(ended_before=AT) == []
    assert [one.job_id for one in runs.unswept(ended_before=AT + timedelta(seconds=1))] == [job.job_id]
    assert [event["type"] for event in runs.events(job.job_id)] == ["canceled", "running", "created"]


def test_sessions_hold_nothing_that_could_be_used_as_a_cookie(database: Database) -> None:
    store = SessionStore(database, credential="one credential, long enough")
    cookie = store.open(AT)
    assert store.valid(cookie, AT)
    assert not store.valid(cookie, AT + timedelta(days=15))
    assert not store.valid("", AT)
    assert not store.valid("\ud800", AT)
    assert not SessionStore(database, credential="another credential, long enough").valid(cookie, AT)
    with database.read() as connection:
        assert cookie not in str(connection.exec_driver_sql("SELECT * FROM console_sessions").all())
    store.close(cookie)
    assert not store.valid(cookie, AT)


def test_a_file_that_is_no_such_database_is_refused_with_a_sentence(tmp_path: Path) -> None:
    strange = location("console", tmp_path / "ops.db", "")
    strange.path.write_bytes(b"not a database" * 1000)
    with pytest.raises(ConfigurationError) as refused:
        Database(strange)
    assert str(tmp_path) not in refused.value.message
    assert strange.path.read_bytes() == b"not a database" * 1000
    strange.path.unlink()
    Database(strange).close()


def test_a_status_that_no_column_takes_stops_nothing(runs: RunStore, items: ItemStore) -> None:
    job = make(runs)
    strange = told(1, 7, ItemState.FAILED, tries=2**40, request={"song_id": 2**70, "name": "a\x00b"}, worker="w" * 500)
    items.apply([strange, told(2, 8, ItemState.SUCCEEDED)], sequence=2)
    assert items.position()[0] == 2
    assert items.counts(job.job_id) == {Stage.DOWNLOAD: {ItemState.FAILED: 1, ItemState.SUCCEEDED: 1}}


def test_old_history_is_forgotten_and_nothing_else(database: Database, runs: RunStore, items: ItemStore) -> None:
    old, new, running = make(runs), make(runs), make(runs)
    items.apply([told(number, number, ItemState.SUCCEEDED, old.job_id) for number in range(1, 31)], sequence=30)
    items.apply([told(40, 1, ItemState.FAILED, new.job_id)], sequence=40)
    for job, moment in ((old, AT - timedelta(days=100)), (new, AT)):
        runs.set_state(job.job_id, JobState.COMPLETED, at=moment, event="done")
        runs.mark(job.job_id, closed=True, swept=True)
    pruner = Pruner(database)
    steps = []
    while count := pruner.step(AT - timedelta(days=90), rows=10):
        steps.append(count)
    assert len(steps) >= 3, "in small steps"
    assert runs.get(old.job_id) is None
    assert items.counts(old.job_id) == {}
    assert items.page(old.job_id, after=0, limit=10) == []
    assert runs.get(new.job_id) is not None
    assert [item.status.key for item in items.page(new.job_id, after=0, limit=10)] == ["1"]
    assert runs.get(running.job_id) is not None
    # The newest job stays, however old it is: its number is not given again.
    runs.set_state(running.job_id, JobState.CANCELED, at=AT - timedelta(days=200), event="canceled")
    runs.mark(running.job_id, closed=True, swept=True)
    while pruner.step(AT + timedelta(days=1), rows=1000):
        pass
    assert [job.job_id for job in runs.newest(states=[], before=None, limit=10)] == [running.job_id]
    assert make(runs).job_id == running.job_id + 1
