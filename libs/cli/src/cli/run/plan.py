"""What a run is about: whose music, how it enters the library, and what the processes are told."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.demo.library import FEED_FILE
from cli.settings import CliSettings
from common.contracts.names import ImportMode
from common.errors import ConfigurationError
from common.settings import split_list

DEMO = "demo"


@dataclass(frozen=True, kw_only=True)
class Music:
    """Where the music of a run comes from."""

    demo: bool
    folder: Path | None = None
    feeds: tuple[str, ...] = ()
    import_mode: ImportMode | None = None
    """None where no folder is read."""
    notices: tuple[str, ...] = ()


def choose_music(settings: CliSettings) -> Music:
    """A person's own folder and feeds if there are any, else the demo.

    Raises :class:`ConfigurationError` for a folder that is not there.
    """
    folder, feeds = settings.local_media_import_path, split_list(settings.feeds)
    if folder is None and not feeds:
        return Music(demo=True, import_mode=settings.import_mode or ImportMode.COPY)
    if folder is not None and not (os.path.isdir(folder) and os.access(folder, os.R_OK | os.X_OK)):  # noqa: PTH112
        raise ConfigurationError(
            f"LOCAL_MEDIA_IMPORT_PATH names {folder}, which is not a folder that can be read here. "
            "Mount it, allow your user to read it, or name another."
        )
    if folder is None:
        return Music(demo=False, feeds=feeds)
    folder = folder.absolute()
    if settings.import_mode is not None:
        return Music(demo=False, folder=folder, feeds=feeds, import_mode=settings.import_mode)
    return Music(
        demo=False,
        folder=folder,
        feeds=feeds,
        import_mode=ImportMode.REFERENCE,
        notices=(
            "The files of your folder stay where they are and are used in place. "
            "IMPORT_MODE=copy (or hardlink, reflink) puts them into the library instead.",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Where everything listens."""

    nats: int
    console: int
    origin: int
    exporter: int
    demo: int
    health: Mapping[str, int]


def demo_feed(port: int) -> str:
    """The address of the demo's feed."""
    return f"http://127.0.0.1:{port}/{FEED_FILE}"
