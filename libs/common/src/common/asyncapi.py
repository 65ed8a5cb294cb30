"""The AsyncAPI document of the bus, made from the contracts: ``python -m common.asyncapi``."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from pydantic import TypeAdapter

from common.contracts.envelope import Envelope, Message
from common.contracts.facts import (
    FACTS,
    BackendDefined,
    Fact,
    FileStored,
    PlaylistCollected,
    PoolDefined,
    SnapshotPublished,
    SongDescribed,
    SongListed,
    SongPinned,
)
from common.contracts.jobs import JobsState
from common.contracts.settings import LiveSettings
from common.contracts.status import DeadLetter, Heartbeat, ItemStatus, LogEntry
from common.contracts.streams import STREAMS
from common.contracts.work import ITEMS

_FACT_ADDRESSES: dict[type[Fact], str] = {
    PoolDefined: "pool.defined.{pool}",
    SongListed: "song.listed.{song}",
    PlaylistCollected: "playlist.collected.{platform}.{playlist}.{page}",
    FileStored: "file.stored.{backend}.{song}.{variant}",
    SongDescribed: "song.described.{song}",
    SongPinned: "song.pinned.{song}",
    BackendDefined: "backend.defined.{backend}",
    SnapshotPublished: "snapshot.published.{catalog}",
}
_PARAMETERS = {
    "pool": "pool id, below 2^53",
    "song": "song id, below 2^53",
    "playlist": "playlist id, below 2^53",
    "page": "page number; 0 comes last and completes the set",
    "platform": "name of a source",
    "backend": "name of a storage backend",
    "variant": "main unless several files of a song are kept",
    "catalog": "name of a catalog",
    "job": "job id",
    "lane": "source or backend whose limits the item obeys",
    "key": "what the item is about",
    "stage": "plan, collect, sync, download or upload",
    "service": "name of a service",
    "instance": "name of one copy of a service",
    "subject": "subject of the message that could not be handled",
}


def document() -> dict[str, Any]:
    """Every subject, envelope and payload, as AsyncAPI 3.0."""
    channels: dict[str, tuple[type[Message], str, str]] = {}
    for fact in FACTS:
        channels[fact.TYPE] = (fact, _FACT_ADDRESSES[fact], "CATALOG")
    for item in ITEMS:
        address = f"{item.TYPE}.{{job}}." + ("{stage}" if item.STAGE == "plan" else "{lane}.{key}")
        channels[item.TYPE] = (item, address, "WORK")
    channels[ItemStatus.TYPE] = (ItemStatus, "item.{job}.{stage}.{lane}.{key}", "STATUS")
    channels[LogEntry.TYPE] = (LogEntry, "log.{service}.{job}", "LOG")
    channels[DeadLetter.TYPE] = (DeadLetter, "dead.{subject}", "DEAD")
    channels[Heartbeat.TYPE] = (Heartbeat, "hb.{service}.{instance}", "core NATS")
    channels[JobsState.TYPE] = (JobsState, "$KV.JOBS.active", "KV_JOBS")
    channels[LiveSettings.TYPE] = (LiveSettings, "$KV.JOBS.settings", "KV_JOBS")

    schemas: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for model, _, _ in channels.values():
        schema = TypeAdapter(Envelope[model]).json_schema(ref_template="#/components/schemas/{model}")  # type: ignore[valid-type]
        schemas.update(schema.pop("$defs", {}))
        schema["properties"]["type"] = {"const": model.TYPE}
        schema["properties"]["version"] = {"const": model.VERSION}
        messages[model.TYPE] = {
            "name": model.TYPE,
            "title": _sentence(model),
            "contentType": "application/json",
            "payload": schema,
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Music Cloud",
            "version": "1",
            "description": "What travels on the bus. The last message of a CATALOG subject is the truth about its "
            "key; removed: true withdraws it. Unknown fields are to be ignored.",
        },
        "defaultContentType": "application/json",
        "channels": {
            name: {
                "address": address,
                "description": f"Stream {stream}." if stream.isupper() else f"On {stream}; no stream keeps it.",
                "parameters": {key: {"description": _PARAMETERS[key]} for key in re.findall(r"{(\w+)}", address)},
                "messages": {model.TYPE: {"$ref": f"#/components/messages/{model.TYPE}"}},
            }
            for name, (model, address, stream) in channels.items()
        },
        "operations": {
            f"{'receive' if stream in ('CATALOG', 'STATUS') else 'send'}.{name}": {
                "action": "receive" if stream in ("CATALOG", "STATUS") else "send",
                "channel": {"$ref": f"#/channels/{name}"},
            }
            for name, (_, _, stream) in channels.items()
        },
        "components": {"messages": messages, "schemas": schemas},
        "x-streams": [spec.model_dump(mode="json", exclude_defaults=True) for spec in STREAMS],
    }


def _sentence(model: type[Message]) -> str:
    return (model.__doc__ or model.TYPE).strip().splitlines()[0]


def text() -> str:
    """The document as it is committed."""
    return json.dumps(document(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
