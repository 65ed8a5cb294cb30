"""The one work loop that all stages share, and the planner that puts items into WORK."""

from common.work.context import Handler, ItemContext
from common.work.loop import WorkLoop
from common.work.outcome import Outcome, skipped, succeeded
from common.work.planner import Planner

__all__ = ["Handler", "ItemContext", "Outcome", "Planner", "WorkLoop", "skipped", "succeeded"]
