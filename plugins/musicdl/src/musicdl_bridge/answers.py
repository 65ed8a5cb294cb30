"""What the worker answers: checked and cleaned, and believed no further than that."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from common.errors import MusicCloudError, PermanentError, TransientError
from sources.api.fields import Answer, Count, Ext, Flag, Id, Name, Seconds, Text, Url, licence_of, take
from sources.api.source import MAX_SONGS
from sources.paths import LOSSLESS_EXTENSIONS
from sources.port import Found, HttpCandidate

from .clients import Client

NOTHING = "NULL"
"""How the library writes that it does not know."""
_HEADERS = {"user-agent": "User-Agent", "referer": "Referer", "origin": "Origin"}
_COOKIE = re.compile(r"[!#-+\--:<-\[\]-~]{1,4096}")


def _known(value: object) -> object:
    return None if value == NOTHING else value


def _texts(value: object) -> object:
    return value if isinstance(value, dict) else {}


Nullable = BeforeValidator(_known)
Texts = Annotated[dict[Any, Any], BeforeValidator(_texts)]


class Told(Answer):
    """One song, as the worker describes it."""

    identifier: Annotated[Id, Nullable]
    song_name: Annotated[Name, Nullable]
    singers: Annotated[Text, Nullable] = None
    album: Annotated[Text, Nullable] = None
    ext: Annotated[Ext, Nullable] = None
    file_size_bytes: Count = None
    duration_s: Seconds = None
    download_url: Url = None
    protocol: Text = None
    contents: Flag = False
    headers: Texts = Field(default_factory=dict)
    cookies: Texts = Field(default_factory=dict)
    licence: Text = None
    licence_url: Url = None
    is_downloadable: bool | None = None


class ClientAnswer(Answer):
    """What one client answers."""

    songs: list[Any] = Field(default_factory=list)
    total: Count = None
    name: Text = None
    error: Text = None
    kind: Text = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """A song, and where its bytes are."""

    found: Found
    candidate: HttpCandidate


@dataclass(frozen=True, kw_only=True)
class Listed:
    """What a client found. None stands for a song that cannot be taken; ``refused``: malformed ones."""

    results: tuple[Result | None, ...] = ()
    refused: int = 0
    left_out: int = 0
    name: str | None = None


def listed(client: Client, answer: object, *, source: str) -> Listed:
    """The answer of one client. Raises the error that it stands for, or :class:`PermanentError` for no answer."""
    try:
        told = ClientAnswer.model_validate(answer)
        songs = take(Told, told.songs, limit=MAX_SONGS)
    except (ValidationError, RecursionError, PermanentError):
        raise PermanentError(
            f"The musicdl library answers for {client.title} with something unreadable.",
            code="musicdl-answer-malformed",
        ) from None
    if told.error is not None:
        raise _error(client, told.error, told.kind)
    return Listed(
        results=tuple(_result(client, song, source) for song in songs.entries),
        refused=songs.refused + songs.cut,
        left_out=max(0, (told.total or 0) - len(told.songs)),
        name=told.name,
    )


def _result(client: Client, song: Told, source: str) -> Result | None:
    """None for what is no plain file behind an address: the library is never asked to fetch bytes itself."""
    if song.download_url is None or song.ext is None or song.contents or (song.protocol or "").upper() != "HTTP":
        return None
    if client.asks_leave and song.is_downloadable is not True:
        return None
    singers = (song.singers or "").split(client.joined) if client.joined else [song.singers or ""]
    found = Found(
        source=source,
        remote_id=remote_id(client, song.identifier, source=source),
        name=song.song_name,
        singers=tuple(dict.fromkeys(name.strip() for name in singers[:50] if name.strip())),
        album=song.album,
        duration_seconds=song.duration_s,
        ext=song.ext,
        size=song.file_size_bytes,
        lossless=song.ext in LOSSLESS_EXTENSIONS,
        licence=licence_of(song.licence_url, song.licence),
        metadata={"found_by": f"musicdl, {client.title}"},
    )
    candidate = HttpCandidate(source=source, url=song.download_url, headers=_headers(song))
    return Result(found=found, candidate=candidate)


def remote_id(client: Client, identifier: str, *, source: str) -> str:
    """The service's own id; where a source has several services, with the client's name before it."""
    return identifier if source == client.name else f"{client.name}/{identifier}"


def _headers(song: Told) -> Mapping[str, str]:
    headers = {}
    for written, value in song.headers.items():
        name = _HEADERS.get(str(written).lower())
        if name is not None and isinstance(value, str) and 0 < len(value) <= 1000 and _is_header(value):
            headers[name] = value
    pairs = [
        f"{name}={value}"
        for name, value in song.cookies.items()
        if isinstance(name, str) and isinstance(value, str) and _COOKIE.fullmatch(name) and _COOKIE.fullmatch(value)
    ]
    if pairs and len(cookie := "; ".join(pairs)) <= 4096:
        headers["Cookie"] = cookie
    return headers


def _is_header(value: str) -> bool:
    return value.isascii() and value.isprintable()


def _error(client: Client, error: str, kind: str | None) -> MusicCloudError:
    sentences = {
        "network": f"{client.title} cannot be reached, or does not answer.",
        "refused": f"{client.title} refuses what the musicdl library asks.",
        "unreadable": f"{client.title} answers with something that the musicdl library cannot read.",
        "late": f"{client.title} did not answer in time.",
        "memory": "The musicdl library needs more memory than PLUGIN_MUSICDL_MEMORY_MIB.",
        "unknown-client": f"This version of the musicdl library does not have {client.title}.",
        "not-offered": f"The musicdl library does not read lists of {client.title}.",
    }
    known = error if error in sentences else "failed"
    sentence = sentences.get(error, f"The musicdl library fails at {client.title} ({kind or 'it does not say why'}).")
    if known in ("memory", "not-offered", "unknown-client"):
        return PermanentError(sentence, code=f"musicdl-{known}")
    return TransientError(sentence, code=f"musicdl-{known}")
