"""The job's states: which command leads where, and how jobs end."""

from __future__ import annotations

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from common.contracts.names import Command, ItemState, JobState, Stage
from console.errors import Refused
from console.service.lifecycle import RETRIES, after_command, after_recovery, check_retry, final_state

STEERING = [Command.PAUSE, Command.RESUME, Command.CANCEL]


@pytest.mark.parametrize(
    ("state", "command", "then"),
    [
        (JobState.QUEUED, Command.PAUSE, JobState.PAUSE_REQUESTED),
        (JobState.RUNNING, Command.PAUSE, JobState.PAUSE_REQUESTED),
        (JobState.PAUSE_REQUESTED, Command.PAUSE, JobState.PAUSE_REQUESTED),
        (JobState.PAUSED, Command.PAUSE, JobState.PAUSED),
        (JobState.PAUSED, Command.RESUME, JobState.RUNNING),
        (JobState.PAUSE_REQUESTED, Command.RESUME, JobState.RUNNING),
        (JobState.RUNNING, Command.RESUME, JobState.RUNNING),
        (JobState.PAUSED, Command.CANCEL, JobState.CANCELED),
        (JobState.CANCELED, Command.CANCEL, JobState.CANCELED),
        (JobState.COMPLETED, Command.RETRY_ITEM, JobState.RUNNING),
        (JobState.CANCELED, Command.FORCE_RETRY_ITEM, JobState.RUNNING),
        (JobState.PAUSED, Command.RETRY_ITEM, JobState.PAUSED),
    ],
)
def test_a_command_leads_to_a_state(state: JobState, command: Command, then: JobState) -> None:
    assert after_command(state, command) is then


@pytest.mark.parametrize("state", [state for state in JobState if state.ended and state is not JobState.CANCELED])
@pytest.mark.parametrize("command", STEERING)
def test_what_has_ended_is_not_steered(state: JobState, command: Command) -> None:
    with pytest.raises(Refused) as refused:
        after_command(state, command)
    assert refused.value.code == "job-ended"


def test_only_failed_items_are_retried_unless_forced() -> None:
    check_retry(ItemState.FAILED, force=False)
    for state in ItemState:
        check_retry(state, force=True)
        if state is not ItemState.FAILED:
            with pytest.raises(Refused):
                check_retry(state, force=False)


@pytest.mark.parametrize(
    ("counts", "state"),
    [
        ({}, JobState.COMPLETED),
        ({Stage.PLAN: {ItemState.SUCCEEDED: 1}, Stage.DOWNLOAD: {ItemState.SKIPPED: 3}}, JobState.COMPLETED),
        (
            {Stage.PLAN: {ItemState.SUCCEEDED: 1}, Stage.DOWNLOAD: {ItemState.FAILED: 1}},
            JobState.COMPLETED_WITH_ERRORS,
        ),
        ({Stage.PLAN: {ItemState.FAILED: 1}}, JobState.FAILED),
        (
            {Stage.PLAN: {ItemState.FAILED: 1}, Stage.DOWNLOAD: {ItemState.SUCCEEDED: 1}},
            JobState.COMPLETED_WITH_ERRORS,
        ),
    ],
)
def test_a_job_ends_as_its_items_did(counts: dict[Stage, dict[ItemState, int]], state: JobState) -> None:
    assert final_state(counts) is state


def test_recovery_pauses_only_when_told_to() -> None:
    assert after_recovery(JobState.RUNNING, pause=False) is JobState.RUNNING
    assert after_recovery(JobState.RUNNING, pause=True) is JobState.PAUSE_REQUESTED
    assert after_recovery(JobState.PAUSED, pause=True) is JobState.PAUSED


class Job(RuleBasedStateMachine):
    """Commands, confirmations and completions in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.state = JobState.QUEUED
        self.canceled = False

    @rule()
    def begins(self) -> None:
        if self.state is JobState.QUEUED:
            self.state = JobState.RUNNING

    @rule(command=st.sampled_from(list(Command)))
    def command(self, command: Command) -> None:
        before = self.state
        try:
            self.state = after_command(before, command)
        except Refused:
            assert before.ended
            return
        if before.ended:
            assert command in RETRIES or self.state is before
            self.canceled = self.canceled and self.state is before
        if command is Command.PAUSE:
            assert self.state in {JobState.PAUSE_REQUESTED, JobState.PAUSED}
        if command is Command.CANCEL:
            self.canceled = True

    @rule()
    def workers_confirm(self) -> None:
        if self.state is JobState.PAUSE_REQUESTED:
            self.state = JobState.PAUSED

    @rule(failed=st.integers(0, 2))
    def everything_is_done(self, failed: int) -> None:
        if self.state in {JobState.RUNNING, JobState.PAUSE_REQUESTED}:
            self.state = final_state({Stage.DOWNLOAD: {ItemState.FAILED: failed, ItemState.SUCCEEDED: 1}})

    @rule(pause=st.booleans())
    def console_starts_again(self, pause: bool) -> None:
        before = self.state
        self.state = after_recovery(before, pause=pause)
        assert not before.ended or self.state is before

    @invariant()
    def cancel_lasts_until_a_retry(self) -> None:
        assert not self.canceled or self.state is JobState.CANCELED


TestJob = Job.TestCase
TestJob.settings = hypothesis_settings(max_examples=150, stateful_step_count=40, deadline=None)
