"""Where a song is filed: the layout template. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter

from common.contracts.work import SongDownload
from common.errors import ConfigurationError
from downloader.service.naming import MAX_COMPONENT_BYTES, clean, shorten

DEFAULT_LAYOUT = "{platform}/{first_singer}/{singers} - {name}.{ext}"
FIELDS = ("platform", "first_singer", "singers", "name", "album", "ext", "song_id")
UNKNOWN_SINGER = "Unknown Artist"
UNKNOWN_ALBUM = "Unknown Album"
MAX_FOLDERS = 8
"""Deeper layouts could exceed the length of a path (4096 bytes) with names of full length."""
_SUFFIX_BYTES = len(" [9007199254740991]")

Piece = tuple[str, str | None]
"""A literal, and the field that follows it."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A parsed template: folders, then the file's name without its extension."""

    folders: tuple[tuple[Piece, ...], ...]
    stem: tuple[Piece, ...]

    def targets(self, song: SongDownload, *, ext: str) -> tuple[str, str]:
        """The locators that a song may have: the wanted one, and one with its id where that is taken."""
        values = _values(song, ext)
        folders = [_fit(piece, values, MAX_COMPONENT_BYTES) for piece in self.folders]
        tail = f".{ext}"
        stem = _fit(self.stem, values, MAX_COMPONENT_BYTES - len(tail) - _SUFFIX_BYTES)
        plain, with_id = f"{stem}{tail}", f"{stem} [{song.song_id}]{tail}"
        return "/".join([*folders, plain]), "/".join([*folders, with_id])


def parse_layout(template: str) -> Layout:
    """Parse ``DOWNLOAD_LAYOUT``. Raises :class:`ConfigurationError` that says what is wrong with it."""
    try:
        components = [_pieces(component) for component in template.split("/")]
    except ValueError as error:
        raise _wrong(f"it cannot be read ({error})") from None
    if "\\" in template or "\0" in template:
        raise _wrong("folders are separated by /, and it may hold no backslash")
    if any(not component for component in components):
        raise _wrong("it is relative to the library, and has no empty part")
    if len(components) > MAX_FOLDERS + 1:
        raise _wrong(f"it has more than {MAX_FOLDERS} folders")
    for component, text in zip(components, template.split("/"), strict=True):
        if text.startswith("."):
            raise _wrong("no part of it may begin with a dot")
        for _, name in component:
            if name is not None and name not in FIELDS:
                raise _wrong(f"it has no field {{{name}}}; there are: {', '.join(FIELDS)}")
    last = components[-1]
    if last[-1] != (".", "ext") or sum(name == "ext" for part in components for _, name in part) != 1:
        raise _wrong("it must end in .{ext}, and have {ext} only there")
    if not {name for _, name in last} & {"name", "song_id"}:
        raise _wrong("its last part needs {name} or {song_id}, or all songs of a folder would have one name")
    return Layout(folders=tuple(components[:-1]), stem=last[:-1])


def _pieces(component: str) -> tuple[Piece, ...]:
    pieces: list[Piece] = []
    for literal, name, spec, conversion in Formatter().parse(component):
        if name is not None and (spec or conversion):
            raise ValueError("a field takes no format")
        if name is not None and name != "ext" and literal == "." and not pieces:
            raise ValueError("a part begins with a dot")
        # The dot before {ext} stands alone, so that it can be told from the stem.
        if name == "ext" and literal.endswith(".") and literal != ".":
            pieces.append((literal[:-1], None))
            literal = "."
        pieces.append((literal, name))
    return tuple(pieces)


def _values(song: SongDownload, ext: str) -> Mapping[str, str]:
    singers = [singer for singer in song.singers if singer.strip()]
    return {
        "platform": song.source,
        "first_singer": clean(singers[0] if singers else UNKNOWN_SINGER),
        "singers": clean(", ".join(singers) if singers else UNKNOWN_SINGER),
        "name": clean(song.name),
        "album": clean(song.album or UNKNOWN_ALBUM),
        "ext": ext,
        "song_id": str(song.song_id),
    }


def _fit(pieces: tuple[Piece, ...], values: Mapping[str, str], limit: int) -> str:
    """The component in at most ``limit`` bytes; the longest fields give way first, so that none is lost."""
    fields = [values[name] if name else "" for _, name in pieces]
    fixed = sum(len(literal.encode()) for literal, _ in pieces)
    room = max(0, limit - fixed)
    if sum(len(field.encode()) for field in fields) <= room:
        return shorten(
            clean("".join(literal + field for (literal, _), field in zip(pieces, fields, strict=True))), limit
        )
    cap = _cap([len(field.encode()) for field in fields], room)
    short = [shorten(field, cap) for field in fields]
    whole = "".join(literal + field for (literal, _), field in zip(pieces, short, strict=True))
    return shorten(clean(whole), limit)


def _cap(sizes: list[int], room: int) -> int:
    """The greatest size to which every field can be cut so that all fit into ``room``."""
    low, high = 0, max([*sizes, 0])
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(size, middle) for size in sizes) <= room:
            low = middle
        else:
            high = middle - 1
    return low


def _wrong(why: str) -> ConfigurationError:
    return ConfigurationError(f"DOWNLOAD_LAYOUT cannot be used: {why}. The default is {DEFAULT_LAYOUT}")
