"""An item of the archive: its metadata, and which of its files are songs."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from ..api.fields import Answer, Count, Flag, Seconds, Text, Texts, licence_of
from ..paths import AUDIO_EXTENSIONS, LOSSLESS_EXTENSIONS, extension
from ..playlists.model import clean_text
from ..port import Found

NAME = "internet-archive"
MAX_FILES = 20_000
_ORDER = ("flac", "wav", "aiff", "aif", "mp3", "m4a", "ogg", "opus")
"""Of the forms of one track, best first; what is not listed comes last."""


def _first(value: object) -> object:
    """The archive gives one text or a list of them, as its uploader wrote it."""
    return value[0] if isinstance(value, list) and value else value


FirstText = Annotated[Text, BeforeValidator(lambda value: clean_text(_first(value)))]


class ItemMetadata(Answer):
    title: FirstText = None
    creator: Texts = ()
    date: FirstText = None
    licenseurl: FirstText = None
    mediatype: FirstText = None
    description: FirstText = None
    access_restricted: Flag = Field(default=False, alias="access-restricted-item")


class ItemFile(Answer):
    name: str = Field(min_length=1, max_length=1000)
    source: Text = None
    original: str | list[Any] | None = None
    title: FirstText = None
    creator: Texts = ()
    artist: Texts = ()
    album: FirstText = None
    track: FirstText = None
    length: Seconds = None
    size: Count = None
    private: Flag = False


class Item(Answer):
    """The answer of the metadata API; an empty object stands for an item that does not exist."""

    metadata: ItemMetadata | None = None
    files: list[Any] = Field(default_factory=list)
    is_dark: Flag = False


@dataclass(frozen=True, kw_only=True)
class Track:
    """One track of an item. ``original`` names it for good; ``file`` is the best of its forms."""

    identifier: str
    original: str
    file: ItemFile
    about: ItemFile
    """the file whose tags tell most"""
    item: ItemMetadata

    @property
    def remote_id(self) -> str:
        return f"{self.identifier}/{self.original}"


def tracks_of(identifier: str, item: Item, files: tuple[ItemFile, ...]) -> Iterator[Track]:
    """The tracks of an item in the order of its files, each once. None where it may not be downloaded."""
    if item.metadata is None or item.metadata.access_restricted or item.is_dark:
        return
    forms: dict[str, list[ItemFile]] = {}
    for file in files:
        if extension(file.name) in AUDIO_EXTENSIONS and not file.private and is_plain(file.name):
            original = file.original if isinstance(file.original, str) and file.source == "derivative" else file.name
            forms.setdefault(original if is_plain(original) else file.name, []).append(file)
    for original, several in forms.items():
        several.sort(key=_rank)
        about = max(several, key=lambda file: (bool(file.title), bool(file.artist or file.creator), bool(file.length)))
        yield Track(identifier=identifier, original=original, file=several[0], about=about, item=item.metadata)


def is_plain(name: str) -> bool:
    """Whether a name stays below the item's folder, and can stand in an id."""
    return posixpath.normpath("/" + name) == "/" + name and name.isprintable()


def found_of(track: Track) -> Found:
    about, item = track.about, track.item
    ext = extension(track.file.name)
    extra = {"item": track.identifier, "track": about.track, "date": item.date}
    return Found(
        source=NAME,
        remote_id=track.remote_id,
        name=about.title or clean_text(posixpath.basename(track.original).rpartition(".")[0]) or track.identifier,
        singers=about.artist or about.creator or item.creator,
        album=about.album or item.title,
        duration_seconds=track.file.length or about.length,
        ext=ext,
        size=track.file.size,
        lossless=ext in LOSSLESS_EXTENSIONS,
        licence=licence_of(item.licenseurl),
        metadata={key: value for key, value in extra.items() if value is not None},
    )


def _rank(file: ItemFile) -> tuple[int, int]:
    """Lossless first; of one kind, what was uploaded before what the archive made of it."""
    ext = extension(file.name)
    return (_ORDER.index(ext) if ext in _ORDER else len(_ORDER), int(file.source != "original"))
