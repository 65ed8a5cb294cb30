"""Job control on its real ledger and a real bus, against a model: commands, work and starts in any order."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from common.bus import Bus
from common.bus.readers import ReaderDesk
from common.bus.streams import ensure_streams
from common.contracts.envelope import decode
from common.contracts.jobs import Lane
from common.contracts.names import Command, ItemState, JobState, JobType, Stage
from common.contracts.streams import WORK
from common.contracts.work import ITEM_OF_STAGE, JobPlan, SongDownload, WorkItem
from common.settings import Settings
from common.work.journal import Journal
from common.work.planner import Planner
from common.work.pull import Delivery, LaneGone, Puller
from console.adapters.jobs_store import BusJobsStore
from console.adapters.ledger import Database, ItemStore, RunStore
from console.adapters.work_queue import BusWorkQueue
from console.errors import Refused
from console.handlers import status_projector
from console.ports import Job, Wish
from console.service.control import JobControl
from console.service.drafts import lanes_of
from console.service.fleet import Fleet
from console.service.lifecycle import final_state
from tests.support.nats import NatsServer
from tests.support.postgres import location

SOURCES = ("one", "two")
SONGS = 3
ENDED = {JobState.COMPLETED, JobState.COMPLETED_WITH_ERRORS, JobState.FAILED, JobState.CANCELED}
STOPPED = {JobState.PAUSE_REQUESTED, JobState.PAUSED}
_NUMBERS = itertools.count()

T = TypeVar("T")


class Control(RuleBasedStateMachine):
    """``wished`` is the model: what was last asked of each job, and so what it must never leave by itself."""

    directory: Path

    def __init__(self) -> None:
        super().__init__()
        self.place = self.directory / str(next(_NUMBERS))
        self.server = NatsServer(self.place / "nats")
        self.server.start()
        self.loop = asyncio.new_event_loop()
        self.wished: dict[int, JobState] = {}
        self.stop = asyncio.Event()
        self.do(self._open())

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    async def _open(self) -> None:
        settings = Settings(
            root_dir=self.place,
            nats_url=self.server.url,
            nats_user=self.server.user,
            nats_password=self.server.password,
        )
        self.bus = await Bus.connect(settings, service="console", instance="one")
        await ensure_streams(self.bus)
        await ReaderDesk(self.bus).start()
        self.database = Database(location("console", self.place / "ops.db", ""))
        self.runs, self.items = RunStore(self.database), ItemStore(self.database)
        self.projector = status_projector(bus=self.bus, items=self.items, on_change=lambda: None)
        await self.projector.start()
        self.projecting = asyncio.create_task(self.projector.run(self.stop))
        self.puller = await Puller.open(self.bus, lease=3)
        self.journal = Journal(bus=self.bus, service="downloader", instance="worker")
        self.control = await self._console(pause=False)

    async def _console(self, *, pause: bool) -> JobControl:
        control = JobControl(
            runs=self.runs,
            items=self.items,
            queue=BusWorkQueue(self.bus, lease_seconds=3, max_in_flight=64),
            store=BusJobsStore(self.bus),
            projection=self.projector,
            fleet=Fleet(started=time.monotonic() - 100),
            sources=SOURCES,
            upload_backend=None,
            config=dict,
            lease_seconds=3,
            pause_found=pause,
            on_change=lambda: None,
        )
        await control.start()
        return control

    @rule(source=st.sampled_from(SOURCES))
    def person_asks_for_a_job(self, source: str) -> None:
        """The same job asked for twice while it goes on is one job. A retry may have reopened an older one too."""
        going = [job.job_id for job in self.runs.unended() if job.draft.sources == (source,)]
        job, already = self.do(self.control.submit(job_type=JobType.DOWNLOAD_ONLY, sources=[source]))
        assert already is bool(going)
        if already:
            assert job.job_id in going
        else:
            assert job.job_id == max(self.wished, default=0) + 1
            self.wished[job.job_id] = JobState.RUNNING

    @precondition(lambda self: self.wished)
    @rule(pick=st.integers(0, 9), command=st.sampled_from([Command.PAUSE, Command.RESUME, Command.CANCEL]))
    def person_steers(self, pick: int, command: Command) -> None:
        job_id = self._pick(pick)
        before = self._job(job_id).state
        try:
            after = self.do(self.control.command(job_id, Wish(command=command))).state
        except Refused as refused:
            assert before in ENDED
            assert refused.code == "job-ended"
            return
        match command:
            case Command.PAUSE:
                assert after in STOPPED
                self.wished[job_id] = JobState.PAUSED
            case Command.RESUME:
                assert after is JobState.RUNNING
                self.wished[job_id] = JobState.RUNNING
            case _:
                assert after is JobState.CANCELED
                self.wished[job_id] = JobState.CANCELED

    @precondition(lambda self: self.wished)
    @rule(pick=st.integers(0, 9), item=st.integers(0, 9), force=st.booleans())
    def person_retries(self, pick: int, item: int, force: bool) -> None:
        job_id = self._pick(pick)
        known = self.do(self._items(job_id))
        if not known:
            return
        chosen = known[item % len(known)]
        command = Command.FORCE_RETRY_ITEM if force else Command.RETRY_ITEM
        before = self._job(job_id).state
        try:
            after = self.do(self.control.command(job_id, Wish(command=command, item_id=chosen.item_id))).state
        except Refused:
            assert not force
            assert chosen.status.state is not ItemState.FAILED
            assert self._job(job_id).state is before, "what is refused changes nothing"
            return
        assert after is (JobState.RUNNING if before in ENDED else before)
        if before in ENDED:
            self.wished[job_id] = JobState.RUNNING

    @precondition(lambda self: self.wished)
    @rule(pick=st.integers(0, 9), ends=st.sampled_from([ItemState.SUCCEEDED, ItemState.FAILED]))
    def worker_does_an_item(self, pick: int, ends: ItemState) -> None:
        job_id = self._pick(pick)
        began = self.do(self._work(self._job(job_id), ends))
        assert not began or self.wished[job_id] is JobState.RUNNING, "nothing starts of what is stopped"

    @rule()
    def time_passes(self) -> None:
        self.do(self.control.tick())

    @rule(pause=st.booleans())
    def console_starts_again(self, pause: bool) -> None:
        """RECOVERY=pause makes those that run wait for a person; nothing else changes."""
        going = [job.job_id for job in self.runs.unended() if job.state is JobState.RUNNING]
        self.control = self.do(self._console(pause=pause))
        if pause:
            self.wished |= dict.fromkeys(going, JobState.PAUSED)

    @invariant()
    def each_job_is_as_was_wished_until_it_ends(self) -> None:
        for job_id, wished in self.wished.items():
            state = self._job(job_id).state
            match wished:
                case JobState.CANCELED:
                    assert state is JobState.CANCELED
                case JobState.PAUSED:
                    assert state in STOPPED or state in ENDED - {JobState.CANCELED}
                case _:
                    assert state is JobState.RUNNING or state in ENDED - {JobState.CANCELED}

    @invariant()
    def workers_are_told_what_the_ledger_says(self) -> None:
        told = {job.job_id: job.state for job in self.do(BusJobsStore(self.bus).read()).jobs}
        assert told == {job.job_id: job.state for job in self.runs.unended()}

    def teardown(self) -> None:
        try:
            self.do(self._let_end())
        finally:
            self.do(self._close())
            self.loop.close()
            self.server.stop()

    async def _let_end(self) -> None:
        """Everything that was not canceled ends, as its items did, and leaves nothing behind."""
        async with asyncio.timeout(60):
            for job in self.runs.unended():
                await self.control.command(job.job_id, Wish(command=Command.RESUME))
            while going := self.runs.unended():
                for job in going:
                    while await self._work(job, ItemState.SUCCEEDED):
                        continue
                await self.control.tick()
        await self.control.tick()
        for job_id in self.wished:
            items = await self._items(job_id)
            counts: dict[Stage, Counter[ItemState]] = {}
            for item in items:
                counts.setdefault(item.status.stage, Counter())[item.status.state] += 1
            assert all(item.status.state.ended for item in items)
            assert self.items.counts(job_id) == {stage: dict(states) for stage, states in counts.items()}
            state = self._job(job_id).state
            assert state is JobState.CANCELED or state is final_state(counts)
        left = (await self.bus.js.stream_info(WORK)).state
        assert (left.messages, left.consumer_count) == (0, 0)

    async def _close(self) -> None:
        self.stop.set()
        await self.projecting
        await self.puller.close()
        await self.bus.close()
        self.database.close()

    async def _work(self, job: Job, ends: ItemState) -> bool:
        """What a worker does with the next item of a job; whether it began one."""
        for lane in lanes_of(job.job_id, job.draft):
            try:
                message = await self.puller.take(lane.consumer)
            except LaneGone:
                continue
            if message is not None:
                return await self._try(Delivery(self.bus, message), lane, ends)
        return False

    async def _try(self, delivery: Delivery, lane: Lane, ends: ItemState) -> bool:
        item: WorkItem = decode(delivery.data, ITEM_OF_STAGE[lane.stage]).data
        job = (await BusJobsStore(self.bus).read()).job(item.job_id)
        record = await self.journal.read(item)
        if job is None or not job.takes_items:
            await delivery.nak()
            return False
        if record.status.state.ended:
            await delivery.ack()
            return False
        cause = f"{delivery.sequence}:{delivery.delivered}"
        record = await self.journal.write(record, cause=cause, trace="t", state=ItemState.RUNNING, worker="worker")
        if isinstance(item, JobPlan):
            ends = ItemState.SUCCEEDED
            songs = [
                SongDownload(job_id=item.job_id, source=source, song_id=n, remote_id=f"{n}", name=f"{n}")
                for source in job.sources
                for n in range(1, SONGS + 1)
            ]
            await Planner(self.bus).put(songs, cause=cause, job_id=item.job_id)
        await self.journal.write(record, cause=cause, trace="t", state=ends)
        await delivery.ack()
        return True

    async def _items(self, job_id: int) -> list[Any]:
        await self.projector.wait_for(await BusWorkQueue(self.bus, lease_seconds=3, max_in_flight=64).status_end(), 10)
        return self.items.page(job_id, after=0, limit=100)

    def _job(self, job_id: int) -> Job:
        job = self.runs.get(job_id)
        assert job is not None
        return job

    def _pick(self, pick: int) -> int:
        return sorted(self.wished)[pick % len(self.wished)]


def test_any_order_of_commands_work_and_starts_keeps_the_promises(tmp_path: Path) -> None:
    machine = type("Here", (Control,), {"directory": tmp_path})
    run_state_machine_as_test(
        machine,
        settings=hypothesis_settings(
            max_examples=6, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
