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
    """A folder. ``setting`` names it in sentences, which never hold the path; commands do."""

    setting: str
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
    that should be free at a place. ``more``: what only the service can tell of its own files. ``settings``: what
    makes something of a setting, and raises ConfigurationError where nothing can be made of it.
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
    settings: tuple[Callable[[], object], ...] = ()


def library_place(settings: Settings) -> Place:
    """The library."""
    return Place(setting="LIBRARY_DIR", path=settings.library)


def state_place(settings: Settings) -> Place:
    """Where databases lie."""
    return Place(setting="STATE_DIR", path=settings.state)


def snapshots_place(settings: Settings) -> Place:
    """Where snapshots lie."""
    return Place(setting="SNAPSHOT_DIR", path=settings.snapshots)


def media_place(settings: Settings) -> Place | None:
    """The mounted folder of music that is read in place, if there is one."""
    path = settings.local_media_import_path
    return None if path is None else Place(setting="LOCAL_MEDIA_IMPORT_PATH", path=path.absolute())


def root_place(settings: Settings) -> Place:
    """The folder of everything that is not given elsewhere."""
    return Place(setting="ROOT_DIR", path=settings.root_dir.absolute())
