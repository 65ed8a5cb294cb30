"""Which format a playlist has: by what it holds, then by what the server and the name say."""

from __future__ import annotations

from common.errors import PermanentError

from . import jspf, m3u, xspf
from .model import ParsedPlaylist, malformed

EXTENSIONS = frozenset({"m3u", "m3u8", "xspf", "jspf"})
_M3U_TYPES = frozenset(
    {
        "audio/x-mpegurl",
        "audio/mpegurl",
        "application/x-mpegurl",
        "application/mpegurl",
        "application/vnd.apple.mpegurl",
        "audio/x-scpls",
    }
)
_HEAD = 4096
_MAGIC = (b"ID3", b"fLaC", b"OggS", b"RIFF", b"\xff\xfb", b"\xff\xf3", b"PK\x03\x04", b"\x1f\x8b")


def parse_playlist(content: bytes, *, content_type: str = "", name: str = "") -> ParsedPlaylist:
    """Read a playlist of any known format.

    ``content_type`` is the server's, ``name`` the file name or the path of the URL; both only
    decide where the content does not. Raises :class:`PermanentError` with a reason that a person
    understands.
    """
    head = content[:_HEAD].removeprefix(b"\xef\xbb\xbf").lstrip()
    lowered = head.lower()
    page = b"<html" in lowered[:1024] and b"<playlist" not in lowered
    if page or lowered.startswith(b"<!doctype html"):
        raise PermanentError(
            "The server answered with a web page instead of a playlist. Open the address in a browser to see what "
            "it wants, often a login.",
            code="playlist-is-html",
        )
    extension = name.rpartition(".")[2].lower() if "." in name else ""
    declared_m3u = content_type in _M3U_TYPES or extension in ("m3u", "m3u8")
    if head.startswith(b"#EXTM3U") or content.startswith((b"\xff\xfe#\0E\0X\0T", b"\xfe\xff\0#\0E\0X\0T")):
        return m3u.parse(content)
    if head.startswith(b"<") or content_type == "application/xspf+xml":
        return xspf.parse(content)
    if head.startswith((b"{", b"[")):
        return jspf.parse(content)
    if head.startswith(_MAGIC) or (b"\0" in head and not content.startswith((b"\xff\xfe", b"\xfe\xff"))):
        raise malformed("This is a binary file, not a playlist.")
    if not head:
        if declared_m3u or extension == "" or content_type.startswith("text/"):
            return ParsedPlaylist(entries=())
        raise malformed("The playlist file is empty.")
    if declared_m3u or _mostly_addresses(head):
        return m3u.parse(content)
    raise PermanentError(
        "This is not a playlist of a known format (M3U, M3U8, XSPF, JSPF).", code="playlist-unknown-format"
    )


def _mostly_addresses(head: bytes) -> bool:
    """A plain list of URLs is an M3U without its mark."""
    lines = [line.strip() for line in head.splitlines() if line.strip() and not line.startswith(b"#")]
    return bool(lines) and lines[0].startswith((b"http://", b"https://"))
