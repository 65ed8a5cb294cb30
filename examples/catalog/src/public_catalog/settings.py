"""What whoever runs the catalog says: on the command line, or in the environment."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from public_catalog.errors import SettingsError
from public_catalog.playback import Origin

SECRET = "ORIGIN_TOKEN_SECRET"  # noqa: S105 - the name of a setting
_MOST_SECONDS = 366 * 24 * 3600
"""Nobody means more, and clocks take no number whatever."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """``mirror``: the folder that ``music-cloud-mirror`` fills. ``cache``: for search indexes; may be emptied."""

    mirror: Path
    cache: Path
    host: str = "127.0.0.1"
    port: int = 8430
    title: str = "Music Catalog"
    covers: bool = True
    origin: Origin | None = None
    poll_seconds: float = 2.0
    connections: int = 8


def read(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings. Raises SettingsError; an unknown argument ends the program, as ``--help`` does."""
    known = environment.get
    parser = argparse.ArgumentParser("public-catalog", description="Serves a mirrored catalog to everybody.")
    add = parser.add_argument
    add("--mirror", default=known("PUBLIC_CATALOG_MIRROR"), metavar="DIR", help="what music-cloud-mirror fills")
    add(
        "--cache",
        default=known("PUBLIC_CATALOG_CACHE"),
        metavar="DIR",
        help="for search indexes (~/.cache/public-catalog)",
    )
    add("--host", default=known("PUBLIC_CATALOG_HOST", "127.0.0.1"), help="where to listen (127.0.0.1)")
    add("--port", default=known("PUBLIC_CATALOG_PORT", "8430"), type=int, help="its port (8430); 0 takes a free one")
    add("--title", default=known("PUBLIC_CATALOG_TITLE", Settings.title), help="what the catalog is called")
    add(
        "--no-covers",
        action="store_true",
        default=known("PUBLIC_CATALOG_COVERS") == "no",
        help="load no remote pictures",
    )
    add("--origin", default=known("ORIGIN_URL"), metavar="URL", help="the private origin, as visitors reach it")
    add(
        "--origin-secret-file",
        default=known(f"{SECRET}_FILE"),
        metavar="FILE",
        help=f"holds its secret, alone or as {SECRET}=…; or set {SECRET}",
    )
    add(
        "--origin-seconds",
        default=known("ORIGIN_TOKEN_SECONDS", "21600"),
        type=float,
        metavar="N",
        help="how long a link to a file plays (21600)",
    )
    add(
        "--poll",
        default=known("PUBLIC_CATALOG_POLL_SECONDS", "2"),
        type=float,
        help="seconds between looks for news (2)",
    )
    given = parser.parse_args(arguments)
    if not given.mirror:
        raise SettingsError("Say where the mirror is: --mirror DIR, the folder that music-cloud-mirror fills.")
    if not 0 < given.poll <= _MOST_SECONDS or not 0 < given.origin_seconds <= _MOST_SECONDS:
        raise SettingsError(f"--poll and --origin-seconds are more than 0, and at most {_MOST_SECONDS:,}.")
    if not 0 <= given.port <= 65535:
        raise SettingsError("--port is 0 to 65535.")
    cache = Path(given.cache) if given.cache else Path.home() / ".cache" / "public-catalog"
    return Settings(
        mirror=Path(given.mirror).absolute(),
        cache=cache.absolute(),
        host=given.host,
        port=given.port,
        title=given.title,
        covers=not given.no_covers,
        origin=_origin(given, known(SECRET)),
        poll_seconds=given.poll,
    )


def _origin(given: argparse.Namespace, secret: str | None) -> Origin | None:
    if not secret and given.origin_secret_file:
        secret = _secret_in(Path(given.origin_secret_file))
    if not given.origin and not secret:
        return None
    if not given.origin or not secret:
        raise SettingsError(f"The private origin needs both: --origin URL, and {SECRET} or --origin-secret-file.")
    return Origin(given.origin, secret, seconds=given.origin_seconds)


def _secret_in(path: Path) -> str:
    try:
        text = path.read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(f"The file with the origin's secret cannot be read: {reason}.") from None
    for line in text.splitlines():
        name, separator, value = line.partition("=")
        if separator and name.strip() == SECRET:
            return value.strip().strip("'\"")
    return text
