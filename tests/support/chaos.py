"""A random schedule of faults and commands, made from a seed: the same seed makes the same schedule."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "kill",
    "stop",
    "freeze",
    "bus",
    "pause",
    "resume",
    "cancel",
    "retry",
    "retry_failed",
    "force_retry",
    "priority",
    "job",
]

CYCLE = 15.0
"""Seconds of one deck of actions. Each deck has every kind of fault, and a short run's only one is dealt so, too."""
FROZEN_SECONDS = (0.5, 5.0)
"""Some longer than a lease, all shorter than what makes a worker lost."""


@dataclass(frozen=True, kw_only=True)
class Action:
    """One thing to do, ``at`` seconds from the start. ``pick`` chooses among the jobs, items or drafts of that moment;
    ``lasts``: seconds that a process is away, stands still, or that a job stays paused."""

    at: float
    kind: Kind
    target: str = ""
    pick: int = 0
    lasts: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind} {self.target}".strip()


def make_schedule(seed: int, seconds: float, *, processes: tuple[str, ...]) -> list[Action]:
    """The actions of a run, in order of time. ``processes``: names of the services' processes."""
    dice = random.Random(seed)
    actions: list[Action] = []
    begins = 0.0
    while begins < seconds:
        length = min(CYCLE, seconds - begins)
        deck = _deck(dice, processes)
        dice.shuffle(deck)
        deck.sort(key=_is_again())
        # What is left of a deck at the end is dealt thinner, not faster; of a run's first one, only repetitions go.
        least = 1 if actions else len({_what(one) for one in deck})
        for kind, target in deck[: max(least, round(len(deck) * length / CYCLE))]:
            at = begins + dice.uniform(0.0, length)
            actions.append(
                Action(at=at, kind=kind, target=target, pick=dice.randrange(1 << 20), lasts=_lasts(dice, kind))
            )
        begins += length
    return sorted(actions, key=lambda action: action.at)


def _deck(dice: random.Random, processes: tuple[str, ...]) -> list[tuple[Kind, str]]:
    workers = [name for name in processes if name.startswith("downloader")]
    deck: list[tuple[Kind, str]] = [("kill", name) for name in processes if name != "console"]
    deck += [("stop", dice.choice(processes)), ("stop", dice.choice(workers))]
    deck += [("freeze", dice.choice(workers)), ("bus", "nats-server")]
    deck += [("pause", ""), ("pause", ""), ("pause", ""), ("pause", "console"), ("resume", ""), ("priority", "")]
    deck += [("cancel", dice.choice(["", dice.choice(workers)]))]
    deck += [("retry", ""), ("retry_failed", ""), ("force_retry", ""), ("job", "")]
    return deck


def _what(one: tuple[Kind, str]) -> tuple[str, str]:
    """What must be seen: each process killed (the console while a job is paused), and every other kind once."""
    kind, target = one
    return kind, target if kind == "kill" or (kind, target) == ("pause", "console") else ""


def _is_again() -> Callable[[tuple[Kind, str]], bool]:
    """Whether the same has been asked for before."""
    seen: set[tuple[str, str]] = set()

    def again(one: tuple[Kind, str]) -> bool:
        known = _what(one) in seen
        seen.add(_what(one))
        return known

    return again


def _lasts(dice: random.Random, kind: Kind) -> float:
    match kind:
        case "kill" | "stop" | "cancel":
            return dice.choice([0.0, 0.0, dice.uniform(0.2, 2.0)])
        case "freeze":
            return dice.uniform(*FROZEN_SECONDS)
        case "bus":
            return dice.uniform(0.0, 1.5)
        case "pause":
            return dice.uniform(0.5, 3.0)
        case _:
            return 0.0
