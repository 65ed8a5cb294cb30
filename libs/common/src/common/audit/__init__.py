"""The audit of a service's surroundings at its start: what NAS users trip over, and what mends it."""

from common.audit.commands import ours
from common.audit.databases import read_value
from common.audit.finding import Finding, StartRefused, read_findings
from common.audit.needs import (
    Needs,
    Place,
    Port,
    library_place,
    media_place,
    snapshots_place,
    state_place,
)
from common.audit.run import RESTORE_MARKER, Audit, audited, examine, watch_clock

__all__ = [
    "RESTORE_MARKER",
    "Audit",
    "Finding",
    "Needs",
    "Place",
    "Port",
    "StartRefused",
    "audited",
    "examine",
    "library_place",
    "media_place",
    "ours",
    "read_findings",
    "read_value",
    "snapshots_place",
    "state_place",
    "watch_clock",
]
