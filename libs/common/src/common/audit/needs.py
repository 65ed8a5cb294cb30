"""What a service needs of the machine, as its bootstrap declares it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.audit.finding import Finding
from common.settings import Settings

_FEW_FILES = 512
"""Descriptors that a service with a database, a bus and some transfers may have open at once."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder. ``setting`` names it in sentences, ``spelled`` in commands; neither holds the path."""

    setting: str
    spelled: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class Port:
    """An address to listen on; ``setting`` is the one to change when it is taken."""

    setting: str
    host: str
    number: int


@dataclass(frozen=True, kw_only=True)
class Needs:
    """``databases``: SQLite files. ``owned``: those that one process alone may have, locked beside them.

    ``claims``: the library, where files are written into it: only one stack may. ``reserves``: bytes
    that should be free at a place. ``more``: what only the service can tell of its own files.
    """

    writes: tuple[Place, ...] = ()
    reads: tuple[Place, ...] = ()
    databases: tuple[tuple[Place, Path], ...] = ()
    owned: tuple[tuple[str, Path], ...] = ()
    one_file_system: tuple[tuple[Place, Place], ...] = ()
    claims: Place | None = None
    reserves: tuple[tuple[Place, int], ...] = ()
    ports: tuple[Port, ...] = ()
    open_files: int = _FEW_FILES
    more: tuple[Callable[[], Finding | None], ...] = ()


def library_place(settings: Settings) -> Place:
    """The library."""
    return _place(settings, "library_dir", settings.library, "library")


def state_place(settings: Settings) -> Place:
    """Where databases lie."""
    return _place(settings, "state_dir", settings.state, "state")


def snapshots_place(settings: Settings) -> Place:
    """Where snapshots lie."""
    return _place(settings, "snapshot_dir", settings.snapshots, "snapshots")


def media_place(settings: Settings) -> Place | None:
    """The mounted folder of music that is read in place, if there is one."""
    path = settings.local_media_import_path
    return None if path is None else _place(settings, "local_media_import_path", path.absolute(), "")


def root_place(settings: Settings) -> Place:
    """The folder of everything that is not given elsewhere."""
    return _place(settings, "root_dir", settings.root_dir.absolute(), "")


def setting_place(settings: Settings, name: str, path: Path, *, default: Place, below: str) -> Place:
    """A folder of a service's own setting, which lies at ``below`` in ``default`` where it is not set."""
    if name in settings.model_fields_set:
        return Place(setting=name.upper(), spelled=f'"${name.upper()}"', path=path)
    return Place(setting=name.upper(), spelled=f"{default.spelled}/{below}", path=path)


def _place(settings: Settings, name: str, path: Path, below: str) -> Place:
    setting = name.upper()
    if name in settings.model_fields_set or name == "local_media_import_path":
        return Place(setting=setting, spelled=f'"${setting}"', path=path)
    root = (
        '"$ROOT_DIR"'
        if "root_dir" in settings.model_fields_set
        else str(type(settings).model_fields["root_dir"].default)
    )
    return Place(setting=setting, spelled=f"{root}/{below}" if below else root, path=path)
