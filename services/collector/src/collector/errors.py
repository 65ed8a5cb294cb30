"""What can go wrong in the collector alone."""

from __future__ import annotations

from common.errors import DependencyDown, PermanentError


class IdCollision(PermanentError):
    """Two remote ids have the same derived id; the second one cannot be taken in."""

    code = "id-collision"


class RecordBehind(DependencyDown):
    """The record of what is known and stored has not caught up with the bus."""

    code = "record-behind"


class RecordUnwritable(RecordBehind):
    """The record cannot be written now: the disk is full, or fails."""

    code = "record-unwritable"
