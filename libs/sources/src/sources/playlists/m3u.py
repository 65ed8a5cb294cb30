"""M3U and M3U8: a location a line, and comments that describe the next one."""

from __future__ import annotations

import re

from common.errors import PermanentError

from .model import Entry, ParsedPlaylist, Problems, check_count, clean_text, parse_seconds, usable_location

_EXTINF = re.compile(r"#EXTINF:\s*(?P<seconds>-?[0-9.]*)(?P<rest>.*)", re.DOTALL)
_ATTRIBUTES = re.compile(r"""(?:\s+[\w-]{1,64}=(?:"[^"]*"|[^\s",]*))*\s*,""")
_STREAM_TAGS = ("#EXT-X-STREAM-INF", "#EXT-X-TARGETDURATION", "#EXT-X-MEDIA-SEQUENCE", "#EXT-X-MEDIA:")


def parse(content: bytes) -> ParsedPlaylist:
    """Read an M3U. Raises :class:`PermanentError` for a stream (HLS) and for a list that is too long."""
    entries: list[Entry] = []
    problems = Problems()
    playlist_title = playlist_image = None
    title = singer = album = None
    seconds: float | None = None
    for number, line in enumerate(_lines(content), start=1):
        if not line:
            continue
        if not line.startswith("#"):
            location = usable_location(line)
            if location is None:
                problems.add(f"Line {number} is too long or holds a NUL character, and was left out.")
            else:
                singers, name = _words(title, singer)
                entries.append(
                    Entry(location=location, title=name, singers=singers, album=album, duration_seconds=seconds)
                )
                check_count(len(entries))
            title = singer = album = seconds = None
        elif line.startswith("#EXTINF:"):
            title, seconds = _extinf(line)
        elif line.startswith("#EXTART:"):
            singer = _text(line[8:])
        elif line.startswith("#EXTALB:"):
            album = _text(line[8:])
        elif line.startswith("#PLAYLIST:"):
            playlist_title = _text(line[10:])
        elif line.startswith("#EXTIMG:"):
            image = line[8:].strip()
            playlist_image = image if image.startswith(("http://", "https://")) else None
        elif line.startswith(_STREAM_TAGS):
            raise PermanentError(
                "This is a live or segmented stream (HLS), not a list of songs. Use the address of a playlist.",
                code="playlist-is-stream",
            )
    return ParsedPlaylist(
        entries=tuple(entries), title=playlist_title, image=playlist_image, problems=problems.sentences()
    )


def _lines(content: bytes) -> list[str]:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = content.decode("utf-16", "replace")
    else:
        text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    # splitlines() would also split at characters that may stand in file names.
    return [line.strip(" \t\r") for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]


def _extinf(line: str) -> tuple[str | None, float | None]:
    match = _EXTINF.match(line)
    if match is None:
        return None, None
    rest = match["rest"]
    attributes = _ATTRIBUTES.match(rest)
    title = rest[attributes.end() :] if attributes else rest.partition(",")[2]
    return _text(title), parse_seconds(match["seconds"])


def _text(text: str) -> str | None:
    """Text that is not UTF-8 is taken as Western European, which is what such old files mostly are."""
    if any("\udc80" <= char <= "\udcff" for char in text):
        text = text.encode("utf-8", "surrogateescape").decode("cp1252", "replace")
    return clean_text(text)


def _words(title: str | None, singer: str | None) -> tuple[tuple[str, ...], str | None]:
    """Singers and name; ``Artist - Title`` is how most writers of M3U put both into one."""
    if singer is not None:
        return (singer,), title
    before, dash, after = (title or "").partition(" - ")
    if dash and before.strip() and after.strip():
        return (before.strip(),), after.strip()
    return (), title
