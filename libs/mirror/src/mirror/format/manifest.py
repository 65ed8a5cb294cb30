"""The manifest: what a snapshot is, in a form that can be checked and whose maker can be known."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mirror.errors import KeyFormatError, ManifestError, SignatureError
from mirror.format.digest import Content, TableDigest
from mirror.format.keys import SigningKey, decode_public_key, is_signed_by, key_id
from mirror.format.schema import SCHEMA_VERSION, TABLES

MAX_MANIFEST_BYTES = 1024 * 1024
MAX_INTEGER = 2**53 - 1
"""The largest integer of a manifest: what every JSON reader reads exactly."""
MAX_KEYS = 16

_ID = re.compile(r"sha256:[0-9a-f]{64}")
_LINEAGE = re.compile(r"[0-9a-f]{32}")
_KEY_ID = re.compile(r"[0-9a-f]{16}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")
_COUNTS = ("playlist_count", "track_count", "file_count", "cover_count")


@dataclass(frozen=True, slots=True)
class Signature:
    """``value`` is the signature itself, 64 bytes."""

    key_id: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest that holds together. ``keys`` maps key ids to public keys of 32 bytes.

    ``lineage`` and ``revision`` are None where a snapshot was made alone, without a history;
    ``signature`` where nobody signed it.
    """

    raw: dict[str, Any]
    snapshot_id: str
    generated_at: datetime
    schema_version: int
    tables: dict[str, TableDigest]
    lineage: str | None
    revision: int | None
    keys: dict[str, bytes]
    signature: Signature | None


def canonical_bytes(manifest: Mapping[str, Any]) -> bytes:
    """What is signed: the JSON without ``signature``, keys in order, no white space, UTF-8."""
    content = {key: value for key, value in manifest.items() if key != "signature"}
    _require_plain(content)
    try:
        return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ManifestError("manifest-invalid", "The manifest holds half a character.") from error


def is_snapshot_id(value: object) -> bool:
    """Whether this has the form of an id: ``sha256:`` and 64 hex digits in lower case."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def sign(manifest: Mapping[str, Any], key: SigningKey) -> dict[str, Any]:
    """A copy of the manifest with the signature of ``key``."""
    value = base64.b64encode(key.sign(canonical_bytes(manifest))).decode()
    return {**manifest, "signature": {"algorithm": "Ed25519", "key_id": key.key_id, "value": value}}


def verify(manifest: Manifest, trusted: Mapping[str, bytes]) -> str:
    """Check the signature against the public keys that are trusted; return the id of the one that signed.

    Raises SignatureError: ``manifest-unsigned``, ``key-unknown`` or ``signature-wrong``.
    """
    signature = manifest.signature
    if signature is None:
        raise SignatureError("manifest-unsigned", "The manifest is not signed.")
    public_key = trusted.get(signature.key_id)
    if public_key is None:
        raise SignatureError(
            "key-unknown", f"The manifest is signed by the key {signature.key_id}, which is not trusted here."
        )
    if key_id(public_key) != signature.key_id or not is_signed_by(
        public_key, signature.value, canonical_bytes(manifest.raw)
    ):
        raise SignatureError(
            "signature-wrong", f"The signature of the key {signature.key_id} does not fit the manifest."
        )
    return signature.key_id


def parse(data: bytes) -> Manifest:
    """Read a manifest that somebody sent. Unknown keys are kept in ``raw``. Raises ManifestError."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise _wrong("it is larger than 1 MiB")
    try:
        raw = json.loads(data.decode(), object_pairs_hook=_unique, parse_float=_no_float, parse_constant=_no_float)
    except (ValueError, RecursionError) as error:
        raise _wrong("it is not JSON in UTF-8 as the format has it") from error
    if not isinstance(raw, dict):
        raise _wrong("it is not an object")
    canonical_bytes(raw)
    version = _integer(raw, "schema_version", least=1)
    if version != SCHEMA_VERSION:
        raise ManifestError(
            "schema-version-unknown",
            f"The snapshot has schema version {version}, and this program knows {SCHEMA_VERSION}; update it.",
        )
    tables = _tables(raw.get("tables"))
    snapshot_id = raw.get("snapshot_id")
    if not isinstance(snapshot_id, str) or Content(tables).snapshot_id != snapshot_id:
        raise _wrong("its snapshot_id does not follow from its tables")
    for name in _COUNTS:
        _integer(raw, name)
    if raw.get("parent") is not None and not is_snapshot_id(raw["parent"]):
        raise _wrong("parent is not an id")
    lineage, revision = _history(raw)
    return Manifest(
        raw=raw,
        snapshot_id=snapshot_id,
        generated_at=_time(raw.get("generated_at")),
        schema_version=version,
        tables=tables,
        lineage=lineage,
        revision=revision,
        keys=_keys(raw.get("keys")),
        signature=_signature(raw.get("signature")),
    )


def _wrong(what: str) -> ManifestError:
    return ManifestError("manifest-invalid", f"The manifest is not valid: {what}.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_float(text: str) -> Any:
    raise ValueError("numbers are integers")


def _require_plain(value: Any, depth: int = 0) -> None:
    if depth > 16:
        raise _wrong("it is nested too deeply")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise _wrong("a key is not text")
            _require_plain(inner, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            _require_plain(inner, depth + 1)
    elif isinstance(value, int):
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise _wrong("an integer is too large")
    elif value is not None and not isinstance(value, str):
        raise _wrong("it holds a value that is neither text, integer, truth value nor null")


def _integer(found: Mapping[str, Any], name: str, *, least: int = 0) -> int:
    value = found.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise _wrong(f"{name} is not an integer of {least} or more")
    return value


def _tables(found: object) -> dict[str, TableDigest]:
    if not isinstance(found, dict) or set(found) != set(TABLES):
        raise _wrong("it does not list the tables of a snapshot")
    tables = {}
    for name in TABLES:
        table = found[name]
        if not isinstance(table, dict) or not is_snapshot_id(table.get("digest")):
            raise _wrong(f"the table {name} has no digest")
        tables[name] = TableDigest(
            rows=_integer(table, "rows"), size=_integer(table, "size"), digest=str(table["digest"])
        )
    return tables


def _history(raw: Mapping[str, Any]) -> tuple[str | None, int | None]:
    lineage = raw.get("lineage")
    if lineage is None:
        if raw.get("revision") is not None or raw.get("revisions") is not None:
            raise _wrong("it has a revision without a lineage")
        return None, None
    if not isinstance(lineage, str) or not _LINEAGE.fullmatch(lineage):
        raise _wrong("lineage is not 32 hex digits")
    revision = _integer(raw, "revision")
    if raw.get("revisions") is not None:
        revisions = raw["revisions"]
        if not isinstance(revisions, dict) or _integer(revisions, "first") > _integer(revisions, "last"):
            raise _wrong("revisions is not a range")
    return lineage, revision


def _time(value: object) -> datetime:
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise _wrong("generated_at is not a time in UTC such as 2026-01-31T12:00:00.000Z")
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise _wrong("generated_at is not a time") from error


def _keys(found: object) -> dict[str, bytes]:
    if found is None:
        return {}
    if not isinstance(found, list) or len(found) > MAX_KEYS:
        raise _wrong(f"keys is not a list of at most {MAX_KEYS}")
    keys = {}
    for entry in found:
        if not isinstance(entry, dict) or not isinstance(entry.get("public_key"), str):
            raise _wrong("an entry of keys has no public_key")
        try:
            public_key = decode_public_key(entry["public_key"])
        except KeyFormatError as error:
            raise _wrong("an entry of keys is not an Ed25519 public key") from error
        if entry.get("key_id") != key_id(public_key):
            raise _wrong("a key_id does not follow from its public_key")
        keys[key_id(public_key)] = public_key
    return keys


def _signature(found: object) -> Signature | None:
    if found is None:
        return None
    if not isinstance(found, dict) or found.get("algorithm") != "Ed25519":
        raise _wrong("the signature is not an Ed25519 signature")
    name, text = found.get("key_id"), found.get("value")
    if not isinstance(name, str) or not _KEY_ID.fullmatch(name) or not isinstance(text, str):
        raise _wrong("the signature has no key_id and value")
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _wrong("the signature is not base64") from error
    if len(value) != 64:
        raise _wrong("the signature does not have 64 bytes")
    return Signature(key_id=name, value=value)
