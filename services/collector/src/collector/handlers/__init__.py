"""One handler per stage: they translate items into readings and decisions, and decisions into messages."""

from .collect import CollectHandler
from .desk import Desk
from .plan import PlanHandler
from .sync import SyncHandler

__all__ = ["CollectHandler", "Desk", "PlanHandler", "SyncHandler"]
