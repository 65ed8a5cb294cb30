"""``ops.db``: the console's own truth about jobs, and what STATUS tells of their items."""

from console.adapters.ledger.database import Database
from console.adapters.ledger.items import ItemStore
from console.adapters.ledger.journal import JournalStore
from console.adapters.ledger.prune import Pruner
from console.adapters.ledger.revisions import RevisionStore
from console.adapters.ledger.runs import RunStore
from console.adapters.ledger.schedules import ScheduleStore
from console.adapters.ledger.sessions import SessionStore

__all__ = [
    "Database",
    "ItemStore",
    "JournalStore",
    "Pruner",
    "RevisionStore",
    "RunStore",
    "ScheduleStore",
    "SessionStore",
]
