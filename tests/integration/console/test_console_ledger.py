"""The ledger: STATUS projected into rows, counts and a place, on a real database file."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

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


def test_such_a_job_serves_what_its_items_tell_of(database: Database, runs: RunStore, items: ItemStore) -> None:
    def of(number: int, stage: Stage, lane: str) -> Told:
        status = ItemStatus(job_id=4, stage=stage, lane=lane, key=str(number), title="t", state=ItemState.FAILED)
        return Told(sequence=number, at=AT, status=status)

    items.apply([of(1, Stage.PLAN, "job"), of(2, Stage.DOWNLOAD, "feed")], sequence=2)
    # Read on after another start of the console.
    ItemStore(database).apply([of(3, Stage.DOWNLOAD, "local"), of(4, Stage.UPLOAD, "store")], sequence=4)
    job = runs.get(4)
    assert job is not None
    assert set(job.draft.stages) == {Stage.DOWNLOAD, Stage.UPLOAD}
    assert (job.draft.sources, job.draft.upload_backend) == (("feed", "local"), "store")
    known = make(runs)
    items.apply([told(5, 9, ItemState.FAILED, known.job_id)], sequence=5)
    again = runs.get(known.job_id)
    assert again is not None
    assert again.draft == known.draft, "of a job that is known nothing is guessed"


def test_what_lost_workers_held_is_listed_as_interrupted(runs: RunStore, items: ItemStore) -> None:
    job_id = make(runs).job_id
    running = ItemState.RUNNING
    batch = [
        told(1, 1, running, job_id, worker="dead"),
        told(2, 2, running, job_id, worker="alive"),
        told(3, 3, ItemState.INTERRUPTED, job_id, worker="dead"),
        told(4, 4, running, job_id, worker="dead"),
        told(5, 5, ItemState.QUEUED, job_id),
    ]
    items.apply(batch, sequence=5)
    assert items.holders(job_id) == {(Stage.DOWNLOAD, "dead"): 2, (Stage.DOWNLOAD, "alive"): 1}
    lost = [(Stage.DOWNLOAD, "dead"), (Stage.UPLOAD, "alive")]

    def keys(*states: ItemState, after: int = 0, limit: int = 9) -> list[str]:
        for stage in (None, Stage.DOWNLOAD):
            page = items.page(job_id, states=states, stage=stage, lost=lost, after=after, limit=limit)
        return [item.status.key for item in page]

    assert keys(ItemState.INTERRUPTED) == ["1", "3", "4"]
    assert keys(ItemState.INTERRUPTED, after=1, limit=1) == ["3"]
    assert keys(running) == ["2"]
    assert keys(running, ItemState.INTERRUPTED, ItemState.QUEUED) == ["1", "2", "3", "4", "5"]
    assert keys() == ["1", "2", "3", "4", "5"]
    assert items.page(job_id, stage=Stage.UPLOAD, after=0, limit=9) == []


def test_the_items_of_one_stage_are_found_by_an_index(tmp_path: Path) -> None:
    database = Database(location("console", tmp_path / "ops.db", ""))
    plans: list[str] = []

    def explain(connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT job_items."):
            rows = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.append(" ".join(row[3] for row in rows))

    try:
        items, job_id = ItemStore(database), make(RunStore(database)).job_id
        items.apply([told(1, 1, ItemState.QUEUED, job_id)], sequence=1)
        event.listen(database.engine, "before_cursor_execute", explain)
        items.page(job_id, stage=Stage.DOWNLOAD, after=0, limit=100)
        items.page(job_id, stage=Stage.DOWNLOAD, states=[ItemState.FAILED, ItemState.QUEUED], after=0, limit=100)
    finally:
        database.close()
    assert ["job_items_of_stage " in plans[0], *("job_items_of_stage_state" in plan for plan in plans[1:])] == [
        True
    ] * 3
    assert not any("TEMP B-TREE" in plan for plan in plans), "nothing is sorted"


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
