"""From a message of CATALOG to the row of its fact. Everything on the bus may be wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json

from common.catalog import ids
from common.contracts.envelope import Envelope, UndecodableMessage, decode
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
from exporter.service import fact_tables as tables

_MAX_INTEGER = 2**63 - 1
"""What a column of the database holds; a larger number from a source must not stop the rest."""
UNREADABLE = "undecodable"

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A message that is not one of ours, and why."""

    subject: str
    sequence: int
    payload: bytes
    reason: str


def read_fact(subject: str, payload: bytes) -> Fact:
    """The fact that a message of CATALOG holds. Raises UndecodableMessage with a reason."""
    model = _MODELS.get(".".join(subject.split(".", 2)[:2]))
    if model is None:
        raise UndecodableMessage(f"no fact has a subject like {subject[:100]!r}; upgrade this service")
    fact_type, envelope_type = model
    try:
        envelope = envelope_type.model_validate_json(payload)
    except ValidationError:
        envelope = None
    if envelope is None or envelope.type != fact_type.TYPE or envelope.version != fact_type.VERSION:
        envelope = decode(payload, fact_type)
    fact: Fact = envelope.data
    if fact.subject != subject:
        raise UndecodableMessage(f"the message speaks of {fact.subject[:100]!r}, but that is not its subject")
    return fact


def fact_row(fact: Fact, sequence: int) -> Row:
    """The fact as a row of its table. Raises UndecodableMessage where a value cannot be stored."""
    try:
        row = _ROWS[type(fact)](fact, (fact.revision, sequence, fact.removed))
    except ValueError as error:
        raise UndecodableMessage(f"a value cannot be stored: {error}") from None
    for value in row:
        if type(value) is int and not -_MAX_INTEGER <= value <= _MAX_INTEGER:
            raise UndecodableMessage("a number is too large to be stored")
    return row


def _json(value: Any) -> str:
    # Infinity, which JSON has no word for, becomes null.
    return to_json(value).decode()


def _object(value: dict[str, Any]) -> str | None:
    return _json(value) if value else None


def _text(value: str | None) -> str | None:
    """Readers in other languages end a text at NUL, so none is kept."""
    if not value:
        return None
    return value.replace("\0", "") if "\0" in value else value


def _names(values: tuple[str, ...]) -> str | None:
    return _text(", ".join(values)) if values else None


def _taken_apart(values: tuple[str, ...]) -> str | None:
    """The names as JSON if joining them loses where one ends ("Earth, Wind & Fire"): a reseed needs them."""
    return None if tuple((_names(values) or "").split(", ")) == (values or ("",)) else _json(values)


def _song_listed(fact: SongListed, version: Row) -> Row:
    return (
        fact.song_id,
        *version,
        fact.platform,
        _text(fact.remote_id) or "",
        _text(fact.name) or "",
        _names(fact.singers),
        _text(fact.album),
        fact.duration_seconds,
        _text(fact.ext),
        fact.size,
        _text(fact.fingerprint),
        fact.metadata_status,
        _object(fact.metadata),
        _taken_apart(fact.singers),
    )


def _song_described(fact: SongDescribed, version: Row) -> Row:
    return (
        fact.song_id,
        *version,
        _text(fact.name),
        _names(fact.singers),
        _text(fact.album),
        _object(fact.metadata),
        _taken_apart(fact.singers),
    )


def _song_pinned(fact: SongPinned, version: Row) -> Row:
    choice = fact.model_dump(include={"match_source", "match_remote_id", "banned", "by"}, exclude_defaults=True)
    return (fact.song_id, *version, _text(fact.name), _names(fact.singers), _object(choice), _taken_apart(fact.singers))


def _file_stored(fact: FileStored, version: Row) -> Row:
    origin = {
        "import_mode": fact.import_mode,
        "candidate_source": fact.candidate_source,
        "listing_fingerprint": fact.listing_fingerprint,
    }
    format = {
        "bitrate": fact.format.bitrate,
        "channels": fact.format.channels,
        "codec": fact.format.codec,
        "duration_seconds": fact.format.duration_seconds,
        "lossless": fact.format.lossless,
        "mime": fact.format.mime,
        "sample_rate": fact.format.sample_rate,
    }
    return (
        fact.backend,
        fact.song_id,
        fact.variant,
        *version,
        fact.backend_kind.value,
        fact.asset_id,
        ids.location_id(fact.asset_id, fact.backend) if fact.location_id is None else fact.location_id,
        _text(fact.locator) or "",
        fact.sha256,
        fact.size,
        _text(fact.quality_label),
        _text(fact.format.ext) or "",
        _text(fact.tags.title),
        _names(fact.tags.artists),
        _text(fact.tags.album),
        _json({key: value for key, value in format.items() if value is not None}),
        _json({key: value for key, value in origin.items() if value is not None}),
        _taken_apart(fact.tags.artists),
    )


def _playlist_collected(fact: PlaylistCollected, version: Row) -> Row:
    header = fact.header
    if fact.page == 0 and header is None and not fact.removed:
        raise ValueError("page 0 of a playlist has no header")
    if any(position > _MAX_INTEGER or position < 0 for position, _ in fact.entries):
        raise ValueError("a position is out of range")
    words: Row = (None,) * 8
    if header is not None:
        words = (
            _text(header.name) or "",
            _text(header.description),
            _text(header.cover_url),
            header.play_count,
            _text(header.url),
            header.song_count,
            header.upstream,
            _text(header.notice),
        )
    return (
        fact.playlist_id,
        fact.platform,
        fact.page,
        *version,
        _text(fact.remote_id) or "",
        fact.version,
        fact.pages,
        *words,
        _text(fact.fingerprint),
        _json(fact.entries),
    )


def _pool_defined(fact: PoolDefined, version: Row) -> Row:
    return (
        fact.pool_id,
        *version,
        fact.platform,
        _text(fact.pool_kind) or "",
        _text(fact.external_id) or "",
        _text(fact.name) or "",
        _text(fact.url),
        _object(fact.metadata),
        _json(fact.playlist_ids),
    )


def _backend_defined(fact: BackendDefined, version: Row) -> Row:
    return (fact.backend, *version, fact.kind.value, _text(fact.public_base_url), fact.read_only, fact.backend_id)


_MODELS: dict[str, tuple[type[Fact], Any]] = {fact.TYPE: (fact, Envelope[fact]) for fact in FACTS}  # type: ignore[valid-type]

_ROWS: dict[type[Fact], Callable[[Any, Row], Row]] = {
    SongListed: _song_listed,
    SongDescribed: _song_described,
    SongPinned: _song_pinned,
    FileStored: _file_stored,
    PlaylistCollected: _playlist_collected,
    PoolDefined: _pool_defined,
    BackendDefined: _backend_defined,
}

TABLES = {
    SongListed: tables.songs_listed,
    SongDescribed: tables.songs_described,
    SongPinned: tables.songs_pinned,
    FileStored: tables.files,
    PlaylistCollected: tables.playlist_pages,
    PoolDefined: tables.pools,
    BackendDefined: tables.backends,
}
"""Where the facts of each type are kept. Our own announcements say nothing of the catalog's rows."""
IGNORED: tuple[type[Fact], ...] = (SnapshotPublished,)
