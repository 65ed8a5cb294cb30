"""From a message of CATALOG to the row of its fact. Everything on the bus may be wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
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
from exporter.service.fact_tables import Row

_MAX_INTEGER = 2**63 - 1
"""What a column of the database holds; a larger number from a source must not stop the rest."""
UNREADABLE = "undecodable"

_OF_THE_FORMAT = ("bitrate", "channels", "codec", "duration_seconds", "lossless", "mime", "sample_rate")
_OF_THE_ORIGIN = ("import_mode", "candidate_source", "listing_fingerprint")


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
    fact_type, validate_json = model
    try:
        envelope = validate_json(payload)
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


def _known(model: BaseModel, names: tuple[str, ...]) -> str:
    """Those of the model's values that are known, as JSON."""
    values = model.__dict__
    return _json({name: values[name] for name in names if values[name] is not None})


def _text(value: str | None) -> str | None:
    """Readers in other languages end a text at NUL, so none is kept."""
    if not value:
        return None
    return value.replace("\0", "") if "\0" in value else value


def _names(values: tuple[str, ...]) -> str | None:
    return _text(", ".join(values)) if values else None


def _taken_apart(values: tuple[str, ...]) -> str | None:
    """The names as JSON if joining them loses where one ends ("Earth, Wind & Fire"): a reseed needs them."""
    if not values:
        return None
    return None if tuple((_names(values) or "").split(", ")) == values else _json(values)


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
    tags = fact.tags
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
        _text(tags.title),
        _names(tags.artists),
        _text(tags.album),
        _known(fact.format, _OF_THE_FORMAT),
        _known(fact, _OF_THE_ORIGIN),
        _taken_apart(tags.artists),
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


_MODELS: dict[str, tuple[type[Fact], Callable[[bytes], Envelope[Any]]]] = {
    fact.TYPE: (fact, Envelope[fact].__pydantic_validator__.validate_json)  # type: ignore[valid-type]
    for fact in FACTS
}
"""The validators themselves: the models' methods around them cost a tenth of the whole."""

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
