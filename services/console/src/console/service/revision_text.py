"""An env file as people are shown it: secrets masked, and put back when a version is applied. Pure."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dotenv.parser import parse_stream

from common.redaction import MASK, Redaction
from common.setting_names import SECRET_NAMES

_SECRET = re.compile(r"(?:PASSWORD|PASSPHRASE|SECRET|TOKEN|CREDENTIAL|ACCESS_KEY|API_KEY)")
_ASSIGNMENT = re.compile(r"\s*#+\s*(?:export\s+)?[\"']?(?P<name>[A-Za-z][A-Za-z0-9_]*)[\"']?\s*=(?P<value>[^\n]*)")
_LISTS = frozenset({"FEEDS", "NATS_URL"})
"""Settings that hold several addresses, separated by commas: each is masked, and put back, by itself."""
_LONG = 8
"""A secret is masked wherever it stands, if it is so long: a shorter one may be part of an ordinary word."""


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A piece of the file. ``name`` is empty for comments and blank lines, and None for what is neither."""

    raw: str
    line: int
    name: str | None = ""
    head: str = ""
    """Up to and with the ``=``."""
    value: str = ""
    """After it, as it is written, without the end of the line."""

    @property
    def rest(self) -> str:
        return self.raw[len(self.head) :]


def is_secret(name: str) -> bool:
    """Whether a setting's value is shown to nobody."""
    name = name.upper()
    return name in SECRET_NAMES or (bool(_SECRET.search(name)) and not name.endswith("_FILE"))


def masked(text: str, *, secrets: Iterable[str] = ()) -> str:
    """``text`` without its secrets, and without ``secrets`` wherever they stand."""
    parts = list(_parts(text))
    redact = _redaction(parts, secrets)
    return "".join(_masked(part, redact) for part in parts)


def digest(text: str) -> str:
    """The name of a masked text."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def new_secrets(text: str) -> list[str]:
    """What a version must not bring with it: secrets that are not masked, by line."""
    problems = []
    redact = Redaction(())
    for part in _parts(text):
        if not part.name or not part.value:
            continue
        if (is_secret(part.name) and part.value != MASK) or _redacted(part.name, part.value, redact) != part.value:
            problems.append(
                f"line {part.line}: {part.name} would bring a secret into the versions: write {MASK} to keep "
                "the one in the file, and set a new one in the file itself"
            )
    return problems


def restored(text: str, *, current: str, secrets: Iterable[str] = ()) -> tuple[str, list[str]]:
    """A masked ``text`` with the secrets of the ``current`` file, and what cannot be put back, by line.

    A secret that only the current file has is kept; a masked one that it does not have is left out.
    """
    there = list(_parts(current))
    redact = _redaction(there, secrets)
    by_name = {part.name.upper(): part for part in there if part.name}
    comments = {_masked(part, redact).strip(): part.raw.strip() for part in there if part.name == ""}
    made: list[str] = []
    problems: list[str] = []
    named: set[str] = set()
    for part in _parts(text):
        name = (part.name or "").upper()
        named.add(name)
        known = by_name.get(name)
        if MASK not in part.raw:
            made.append(part.raw)
        elif not name:
            body = part.raw.strip()
            made.append(part.raw.replace(body, comments.get(body, body)))
        elif is_secret(name):
            value = known.value if known else ""
            made.append(f"{part.head}{value}{_end(part.raw)}" if value else f"#{name}={_end(part.raw)}")
        else:
            value, whole = _with_secrets(name, part.value, known.value if known else "", redact)
            if not whole:
                problems.append(
                    f"line {part.line}: the secret in {part.name} is not in the file any more: write that line into "
                    "the file itself"
                )
            made.append(f"{part.head}{value}{_end(part.raw)}")
    kept = [part for name, part in by_name.items() if is_secret(name) and part.value and name not in named]
    if kept and made and not made[-1].endswith("\n"):
        made.append("\n")
    made += [f"{part.head.lstrip()}{part.value}\n" for part in kept]
    return "".join(made), problems


def _parts(text: str) -> Iterator[_Part]:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    for binding in parse_stream(io.StringIO(text)):
        raw = binding.original.string
        line = binding.original.line + raw[: len(raw) - len(raw.lstrip())].count("\n")
        if binding.error:
            yield _Part(raw=raw, line=line, name=None)
        elif binding.key is None:
            yield _Part(raw=raw, line=line)
        else:
            head, sign, value = raw.partition("=")
            yield _Part(raw=raw, line=line, name=binding.key, head=head + sign, value=value.strip())


def _redaction(parts: Iterable[_Part], secrets: Iterable[str]) -> Redaction:
    own = {part.value.strip("\"'") for part in parts if part.name and is_secret(part.name)}
    return Redaction({secret for secret in own | set(secrets) if len(secret) >= _LONG and secret != MASK})


def _masked(part: _Part, redact: Redaction) -> str:
    if part.name is None:
        # Perhaps a secret that was pasted onto a line of its own.
        body = part.raw.strip()
        return part.raw.replace(body, MASK) if body else part.raw
    if not part.name:
        found = _ASSIGNMENT.match(part.raw)
        if found and is_secret(found["name"]) and found["value"].strip():
            return redact(part.raw[: found.start("value")]) + MASK + part.raw[found.end("value") :]
        return redact(part.raw)
    if is_secret(part.name) and part.value:
        return f"{part.head}{MASK}{_end(part.raw)}"
    return f"{part.head}{part.rest.replace(part.value, _redacted(part.name, part.value, redact))}"


def _split(name: str, value: str) -> list[str]:
    return value.split(",") if name.upper() in _LISTS else [value]


def _redacted(name: str, value: str, redact: Redaction) -> str:
    return ",".join(redact(one) for one in _split(name, value))


def _with_secrets(name: str, value: str, current: str, redact: Redaction) -> tuple[str, bool]:
    """Each address of a value that is masked, as the current file has it; whether all were found."""
    there = {redact(part).strip(" \"'"): part.strip(" \"'") for part in _split(name, current)}
    whole = True
    parts = []
    for part in _split(name, value):
        body = part.strip(" \"'")
        if MASK in body:
            whole = whole and body in there
            part = part.replace(body, there.get(body, body))
        parts.append(part)
    return ",".join(parts), whole


def _end(raw: str) -> str:
    return "\n" if raw.endswith("\n") else ""
