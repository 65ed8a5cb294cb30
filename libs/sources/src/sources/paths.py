"""Names of files as remote ids: always valid text, always reversible, never outside the root."""

from __future__ import annotations

import os
import re
from pathlib import Path

from common.errors import PermanentError

# fmt: off
AUDIO_EXTENSIONS = frozenset({
    "mp3", "flac", "m4a", "m4b", "mp4", "aac", "ogg", "oga", "opus", "spx", "wav", "aif", "aiff", "aifc",
    "wma", "ape", "wv", "mpc", "tta", "tak", "dsf", "dff", "mka",
})
# fmt: on
LOSSLESS_EXTENSIONS = frozenset({"flac", "wav", "aif", "aiff", "ape", "wv", "tta", "tak", "dsf", "dff"})
"""Of those that nothing else uses; an m4a may be either."""
MAX_REMOTE_ID = 4096
_ESCAPED = re.compile(r"\\(\\|x[0-9a-f]{2})")
_TO_ESCAPE = re.compile(r"[\\\udc80-\udcff]")


def escape(name: str) -> str:
    r"""A file name as Python gives it (PEP 383), as valid text.

    A byte that is not UTF-8 becomes ``\xNN``, a backslash ``\\``; every other name stays as it is.
    """
    return _TO_ESCAPE.sub(lambda match: "\\\\" if match[0] == "\\" else f"\\x{ord(match[0]) - 0xDC00:02x}", name)


def unescape(text: str) -> str:
    """The file name that :func:`escape` made this from."""
    return _ESCAPED.sub(lambda match: "\\" if match[1] == "\\" else chr(0xDC00 + int(match[1][1:], 16)), text)


def extension(name: str) -> str:
    """The extension, lower case, without the dot; empty where there is none."""
    stem, dot, ext = name.rpartition(".")
    return ext.lower() if dot and stem else ""


def is_audio(name: str) -> bool:
    return extension(name) in AUDIO_EXTENSIONS


def relative_parts(remote_id: str) -> list[str]:
    """The parts of a relative path in a remote id. Raises :class:`PermanentError` when it could lead elsewhere."""
    parts = [unescape(part) for part in remote_id.split("/")]
    if len(remote_id) > MAX_REMOTE_ID or any(part in ("", ".", "..") or "/" in part or "\0" in part for part in parts):
        raise PermanentError("The path does not lie inside the folder, and was refused.", code="outside-folder")
    return parts


def contained(root: str, path: str) -> bool:
    """Whether ``path``, with every symbolic link followed, lies inside ``root`` (a real path)."""
    return os.path.realpath(path).startswith(root.rstrip("/") + "/")


def locate(root: Path, remote_id: str) -> Path:
    """The file that a remote id names, links followed.

    Raises :class:`PermanentError`: ``outside-folder``, or ``source-file-missing``.
    """
    real_root = os.path.realpath(root)
    path = os.path.join(real_root, *relative_parts(remote_id))  # noqa: PTH118 - names may be no valid text
    try:
        real = os.path.realpath(path, strict=True)
    except (FileNotFoundError, NotADirectoryError):
        raise PermanentError(
            "The file is no longer in the folder. Put it back, or remove it from the playlist.",
            code="source-file-missing",
        ) from None
    except OSError:
        raise PermanentError(
            "The file cannot be reached. Check the permissions of the folder, and its links.",
            code="source-file-unreadable",
        ) from None
    if not contained(real_root, real):
        raise PermanentError(
            "The file is a link that leads outside the folder, and was refused.", code="outside-folder"
        )
    return Path(real)
