"""What a handler says of an item that needs no other try."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from common.contracts.names import ItemState
from common.contracts.status import Reason


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The end of an item: done, or found done already."""

    state: ItemState
    result: dict[str, Any] = field(default_factory=dict)
    reason: Reason | None = None


def succeeded(**result: Any) -> Outcome:
    """The item was done now; ``result`` is kept with its status."""
    return Outcome(state=ItemState.SUCCEEDED, result=result)


def skipped(code: str, message: str, **result: Any) -> Outcome:
    """Nothing was to be done, and why."""
    return Outcome(state=ItemState.SKIPPED, result=result, reason=Reason(code=code, message=message))
