"""What content is, told from its first bytes: names and content types lie. Pure."""

from __future__ import annotations

import re

from downloader.errors import Rejected

HEAD_BYTES = 8192
"""As much of the beginning as :func:`kind_of` wants."""
MIME = {
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "mp2": "audio/mpeg",
    "ogg": "audio/ogg",
    "oga": "audio/ogg",
    "opus": "audio/ogg",
    "spx": "audio/ogg",
    "m4a": "audio/mp4",
    "wav": "audio/wav",
    "aiff": "audio/aiff",
    "aac": "audio/aac",
    "wma": "audio/x-ms-wma",
    "ape": "audio/x-ape",
    "wv": "audio/x-wavpack",
    "mpc": "audio/x-musepack",
    "tta": "audio/x-tta",
    "dsf": "audio/x-dsf",
    "dff": "audio/x-dff",
}
"""The kinds that are taken; a kind is also the extension that the file gets."""
_MAGIC = (
    (b"fLaC", "flac"),
    (b"MAC ", "ape"),
    (b"wvpk", "wv"),
    (b"MPCK", "mpc"),
    (b"MP+", "mpc"),
    (b"TTA1", "tta"),
    (b"DSD ", "dsf"),
    (b"FRM8", "dff"),
    (b"ADIF", "aac"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "wma"),
)
_OGG = ((b"\x01vorbis", "ogg"), (b"OpusHead", "opus"), (b"\x7fFLAC", "oga"), (b"Speex   ", "spx"))
_OTHER = (
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"\x00\x00\x01\xba", "an MPEG video"),
    (b"FLV", "a Flash video"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"GIF8", "a picture"),
    (b"RF64", "an RF64 file, which is not supported"),
)
_HTML = re.compile(rb"<(!doctype\s+html|html|head|body|script|title|meta|h1|div|p)[\s>]", re.IGNORECASE)
_ZEROS = 4096
"""Padding that some encoders put before the first MPEG frame."""


def kind_of(head: bytes) -> str:
    """The kind of audio that begins with ``head``. Raises :class:`Rejected` that says what it is instead."""
    if not head:
        raise Rejected("The file is empty.", code="content-empty", remember=False)
    if (kind := _audio(head)) is not None:
        return kind
    raise _refusal(head)


def _audio(head: bytes) -> str | None:
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if head[4:8] == b"ftyp":
        return "m4a"
    if head[:4] == b"OggS":
        return next((kind for magic, kind in _OGG if magic in head[:512]), None)
    if head[:3] == b"ID3" and len(head) >= 10:
        return _after_id3(head)
    return _mpeg(head.lstrip(b"\0") if head[:1] == b"\0" and head[:_ZEROS].strip(b"\0") else head)


def _after_id3(head: bytes) -> str:
    size = 10 + sum((head[6 + place] & 0x7F) << (7 * (3 - place)) for place in range(4))
    rest = head[size:]
    for magic, kind in _MAGIC:
        if rest.startswith(magic):
            return kind
    # The tag with its cover is often longer than the head; nearly always it is an MP3 that has one.
    return _mpeg(rest) or "mp3"


def _mpeg(head: bytes) -> str | None:
    if len(head) < 3 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    if head[1] & 0xF6 == 0xF0:
        return "aac"
    if version == 1 or layer == 0 or head[2] >> 4 == 15 or head[2] >> 2 & 3 == 3:
        return None
    return "mp3" if layer == 1 else "mp2"


def _refusal(head: bytes) -> Rejected:
    for magic, what in _OTHER:
        if head.startswith(magic):
            return Rejected(f"This is {what}, not a song.", code="content-not-audio")
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"#EXTM3U"):
        return Rejected("The address leads to a playlist or a live stream, not to a file.", code="content-playlist")
    if _HTML.match(start) or (_is_text(head) and _HTML.search(head[:2048])):
        return Rejected(
            "This is a web page, not audio. If a server sent it, open its address in a browser: it may want a login.",
            code="content-html",
        )
    if start[:1] in (b"{", b"[") and _is_text(head):
        return Rejected(
            "This is JSON, not audio; likely an error message of the server that sent it.",
            code="content-json",
        )
    if _is_text(head):
        return Rejected("This is text, not audio.", code="content-text")
    return Rejected("The content is no audio format that is known here.", code="content-unknown")


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        # The head may end within a character.
        if error.reason != "unexpected end of data":
            return False
        text = head[: error.start].decode()
    return bool(text) and sum(char.isprintable() or char in "\r\n\t" for char in text) >= 0.95 * len(text)
