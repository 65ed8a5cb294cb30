"""The env file as people write it: every line is judged before anything is read from it.

Harmless differences are accepted: Windows line ends, a byte order mark, ``export``, quotes. What would
silently lose or change a setting is refused with the file and the line, and never with a value.
"""

from __future__ import annotations

import difflib
import io
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import ValidationError

from common.errors import ConfigurationError
from common.setting_names import SETTING_NAMES

ENCODING = "utf-8-sig"
"""UTF-8, with or without the mark that Windows editors put in front."""
OLDER_FILE = "catalogsync.env"
"""The older system's file: keys of it that mean nothing here are left alone."""

_FOREIGN = frozenset({"DB_PATH", "NATS_READER_PASSWORD", "MUSIC_CLOUD_ENV_FILE", "PUID", "PGID", "TZ"})
"""Names that are not ours and may stand there: of the older system, earlier versions, the engine, the shell."""
_FOREIGN_PREFIXES = ("COMPOSE_", "DOCKER_", "PLUGIN_")
"""``PLUGIN_``: what a plug-in of its own reads."""
_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
"""A name that may be shown. Anything else may be a secret that was pasted onto a line of its own."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SIZE_ERRORS = {"byte_size", "byte_size_unit"}
_FORMS = {
    "https?://": "should be an address that begins with http:// or https://",
    "[0-7]{3,4}": "should be three or four octal digits, such as 022",
    "{1,64}": "should be at most 64 of a-z, 0-9, _ and -",
    "{8,128}": "should be 8 to 128 letters, digits, _ and -",
}
"""What a pattern asks for, by a part of it that no other has."""


@dataclass(frozen=True, kw_only=True)
class EnvFile:
    """A file that was read and found well. ``lines``: the line of each name, upper case."""

    path: Path
    values: Mapping[str, str] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)


def read_env_file(path: Path, *, judge_names: bool = True) -> EnvFile:
    """Read a file of settings. ``judge_names``: names that nobody knows are refused.

    Raises :class:`ConfigurationError` with one sentence that names the file and the lines.
    """
    found, problems = judge_text(_text_of(path), path=path, judge_names=judge_names)
    if problems:
        raise ConfigurationError(f"Mend {path} and start again: {listed(problems)}", code="env-file")
    return found


def judge_text(text: str, *, path: Path, judge_names: bool = True) -> tuple[EnvFile, list[str]]:
    """What a text says that is, or may become, the file ``path``; and what is wrong in it, line by line."""
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    problems: list[str] = []
    for line, key, value in bindings(text):
        if key is None or value is None:
            problems.append(f"line {line} is not of the form NAME=VALUE")
            continue
        name = key.upper()
        if name in lines:
            problems.append(f"line {line} sets {_shown(key)} again, which line {lines[name]} sets already")
        elif judge_names and not _known(name):
            problems.append(f"line {line}: {_shown(key)}: no such setting{_suggestion(name)}")
        elif _CONTROL.search(value):
            problems.append(
                f"line {line}: the value of {_shown(key)} holds a line break or another control character "
                "(within double quotes a backslash begins one: use single quotes, or none)"
            )
        lines.setdefault(name, line)
        values[name] = value
    return EnvFile(path=path, values=values, lines=lines), problems


def listed(problems: Iterable[str]) -> str:
    """All problems as the end of a sentence."""
    words = "; ".join(problems)
    return f"{words}{'' if words.endswith('?') else '.'}"


def own_files(names: Iterable[str], *, named: str | None) -> list[Path]:
    """The person's file: the one that the environment names, else the first of ``names`` that is there.

    Raises :class:`ConfigurationError` where a folder lies in its place: a container engine makes one when
    the file that it is to mount is missing, and all settings would be lost silently.
    """
    if named is not None:
        if not Path(named).is_file():
            raise ConfigurationError(
                f"MUSIC_CLOUD_ENV_FILE names {named}, which is not a file: create it, or unset it.", code="env-file"
            )
        return [Path(named)]
    for path in map(Path, names):
        if path.is_dir():
            raise ConfigurationError(
                f"{path} is a folder, as a container engine makes one where a file to mount is missing: remove it, "
                "and put the file there.",
                code="env-file",
            )
        if path.is_file():
            return [path]
    return []


def check_environment(names: Iterable[str]) -> None:
    """Refuse our own settings in the process environment that end with a Windows line end.

    A shell that reads a file with such line ends keeps them as part of each value. Names that are not ours
    are never looked at. Raises :class:`ConfigurationError`.
    """
    wrong = sorted(name.upper() for name in names if os.environ.get(name.upper(), "").endswith("\r"))
    if wrong:
        raise ConfigurationError(
            f"The value of {', '.join(wrong)} in the environment ends with a Windows line end: convert the file that "
            "it came from (sed -i 's/\\r$//' FILE), and start again.",
            code="env-file",
        )


def describe(error: ValidationError, files: Iterable[EnvFile]) -> str:
    """One sentence for all settings whose values cannot be used: where each stands, never the value."""
    parts = []
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        name = "_".join(str(part) for part in item["loc"]).upper() or "the settings"
        parts.append(f"{name}{_origin(name, files)}: {words_of(item)}")
    return f"Mend these settings and start again: {'; '.join(parts)}."


def bindings(text: str) -> Iterable[tuple[int, str | None, str | None]]:
    """Line, name and value of everything but comments, as the settings are read from a file with this text.

    Neither name nor value: the line is not of the form NAME=VALUE.
    """
    # Line ends as a file opened for text gives them, so that every reader sees the same.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    for binding in parse_stream(io.StringIO(text)):
        original = binding.original.string
        line = binding.original.line + original[: len(original) - len(original.lstrip())].count("\n")
        if binding.error:
            yield line, None, None
        elif binding.key is not None:
            yield line, binding.key, binding.value


def values_of(text: str) -> dict[str, str]:
    """The values as settings read them from a file with this text: by name in upper case, empty ones left out."""
    found = dotenv_values(stream=io.StringIO(text), interpolate=True)
    return {name.upper(): value for name, value in found.items() if value}


def _text_of(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read ({error.strerror}): allow the user that runs us to read it.", code="env-file"
        ) from None
    return decoded(path, data)


def decoded(path: Path, data: bytes) -> str:
    """The text of a file. Raises ConfigurationError where it is not UTF-8."""
    try:
        return data.decode(ENCODING)
    except UnicodeDecodeError as error:
        raise ConfigurationError(_not_utf8(path, data, error.start), code="env-file") from None


def _not_utf8(path: Path, data: bytes, position: int) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return f"{path} is UTF-16, as PowerShell's > writes it: save it as UTF-8."
    line = data.count(b"\n", 0, position) + 1
    return f"{path} is not UTF-8 (line {line}): save it as UTF-8; if it is damaged, put that of a backup there."


def _known(name: str) -> bool:
    return name in SETTING_NAMES or name in _FOREIGN or name.startswith(_FOREIGN_PREFIXES)


def _shown(key: str) -> str:
    return key if _known(key.upper()) or (_NAME.fullmatch(key) and ("_" in key or key.isalpha())) else "a name"


def _suggestion(name: str) -> str:
    close = difflib.get_close_matches(name, SETTING_NAMES, n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else "; remove it, or see music-cloud.env.example"


def _origin(name: str, files: Iterable[EnvFile]) -> str:
    if any(key.upper() == name for key in os.environ):
        return " (in the environment)"
    for file in files:
        if name in file.lines:
            return f" ({file.path} line {file.lines[name]})"
    return ""


def words_of(item: Any) -> str:
    """What is wrong with a value, from an error of pydantic; never the value."""
    # These two messages repeat what was typed.
    if item["type"] in _SIZE_ERRORS:
        return "should be a size such as 512MiB"
    if item["type"] == "string_pattern_mismatch":
        for part, words in _FORMS.items():
            if part in item["msg"]:
                return words
    words = str(item["msg"]).removeprefix("Value error, ").removeprefix("Input ").rstrip(".")
    return words[:1].lower() + words[1:]
