"""The fixed consumers: who reads which stream, under which name. Only the console makes them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from .streams import CATALOG, LOG, STATUS

RESET_PREFIX = "consumer.reset"
"""A reader asks here for its consumer; its name stands in the subject, where permissions can see it."""


class Reader(BaseModel):
    """One durable pull consumer, and the service that it belongs to."""

    model_config = ConfigDict(frozen=True)

    service: str
    name: str
    stream: str
    filter: str | None = None
    acks: bool = False
    """Explicit acks, shared by all copies of the service; otherwise none: the reader's database knows its place."""

    @property
    def reset_subject(self) -> str:
        return f"{RESET_PREFIX}.{self.service}.{self.name}"


EXPORTER = Reader(service="exporter", name="exporter", stream=CATALOG)
COLLECTOR = Reader(service="collector", name="collector", stream=CATALOG)
COLLECTOR_STATUS = Reader(service="collector", name="collector-status", stream=STATUS, filter="item.*.download.>")
UPLOADER = Reader(service="uploader", name="uploader", stream=CATALOG, filter="file.stored.>", acks=True)
CONSOLE_STATUS = Reader(service="console", name="console", stream=STATUS)
CONSOLE_LOG = Reader(service="console", name="console-log", stream=LOG)

READERS = (EXPORTER, COLLECTOR, COLLECTOR_STATUS, UPLOADER, CONSOLE_STATUS, CONSOLE_LOG)
