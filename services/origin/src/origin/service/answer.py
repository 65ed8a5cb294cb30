"""Which part of a file answers a request, and with which headers (RFC 9110)."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from urllib.parse import quote

from common.storage.content_types import content_type
from origin.ports import FileFacts

Headers = list[tuple[bytes, bytes]]

_RANGE = re.compile(r"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE | re.ASCII)
_NOT_PLAIN = re.compile(r"[^ !#$&+\-.0-9A-Z^_`a-z{}~()\[\],;=@\']")


@dataclass(frozen=True, slots=True)
class Answer:
    """What to send: ``length`` bytes from ``start``."""

    status: int
    headers: Headers
    start: int
    length: int


def answer(method: str, asked: Mapping[bytes, bytes], facts: FileFacts, locator: str) -> Answer:
    """The answer to a GET or HEAD with the headers ``asked`` (names in lower case)."""
    file = _describe(facts, locator)
    tag, modified = file.tag, file.modified
    if _not_modified(asked, tag, facts):
        return Answer(304, list(file.validators), 0, 0)
    headers: Headers = [*file.validators, *file.content]
    status, start, length = 200, 0, facts.size
    wanted = asked.get(b"range")
    if wanted is not None and method == "GET" and _range_applies(asked, tag, modified):
        found = byte_range(wanted.decode("latin-1"), facts.size)
        if found is not None:
            start, length = found
            if length == 0:
                nothing = [(b"content-range", b"bytes */%d" % facts.size), (b"content-length", b"0")]
                return Answer(416, [*file.validators, *nothing], 0, 0)
            headers.append((b"content-range", b"bytes %d-%d/%d" % (start, start + length - 1, facts.size)))
            status = 206
    headers.append((b"content-length", b"%d" % length))
    return Answer(status, headers, start, length)


@dataclass(frozen=True, slots=True)
class _Description:
    """What is the same in every answer about a file as long as it does not change."""

    tag: str
    modified: str
    validators: tuple[tuple[bytes, bytes], ...]
    content: tuple[tuple[bytes, bytes], ...]


@functools.lru_cache(4096)
def _describe(facts: FileFacts, locator: str) -> _Description:
    tag, modified = etag(facts), formatdate(facts.modified_ns // 1_000_000_000, usegmt=True)
    return _Description(
        tag=tag,
        modified=modified,
        validators=(
            (b"etag", tag.encode()),
            (b"last-modified", modified.encode()),
            (b"cache-control", b"private"),
            (b"accept-ranges", b"bytes"),
            (b"x-content-type-options", b"nosniff"),
        ),
        content=(
            (b"content-disposition", disposition(locator)),
            (b"content-type", content_type(locator).encode()),
        ),
    )


def byte_range(text: str, size: int) -> tuple[int, int] | None:
    """Start and length of the one range asked for; length 0: outside the file; None: send the whole file.

    Several ranges, other units and what is not well formed are answered with the whole file, as the RFC allows.
    """
    match = _RANGE.fullmatch(text)
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        if not last:
            return None
        length = min(int(last), size)
        return size - length, length
    start = int(first)
    if last and int(last) < start:
        return None
    end = min(int(last), size - 1) if last else size - 1
    return (start, end - start + 1) if start < size else (0, 0)


def etag(facts: FileFacts) -> str:
    """A strong tag: another content under this name has another one. Tells nothing about the machine."""
    text = f"{facts.size}-{facts.modified_ns}-{facts.number}".encode()
    return f'"{hashlib.blake2b(text, digest_size=12).hexdigest()}"'


def disposition(locator: str) -> bytes:
    """The file's own name, without its folders, in ASCII and in UTF-8 (RFC 6266, RFC 5987)."""
    name = locator.rpartition("/")[2]
    plain = _NOT_PLAIN.sub("_", name)
    if plain == name:
        return f'inline; filename="{plain}"'.encode()
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}".encode()


def _not_modified(asked: Mapping[bytes, bytes], tag: str, facts: FileFacts) -> bool:
    tags = asked.get(b"if-none-match")
    if tags is not None:
        known = {one.strip().removeprefix("W/") for one in tags.decode("latin-1").split(",")}
        return tag in known or known == {"*"}
    since = asked.get(b"if-modified-since")
    if since is None:
        return False
    try:
        moment = parsedate_to_datetime(since.decode("latin-1")).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return False
    return facts.modified_ns // 1_000_000_000 <= moment


def _range_applies(asked: Mapping[bytes, bytes], tag: str, modified: str) -> bool:
    """If-Range: the range counts only for the very file that the client has a part of."""
    condition = asked.get(b"if-range")
    return condition is None or condition.decode("latin-1").strip() in (tag, modified)
