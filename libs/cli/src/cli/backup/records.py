"""A message of a stream as a line of JSON."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from cli.backup.errors import ArchiveDamaged
from common.contracts.streams import STREAMS

_DROPPED = ("nats-expected-", "nats-rollup", "nats-ttl")
"""Headers that asked the server for something when the message was published."""
_SUBJECT = re.compile(r"[!-)+-=?-~]+")
"""Printable ASCII without * and >: ours are numbers and names."""
_FIRST_TOKENS = {spec.name: tuple(subject.rstrip("*>").split("*")[0] for subject in spec.subjects) for spec in STREAMS}


@dataclass(frozen=True, slots=True)
class Record:
    """A message as its stream holds it. ``time`` in nanoseconds since 1970."""

    sequence: int
    subject: str
    time: int
    data: bytes
    headers: dict[str, str] = field(default_factory=dict)


def to_line(record: Record) -> bytes:
    """One line, with its end."""
    line: dict[str, object] = {"seq": record.sequence, "subject": record.subject, "time": record.time}
    headers = {name: value for name, value in record.headers.items() if not name.lower().startswith(_DROPPED)}
    if headers:
        line["headers"] = headers
    try:
        line["data"] = record.data.decode()
    except UnicodeDecodeError:
        line["data_base64"] = base64.b64encode(record.data).decode()
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def from_lines(content: bytes, stream: str) -> Iterator[Record]:
    """The messages of a part. Raises ArchiveDamaged for anything that is not a message of ``stream``."""
    for line in content.splitlines():
        try:
            told = json.loads(line)
            data = (
                base64.b64decode(told["data_base64"], validate=True) if "data_base64" in told else told["data"].encode()
            )
            headers = {str(name): str(value) for name, value in told.get("headers", {}).items()}
            record = Record(int(told["seq"]), str(told["subject"]), int(told["time"]), data, headers)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ArchiveDamaged(f"The backup holds a line of {stream} that cannot be read. It is not used.") from None
        if not _belongs(record.subject, stream) or not all(_is_header(*one) for one in headers.items()):
            raise ArchiveDamaged(f"The backup holds a message that does not belong into {stream}. It is not used.")
        yield record


def _belongs(subject: str, stream: str) -> bool:
    if not _SUBJECT.fullmatch(subject):
        return False
    if stream.startswith("KV_"):
        return subject.startswith(f"$KV.{stream.removeprefix('KV_')}.")
    return subject.startswith(_FIRST_TOKENS[stream])


def _is_header(name: str, value: str) -> bool:
    return name.isascii() and name.isprintable() and ":" not in name and not {"\r", "\n"} & set(value)
