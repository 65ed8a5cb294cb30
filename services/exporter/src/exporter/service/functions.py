"""What the derivation computes in Python: SQL functions that depend on their arguments alone."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import from_json
from sqlalchemy import Connection

dump_json = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode
"""JSON that is the same for the same value, whatever the order in which it was put together."""

_OF_THE_FILE = ("bitrate", "codec", "duration_seconds", "lossless", "sample_rate")
"""What of a file's format is of interest to a listener."""


def register(connection: Connection) -> None:
    """Make the functions known to this connection."""
    raw: Any = connection.connection.driver_connection
    raw.create_function("song_metadata", 8, song_metadata, deterministic=True)


def song_metadata(
    listed: str | None,
    listed_album: str | None,
    listed_duration: float | None,
    status: str,
    format: str | None,
    file_album: str | None,
    described: str | None,
    described_album: str | None,
) -> str | None:
    """The song's ``metadata_json``: described over stored over listed; None when nothing is known."""
    content: dict[str, Any] = from_json(listed) if listed else {}
    if listed_album:
        content["album"] = listed_album
    if listed_duration is not None:
        content["duration_seconds"] = listed_duration
    if status != "complete":
        content["metadata_status"] = status
    if format:
        known = from_json(format)
        content.update((key, known[key]) for key in _OF_THE_FILE if key in known)
    if file_album:
        content["album"] = file_album
    if described:
        content.update(from_json(described))
    if described_album:
        content["album"] = described_album
    return dump_json(content) if content else None
