"""The states of a job and how they follow from one another. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from common.contracts.names import Command, ItemState, JobState, Stage
from console.errors import InvalidRequest, Refused
from console.ports import Wish

StageCounts = Mapping[Stage, Mapping[ItemState, int]]
"""Items per stage and state."""

RETRIES = frozenset({Command.RETRY_ITEM, Command.FORCE_RETRY_ITEM, Command.RETRY_FAILED})
"""Commands that reopen a job that has ended."""
UNENDED = frozenset(state for state in JobState if not state.ended)


def after_command(state: JobState, command: Command) -> JobState:
    """The state that ``command`` leads to; the same state where it asks for what is so already.

    Raises :class:`Refused` when the job has ended and cannot follow it. A retry reopens an ended job.
    """
    if command in RETRIES:
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
    if command is Command.SET_PRIORITY:
        return state
    if command is Command.PAUSE:
        return state if state in {JobState.PAUSED, JobState.PAUSE_REQUESTED} else JobState.PAUSE_REQUESTED
    return JobState.RUNNING


def check_wish(wish: Wish) -> None:
    """Raise :class:`InvalidRequest` for a command without what it needs, or with what it does not take."""
    of_item = wish.command in {Command.RETRY_ITEM, Command.FORCE_RETRY_ITEM}
    if of_item and wish.item_id is None:
        raise InvalidRequest(f"{wish.command} needs target_item_id, the number of the item.", code="item-missing")
    if wish.command is Command.SET_PRIORITY and wish.priority is None:
        raise InvalidRequest("set_priority needs priority, from -3 to 3.", code="priority-missing")
    if wish.item_id is not None and not of_item:
        raise InvalidRequest(f"{wish.command} takes no target_item_id.", code="item-not-taken")
    if wish.error_code is not None and wish.command is not Command.RETRY_FAILED:
        raise InvalidRequest(f"{wish.command} takes no error_code.", code="error-code-not-taken")
    if wish.priority is not None and wish.command is not Command.SET_PRIORITY:
        raise InvalidRequest(f"{wish.command} takes no priority.", code="priority-not-taken")


def check_retry(state: ItemState, *, force: bool, set_aside: bool = False) -> None:
    """Raise :class:`Refused` when an item in ``state`` cannot be asked for again.

    One that is ``set_aside`` until a time may be done now.
    """
    if not state.ended:
        if force or set_aside:
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
