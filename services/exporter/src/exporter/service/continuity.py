"""Whether the stream is still the one that the catalog was made from."""

from __future__ import annotations

from datetime import datetime

from common.contracts.status import Reason
from exporter.service.projection import Position

_CHOICES = (
    "The catalog and its last snapshot are left as they are. Restore the bus with `music-cloud restore`; or, without "
    "a backup, fill it from the catalog with `music-cloud reseed`; or, if the bus is right and the catalog is to "
    "follow it, run `exporter rebuild`."
)


def judge(position: Position, *, created: datetime | None, last_sequence: int) -> Reason | None:
    """None when reading may go on from ``position``; otherwise why not, and what a person can do."""
    if position.sequence == 0:
        return None
    if position.stream_created is not None and created is not None and created != position.stream_created:
        age = "younger" if created > position.stream_created else "older"
        return Reason(
            code=f"catalog-stream-{age}",
            message=f"The stream CATALOG was made at {created:%Y-%m-%d %H:%M:%S} UTC and is {age} than the one "
            f"that this catalog was read from ({position.stream_created:%Y-%m-%d %H:%M:%S} UTC). {_CHOICES}",
        )
    if last_sequence < position.sequence:
        return Reason(
            code="catalog-stream-shorter",
            message=f"The stream CATALOG ends at {last_sequence}, but this catalog holds facts up to "
            f"{position.sequence}: the bus has lost some. {_CHOICES}",
        )
    return None
