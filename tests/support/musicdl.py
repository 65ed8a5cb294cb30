"""An interpreter with a library that stands in for musicdl, and sources that use it."""

from __future__ import annotations

import shutil
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from musicdl_bridge.clients import CLIENTS, ListLink
from musicdl_bridge.process import Process
from musicdl_bridge.source import MusicdlSource
from musicdl_bridge.words import Words
from sources.api.pace import Pace
from sources.port import Found, SearchQuery

OTHERS = {
    "requests": "class Session:\n    def request(self, method, url, **options):\n        raise NotImplementedError\n",
    "rich/progress": "class Progress:\n    def __init__(self, disable=False):\n        assert disable\n"
    "    def add_task(self, text, total=None):\n        return 0\n",
}
"""What else the worker touches, as little of it as it uses."""


def interpreter(folder: Path, *, version: str | None = "2.14.2") -> Path:
    """A Python of its own; without ``version`` no library is installed in it."""
    venv.create(folder, with_pip=False, symlinks=True)
    site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    if version is not None:
        (site / "musicdl" / "modules").mkdir(parents=True)
        (site / "musicdl" / "__init__.py").touch()
        shutil.copy(Path(__file__).with_name("musicdl_standin.py"), site / "musicdl" / "modules" / "__init__.py")
        for name, text in OTHERS.items():
            (site / name).parent.mkdir(exist_ok=True)
            (site / f"{name}.py").write_text(text)
        about = site / f"musicdl-{version}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: musicdl\nVersion: {version}\n")
    return folder / "bin" / "python"


@contextmanager
def bridge(python: Path, base: Path, **changes: Any) -> Iterator[MusicdlSource]:
    """A source over Jamendo and the Free Music Archive, or what ``changes`` says; ended with all that it started."""
    megabytes = changes.pop("megabytes", 1024)
    allow_private = changes.pop("allow_private", False)
    clients = changes.pop("clients", ("jamendo", "fma"))
    lists = changes.pop("lists", ())
    name = changes.pop("name", "musicdl")
    source = MusicdlSource(
        **{
            "name": name,
            "clients": tuple(CLIENTS[one] for one in clients),
            "links": tuple(
                ListLink(client=CLIENTS[client], list_id=one, url=f"https://example.org/{one}") for client, one in lists
            ),
            "process": Process(python=python, base=base, megabytes=megabytes, allow_private=allow_private),
            "words": Words(base / "words.sqlite3"),
            "pace": Pace(source=name, rate=1000),
            "search_seconds": 20.0,
            "list_seconds": 20.0,
            **changes,
        }
    )
    try:
        yield source
    finally:
        source.close()


def look_for(source: MusicdlSource, deed: str, *, limit: int = 10) -> list[Found]:
    """Search for words that tell the library what to do."""
    return list(source.search(SearchQuery(name=deed), limit=limit))


def leftovers(base: Path) -> list[str]:
    """The private folders that are there."""
    return sorted(path.name for path in base.glob("worker-*"))
