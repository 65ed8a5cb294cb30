"""The job state machine against a model of what is promised to people: states, commands, items, and how jobs end."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from common.contracts.names import Command, ItemState, JobState, Stage
from console.errors import Refused
from console.service.lifecycle import RETRIES, after_command, after_recovery, check_retry, final_state

ITEM_RETRIES = {Command.RETRY_ITEM: False, Command.FORCE_RETRY_ITEM: True}
STEERING = [Command.PAUSE, Command.RESUME, Command.CANCEL]
GOING = {JobState.QUEUED, JobState.RUNNING, JobState.PAUSE_REQUESTED, JobState.PAUSED}
ENDED = {JobState.COMPLETED, JobState.COMPLETED_WITH_ERRORS, JobState.FAILED, JobState.CANCELED}
LAST = {ItemState.SUCCEEDED, ItemState.FAILED, ItemState.SKIPPED, ItemState.CANCELED}


class JobMachine(RuleBasedStateMachine):
    """One job, its items, and a console that comes and goes.

    ``state`` is what the console's functions make of it; the other fields are the model, which knows only
    what was promised and what was asked for.
    """

    items = Bundle("items")

    def __init__(self) -> None:
        super().__init__()
        self.state = JobState.QUEUED
        self.of_items: dict[tuple[Stage, int], ItemState] = {}
        self.pause_wished = False
        self.canceled = False
        self.ended_as: JobState | None = None

    @initialize()
    def begins(self) -> None:
        self.state = JobState.RUNNING

    @precondition(lambda self: self.state not in ENDED)
    @rule(target=items, stage=st.sampled_from(list(Stage)), count=st.integers(1, 3))
    def plans(self, stage: Stage, count: int) -> object:
        """A planner queues items; it may do so while the job is being paused."""
        first = len(self.of_items)
        made = [(stage, number) for number in range(first, first + count)]
        self.of_items |= dict.fromkeys(made, ItemState.QUEUED)
        return multiple(*made)

    @rule(item=items)
    def worker_takes(self, item: tuple[Stage, int]) -> None:
        """A worker that was given an item starts it only if the job runs."""
        if self.state is JobState.RUNNING and self.of_items[item] in {ItemState.QUEUED, ItemState.INTERRUPTED}:
            assert not self.pause_wished, "a pause was asked for, and something starts"
            assert not self.canceled, "what is canceled runs again by itself"
            self.of_items[item] = ItemState.RUNNING

    @rule(item=items, ends=st.sampled_from([ItemState.SUCCEEDED, ItemState.FAILED, ItemState.SKIPPED]))
    def worker_ends(self, item: tuple[Stage, int], ends: ItemState) -> None:
        """Running ones finish, also while a job is being paused."""
        if self.of_items[item] is ItemState.RUNNING:
            self.of_items[item] = ends

    @rule(item=items)
    def worker_dies(self, item: tuple[Stage, int]) -> None:
        if self.of_items[item] is ItemState.RUNNING:
            self.of_items[item] = ItemState.INTERRUPTED

    @rule(command=st.sampled_from(STEERING), times=st.integers(1, 3))
    def person_steers(self, command: Command, times: int) -> None:
        """Asking twice is asking once; what has ended is not steered."""
        before, refused = self.state, False
        for _ in range(times):
            try:
                self.state = after_command(self.state, command)
            except Refused as error:
                assert error.code == "job-ended"
                refused = True
        if before in ENDED:
            assert self.state is before, "no steering leads out of an end"
            assert refused is not (command is Command.CANCEL and before is JobState.CANCELED)
            return
        assert not refused
        match command:
            case Command.PAUSE:
                assert self.state is (JobState.PAUSED if before is JobState.PAUSED else JobState.PAUSE_REQUESTED)
                self.pause_wished = True
            case Command.RESUME:
                assert self.state is JobState.RUNNING
                self.pause_wished = False
            case _:
                assert self.state is JobState.CANCELED
                self._cancel()

    @rule(priority=st.integers(-3, 3))
    def person_sets_priority(self, priority: int) -> None:
        before = self.state
        try:
            self.state = after_command(before, Command.SET_PRIORITY)
        except Refused:
            assert before in ENDED
        assert self.state is before

    @rule(item=items, command=st.sampled_from(list(ITEM_RETRIES)), aside=st.booleans())
    def person_retries(self, item: tuple[Stage, int], command: Command, aside: bool) -> None:
        """Only failed items, and by force any; a retry is the only way out of an end."""
        before, stood = self.state, self.of_items[item]
        aside = aside and stood is ItemState.QUEUED
        try:
            check_retry(stood, force=ITEM_RETRIES[command], set_aside=aside)
        except Refused as error:
            assert not ITEM_RETRIES[command] and stood is not ItemState.FAILED and not aside
            assert error.code == ("item-not-failed" if stood in LAST else "item-not-ended")
            return
        assert ITEM_RETRIES[command] or stood is ItemState.FAILED or aside
        self.state = after_command(before, command)
        self.of_items[item] = ItemState.QUEUED
        self._reopened(before)

    @precondition(lambda self: ItemState.FAILED in self.of_items.values())
    @rule()
    def person_retries_all_failed(self) -> None:
        before = self.state
        self.state = after_command(before, Command.RETRY_FAILED)
        for item, stood in self.of_items.items():
            if stood is ItemState.FAILED:
                self.of_items[item] = ItemState.QUEUED
        self._reopened(before)

    @rule()
    def workers_confirm(self) -> None:
        """The pause is exact: said only once nothing of the job is in anybody's hands."""
        if self.state is JobState.PAUSE_REQUESTED and ItemState.RUNNING not in self.of_items.values():
            self.state = JobState.PAUSED

    @rule()
    def everything_is_done(self) -> None:
        """The console ends a job whose items have all ended; how follows from the counts alone."""
        if self.state not in {JobState.RUNNING, JobState.PAUSE_REQUESTED}:
            return
        if any(stood not in LAST for stood in self.of_items.values()):
            return
        counts: dict[Stage, Counter[ItemState]] = {}
        for (stage, _), stood in self.of_items.items():
            counts.setdefault(stage, Counter())[stood] += 1
        self.state = final_state(counts)
        failed = [stage for (stage, _), stood in self.of_items.items() if stood is ItemState.FAILED]
        if not failed:
            assert self.state is JobState.COMPLETED
        elif Stage.PLAN in failed and all(stage is Stage.PLAN for stage, _ in self.of_items):
            assert self.state is JobState.FAILED
        else:
            assert self.state is JobState.COMPLETED_WITH_ERRORS
        self.ended_as, self.pause_wished = self.state, False

    @rule(pause=st.booleans())
    def console_starts_again(self, pause: bool) -> None:
        """Running jobs go on, or wait for a person where that is set; all others are as they were."""
        before = self.state
        self.state = after_recovery(before, pause=pause)
        if pause and before is JobState.RUNNING:
            assert self.state is JobState.PAUSE_REQUESTED
            self.pause_wished = True
        else:
            assert self.state is before

    @rule(item=consumes(items))
    def item_is_forgotten(self, item: tuple[Stage, int]) -> None:
        """Keeps the runs from dwelling on a few items; the item itself stays as it is."""

    @invariant()
    def an_end_lasts_until_a_retry(self) -> None:
        assert self.canceled is (self.state is JobState.CANCELED)
        assert self.ended_as is None or self.state is self.ended_as
        assert (self.state in ENDED) is (self.canceled or self.ended_as is not None)

    @invariant()
    def a_pause_lasts_until_a_resume(self) -> None:
        if self.state not in ENDED:
            assert self.pause_wished is (self.state in {JobState.PAUSED, JobState.PAUSE_REQUESTED})

    @invariant()
    def nothing_runs_while_paused_or_after_the_end(self) -> None:
        if self.state is JobState.PAUSED or self.state in ENDED:
            assert ItemState.RUNNING not in self.of_items.values()

    @invariant()
    def a_job_that_ended_has_items_that_ended(self) -> None:
        if self.state in ENDED:
            assert all(stood in LAST for stood in self.of_items.values())

    def _cancel(self) -> None:
        self.canceled, self.pause_wished = True, False
        for item, stood in self.of_items.items():
            if stood not in LAST:
                self.of_items[item] = ItemState.CANCELED

    def _reopened(self, before: JobState) -> None:
        assert self.state is (JobState.RUNNING if before in ENDED else before), "a retry does not resume what is paused"
        self.canceled, self.ended_as = False, None


def test_the_model_knows_every_state_and_command() -> None:
    assert set(JobState) == GOING | ENDED
    assert set(Command) == {*STEERING, *RETRIES, Command.SET_PRIORITY}


TestJobMachine = JobMachine.TestCase
TestJobMachine.settings = hypothesis_settings(max_examples=150, stateful_step_count=40, deadline=None)
