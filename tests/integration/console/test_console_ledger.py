"""The ledger: STATUS projected into rows, counts and a place, on a real database file."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from common.contracts.names import Command, ItemState, JobState, JobType, Stage
from common.contracts.status import ItemStatus, Reason
from common.errors import ConfigurationError
from console.adapters.ledger import Database, ItemStore, RunStore, SessionStore
from console.adapters.ledger.items import Told
from console.ports import Job, JobDraft

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "state" / "ops.db")
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
    number = runs.set_state(
        job.job_id, JobState.CANCELED, at=AT, event="cancel asked for", command=(Command.CANCEL, None)
    )
    (pending,) = runs.pending_commands()
    assert (pending.command_id, pending.command) == (number, Command.CANCEL)
    runs.applied(pending.command_id, at=AT)
    assert runs.pending_commands() == []
    assert [one.job_id for one in runs.unclosed()] == [job.job_id]
    runs.mark(job.job_id, closed=True)
    assert runs.unswept(ended_before=AT) == []
    assert [one.job_id for one in runs.unswept(ended_before=AT + timedelta(seconds=1))] == [job.job_id]
    assert [event["type"] for event in runs.events(job.job_id)] == ["canceled", "created"]


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
    strange = tmp_path / "ops.db"
    strange.write_bytes(b"not a database" * 1000)
    with pytest.raises(ConfigurationError) as refused:
        Database(strange)
    assert str(tmp_path) not in refused.value.message
    strange.unlink()
    Database(strange).close()
    with sqlite3.connect(strange) as connection:
        connection.execute("UPDATE schema_info SET version = 99")
    connection.close()
    with pytest.raises(ConfigurationError, match="schema 99"):
        Database(strange)
