"""The states of a job and how they follow from one another. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from common.contracts.names import Command, ItemState, JobState, Stage
from console.errors import Refused

StageCounts = Mapping[Stage, Mapping[ItemState, int]]
"""Items per stage and state."""

UNENDED = frozenset(state for state in JobState if not state.ended)


def after_command(state: JobState, command: Command) -> JobState:
    """The state that ``command`` leads to; the same state where it asks for what is so already.

    Raises :class:`Refused` when the job has ended and cannot follow it. A retry reopens an ended job.
    """
    if command in {Command.RETRY_ITEM, Command.FORCE_RETRY_ITEM}:
        return JobState.RUNNING if state.ended else state
    if command is Command.CANCEL and state is JobState.CANCELED:
        return state
    if state.ended:
        raise Refused(
            f"This job has ended ({state}); it cannot {command} any more. Start a new one, or retry its failed items.",
            code="job-ended",
        )
    if command is Command.CANCEL:
        return JobState.CANCELED
    if command is Command.PAUSE:
        return state if state in {JobState.PAUSED, JobState.PAUSE_REQUESTED} else JobState.PAUSE_REQUESTED
    return JobState.RUNNING


def check_retry(state: ItemState, *, force: bool) -> None:
    """Raise :class:`Refused` when an item in ``state`` cannot be asked for again."""
    if not state.ended:
        if force:
            return
        raise Refused(f"This item has not ended ({state}); it needs no retry.", code="item-not-ended")
    if state is not ItemState.FAILED and not force:
        raise Refused(
            f"Only failed items are retried, and this one is {state}. Use force_retry_item to do it all the same.",
            code="item-not-failed",
        )


def after_recovery(state: JobState, *, pause: bool) -> JobState:
    """The state of a job that is found when the console starts."""
    if pause and state in {JobState.QUEUED, JobState.RUNNING}:
        return JobState.PAUSE_REQUESTED
    return state


def final_state(counts: StageCounts) -> JobState:
    """How a job whose stages are all complete has ended."""
    if counts.get(Stage.PLAN, {}).get(ItemState.FAILED):
        others = sum(sum(states.values()) for stage, states in counts.items() if stage is not Stage.PLAN)
        return JobState.COMPLETED_WITH_ERRORS if others else JobState.FAILED
    failed = sum(states.get(ItemState.FAILED, 0) for states in counts.values())
    return JobState.COMPLETED_WITH_ERRORS if failed else JobState.COMPLETED
