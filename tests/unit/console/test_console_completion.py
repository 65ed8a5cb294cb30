"""A job is never called complete while work is left, however readings and work interleave."""

from __future__ import annotations

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from common.contracts.names import JobState, JobType, Stage
from console.ports import JobDraft, Reading
from console.service.completion import Unchanged, is_complete, steps
from console.service.drafts import active_job

EMPTY = Reading(pending=0, unacked=0)


def full(upload: str | None = "objects", job_type: JobType = JobType.FULL) -> JobDraft:
    stages = tuple(stage for stage in job_type.stages if upload or stage is not Stage.UPLOAD)
    return JobDraft(job_type=job_type, stages=stages, sources=("local", "feed"), upload_backend=upload)


def test_stages_are_read_in_the_order_of_the_flow() -> None:
    found = steps(active_job(7, JobState.RUNNING, full()))
    assert [step.stage for step in found] == [Stage.PLAN, Stage.COLLECT, Stage.SYNC, Stage.DOWNLOAD, Stage.UPLOAD]
    assert [len(step.lanes) for step in found] == [1, 2, 2, 2, 1]
    assert [step.follows_uploader for step in found] == [False, False, False, False, True]
    assert found[0].lanes[0].filter == "job.plan.requested.7.>"
    assert found[3].lanes[1].filter == "song.download.requested.7.feed.>"


@pytest.mark.parametrize(
    ("uploader", "lane", "complete"),
    [
        (EMPTY, EMPTY, True),
        (None, EMPTY, False),
        (Reading(pending=1, unacked=0), EMPTY, False),
        (Reading(pending=0, unacked=1), EMPTY, False),
        (EMPTY, None, False),
        (EMPTY, Reading(pending=0, unacked=1), False),
        (EMPTY, Reading(pending=1, unacked=0), False),
    ],
)
def test_uploads_wait_for_the_uploader_and_a_missing_consumer_proves_nothing(
    uploader: Reading | None, lane: Reading | None, complete: bool
) -> None:
    step = steps(active_job(1, JobState.RUNNING, full()))[-1]
    assert is_complete(step, uploader=uploader, lanes=[lane]) is complete


def test_an_upload_only_job_is_planned_by_the_collector_alone() -> None:
    (_, upload) = steps(active_job(1, JobState.RUNNING, full(job_type=JobType.UPLOAD_ONLY)))
    assert not upload.follows_uploader


_CHILDREN = {Stage.COLLECT: Stage.SYNC, Stage.SYNC: Stage.DOWNLOAD}
_STAGES = st.sampled_from([Stage.PLAN, Stage.COLLECT, Stage.SYNC, Stage.DOWNLOAD, Stage.UPLOAD])


class Flow(RuleBasedStateMachine):
    """Work that flows through the stages while the console reads one consumer after another."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = steps(active_job(1, JobState.RUNNING, full()))
        self.pending = dict.fromkeys(Stage, 0) | {Stage.PLAN: 3}
        self.unacked = dict.fromkeys(Stage, 0)
        self.catalog = [0, 0]
        self.budget = 60
        self.at = 0
        self.uploader: Reading | None = None
        self.complete = False

    @rule(stage=_STAGES)
    def take(self, stage: Stage) -> None:
        if self.pending[stage]:
            self.pending[stage] -= 1
            self.unacked[stage] += 1

    @rule(stage=_STAGES)
    def give_back(self, stage: Stage) -> None:
        if self.unacked[stage]:
            self.unacked[stage] -= 1
            self.pending[stage] += 1

    @rule(stage=_STAGES, child=_STAGES)
    def put_children(self, stage: Stage, child: Stage) -> None:
        """An item in hand puts children into WORK; its ack comes later."""
        if not self.unacked[stage] or not self.budget:
            return
        self.budget -= 1
        if stage is Stage.PLAN and child is not Stage.PLAN:
            self.pending[child] += 1
        elif stage in _CHILDREN:
            self.pending[_CHILDREN[stage]] += 1
        elif stage is Stage.DOWNLOAD:
            self.catalog[0] += 1

    @rule(stage=_STAGES)
    def ack(self, stage: Stage) -> None:
        if self.unacked[stage]:
            self.unacked[stage] -= 1

    @rule()
    def uploader_takes(self) -> None:
        if self.catalog[0]:
            self.catalog[0] -= 1
            self.catalog[1] += 1

    @rule()
    def uploader_puts_and_acks(self) -> None:
        if self.catalog[1]:
            self.pending[Stage.UPLOAD] += 1
            self.catalog[1] -= 1

    @precondition(lambda self: not self.complete)
    @rule()
    def console_reads_the_next_consumer(self) -> None:
        step = self.steps[self.at]
        if step.follows_uploader and self.uploader is None:
            self.uploader = Reading(pending=self.catalog[0], unacked=self.catalog[1])
            return
        lanes = [Reading(pending=self.pending[step.stage], unacked=self.unacked[step.stage])] * len(step.lanes)
        done = is_complete(step, uploader=self.uploader, lanes=lanes)
        self.uploader = None
        self.at = self.at + 1 if done else 0
        self.complete = done and self.at == len(self.steps)

    @invariant()
    def complete_means_nothing_is_left(self) -> None:
        if self.complete:
            assert not any(self.pending.values())
            assert not any(self.unacked.values())
            assert self.catalog == [0, 0]


TestFlow = Flow.TestCase
TestFlow.settings = hypothesis_settings(max_examples=150, stateful_step_count=60, deadline=None)


def test_readings_that_move_are_not_stuck_and_those_that_stay_are_after_the_time() -> None:
    stuck = Unchanged(seconds=6)
    assert not stuck.lasts("sync", (0, 1), at=0)
    assert not stuck.lasts("sync", (0, 1), at=5)
    assert not stuck.lasts("sync", (0, 2), at=7), "it moved"
    assert not stuck.lasts("download", (0, 2), at=13), "another stage has its own time"
    assert stuck.lasts("sync", (0, 2), at=13)
