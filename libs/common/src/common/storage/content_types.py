"""The media type of a file by its extension: our own table, so that it is the same on every machine."""

from __future__ import annotations

DEFAULT = "application/octet-stream"

CONTENT_TYPES = {
    "aac": "audio/aac",
    "aif": "audio/aiff",
    "aiff": "audio/aiff",
    "ape": "audio/x-ape",
    "dff": "audio/x-dff",
    "dsf": "audio/x-dsf",
    "flac": "audio/flac",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "json": "application/json",
    "lrc": "text/plain; charset=utf-8",
    "m4a": "audio/mp4",
    "m4b": "audio/mp4",
    "mka": "audio/x-matroska",
    "mp3": "audio/mpeg",
    "mp4": "audio/mp4",
    "oga": "audio/ogg",
    "ogg": "audio/ogg",
    "opus": "audio/ogg",
    "png": "image/png",
    "wav": "audio/wav",
    "webm": "audio/webm",
    "webp": "image/webp",
    "wma": "audio/x-ms-wma",
    "wv": "audio/x-wavpack",
}


def content_type(name: str) -> str:
    """The media type of a file called ``name``; never one that a browser would run."""
    return CONTENT_TYPES.get(name.rpartition("/")[2].rpartition(".")[2].lower(), DEFAULT)
