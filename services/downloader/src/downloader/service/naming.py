"""Names that every file system keeps: ext4, btrfs, NTFS and shares over SMB. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from pathvalidate import sanitize_filename

MAX_COMPONENT_BYTES = 255
"""What ext4, btrfs and NFS allow in one name, in UTF-8; NTFS allows 255 UTF-16 units, which is never less."""
EMPTY = "_"
_JOINERS = "\u200c\u200d"
"""Zero-width (non-)joiner: part of words in several scripts, and of emoji."""
_SPACES = re.compile(r"\s+")
_SUSPECT = re.compile(r'[\\/:*?"<>|\x00-\x1f\x7f]')
_RESERVED = re.compile(r"^(con|prn|aux|nul|clock\$|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(?=\.|$)", re.IGNORECASE)


@lru_cache(maxsize=4096)
def clean(text: str) -> str:
    """``text`` as one name: no separators, no control or direction marks, nothing that Windows reserves.

    It is in Unicode NFC, never empty, never ``.`` or ``..``, does not begin with a dot (hidden files,
    our own folders) and does not end with a dot or a space. Its length is not limited here.
    """
    if text.isascii() and text.isprintable():
        visible = text
    else:
        visible = "".join(_visible(char) for char in unicodedata.normalize("NFC", text))
    visible = _SPACES.sub(" ", visible)
    # Most names have nothing to replace; the full check costs more than everything else that is done to a name.
    if _SUSPECT.search(visible) or _RESERVED.match(visible.strip(" .")):
        visible = str(sanitize_filename(visible, replacement_text="_", platform="universal", max_len=1 << 20))
    # A replacement may compose with what follows it, so that the form is made once more.
    return _trim(unicodedata.normalize("NFC", visible))


def fold(name: str) -> str:
    """What two names share that a file system may take for one: ignores case and the Unicode form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def shorten(text: str, limit: int) -> str:
    """The longest beginning of ``text`` of at most ``limit`` bytes in UTF-8 that cuts no visible character apart."""
    if len(text.encode()) <= limit:
        return text
    kept, size = [], 0
    for cluster in _clusters(text):
        size += len(cluster.encode())
        if size > limit:
            break
        kept.append(cluster)
    return "".join(kept).rstrip(" .")


def _trim(name: str) -> str:
    name = name.lstrip(" .").rstrip(" .").strip(_JOINERS)
    if _RESERVED.match(name):
        name = f"_{name}"
    return name or EMPTY


def _visible(char: str) -> str:
    category = unicodedata.category(char)
    if category in ("Zl", "Zp") or char in "\t\n\r\v\f":
        return " "
    if category in ("Cc", "Cs", "Cn") or (category == "Cf" and char not in _JOINERS):
        return ""
    return char


def _clusters(text: str) -> Iterator[str]:
    """Visible characters: a base with its marks, joined emoji, pairs of regional indicators."""
    current = ""
    for char in text:
        if current and not _continues(current, char):
            yield current
            current = ""
        current += char
    if current:
        yield current


def _continues(current: str, char: str) -> bool:
    if unicodedata.category(char).startswith("M") or char in _JOINERS or 0x1F3FB <= ord(char) <= 0x1F3FF:
        return True
    if current[-1] == "\u200d":
        return True
    return _regional(char) and len(current) == 1 and _regional(current)


def _regional(char: str) -> bool:
    return 0x1F1E6 <= ord(char) <= 0x1F1FF
