"""The example catalog as a running program, and snapshots for it, made by the real exporter."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import create_engine

from common.catalog import tables
from exporter.adapters.export import export_snapshot
from tests.support.ports import free_ports

EXAMPLE = Path(__file__).parents[2] / "examples" / "catalog"
SECRET = "a secret of the tests that is long enough to be one"
PUBLIC = "https://files.example.org/music"


@dataclass(frozen=True, kw_only=True)
class Given:
    """A song. ``files``: backend (``library`` or ``bucket``) and locator."""

    song_id: int
    name: str
    singers: str = "Singer"
    files: Sequence[tuple[str, str]] = ()
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class GivenList:
    """A playlist; one with a ``group`` is a toplist."""

    playlist_id: int
    name: str
    songs: Sequence[int] = ()
    plays: int = 0
    group: str | None = None
    cover: str | None = None


def make_snapshot(folder: Path, songs: Sequence[Given], playlists: Sequence[GivenList] = ()) -> dict[str, Any]:
    """Export a catalog of these into ``folder``; return its manifest."""
    source = folder.with_name(folder.name + ".catalog.db")
    source.unlink(missing_ok=True)
    engine = create_engine(f"sqlite:///{source}")
    tables.metadata.create_all(engine)
    rows: dict[Any, list[dict[str, Any]]] = {table: [] for table in tables.metadata.sorted_tables}
    for number, name in enumerate(("library", "bucket"), 1):
        kind = "filesystem" if name == "library" else "object_storage"
        config = json.dumps({"public_base_url": PUBLIC}) if name == "bucket" else None
        rows[tables.storage_backends].append(
            {"id": number, "name": name, "backend_type": kind, "base_path": None, "config_json": config}
        )
    for song in songs:
        ext = song.files[0][1].rpartition(".")[2] if song.files else None
        rows[tables.songs].append(
            {
                "id": song.song_id,
                "platform": "qq",
                "remote_song_id": f"s{song.song_id}",
                "name": song.name,
                "singers": song.singers,
                "ext": ext,
                "file_size_bytes": 1_000_000,
                "metadata_json": json.dumps(song.metadata) if song.metadata else None,
            }
        )
        for number, (backend, locator) in enumerate(song.files):
            identity = song.song_id * 10 + number
            rows[tables.file_assets].append(
                {
                    "id": identity,
                    "song_id": song.song_id,
                    "quality_label": "high",
                    "ext": locator.rpartition(".")[2],
                    "file_size_bytes": 1_000_000,
                }
            )
            rows[tables.file_locations].append(
                {
                    "id": identity,
                    "file_asset_id": identity,
                    "backend_id": ("library", "bucket").index(backend) + 1,
                    "locator": locator,
                    "status": "active",
                    "is_primary": int(number == 0),
                }
            )
    groups: dict[str, int] = {}
    for playlist in playlists:
        rows[tables.playlists].append(
            {
                "id": playlist.playlist_id,
                "platform": "qq",
                "remote_playlist_id": f"p{playlist.playlist_id}",
                "name": playlist.name,
                "description": None,
                "cover_url": playlist.cover,
                "play_count": playlist.plays,
                "collected_song_count": len(playlist.songs),
            }
        )
        for position, song_id in enumerate(playlist.songs):
            rows[tables.playlist_songs].append(
                {"playlist_id": playlist.playlist_id, "song_id": song_id, "position": position}
            )
        if playlist.group is not None:
            pool = groups.setdefault(playlist.group, len(groups) + 1)
            rows[tables.pool_playlists].append({"pool_id": pool, "playlist_id": playlist.playlist_id})
    for name, number in groups.items():
        rows[tables.playlist_pools].append(
            {"id": number, "platform": "qq", "pool_kind": "toplist", "external_id": f"top{number}", "name": name}
        )
    with engine.begin() as connection:
        for table, content in rows.items():
            if content:
                connection.execute(table.insert(), content)
    engine.dispose()
    manifest = dict(export_snapshot(source, folder))
    source.unlink()
    return manifest


class MirrorFolder:
    """What ``music-cloud-mirror`` leaves: snapshots in folders of their own, and ``current`` that changes at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "snapshots").mkdir(parents=True)

    def show(self, snapshot: Path, *, forget: bool = False) -> Path:
        """Make a copy of ``snapshot`` the current one; ``forget`` deletes those before at once."""
        before = set((self.path / "snapshots").iterdir())
        target = self.path / "snapshots" / f"{time.monotonic_ns()}-{snapshot.name}"
        shutil.copytree(snapshot, target)
        self.point(target)
        if forget:
            for folder in before:
                shutil.rmtree(folder)
        return target

    def point(self, target: Path) -> None:
        """Let ``current`` be ``target``."""
        link = self.path / ".current.new"
        link.symlink_to(target.relative_to(self.path), target_is_directory=True)
        link.replace(self.path / "current")


class CatalogProcess:
    """The example, running."""

    def __init__(self, folder: Path, mirror: Path, *arguments: str, **environment: str) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "catalog.log"
        self.cache = folder / "cache"
        self._command = [sys.executable, "-m", "public_catalog", "--mirror", str(mirror), "--cache", str(self.cache)]
        self._command += ["--port", str(port), "--poll", "0.05", *arguments]
        inherited = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG"}}
        self._environment = {**inherited, "PYTHONPATH": str(EXAMPLE / "src"), **environment}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers, whatever it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)
        self.until(lambda: self.health() is not None, "it does not answer")

    def stop(self) -> int:
        """End it as a supervisor does; its exit status: of a program that ended because it was told to."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def health(self) -> dict[str, Any] | None:
        """What /healthz says; None while nobody listens."""
        with contextlib.suppress(httpx.TransportError):
            return dict(httpx.get(f"{self.url}/healthz", trust_env=False).json())
        return None

    def until_shown(self, manifest: dict[str, Any], *, search: bool = True) -> None:
        """Wait until it shows this snapshot."""

        def shown() -> bool:
            health = self.health()
            return health is not None and (health["snapshot_id"], health["search"] or not search) == (
                manifest["snapshot_id"],
                True,
            )

        self.until(shown, "the snapshot is not shown")

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something that has to come."""
        deadline = time.monotonic() + 40
        while not condition():
            assert self.process is None or self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, f"{what}: {self.health()} {self.log.read_text()}"
            time.sleep(0.05)

    def open_files(self, name: str) -> list[str]:
        """The files of this name that it holds open, deleted ones too."""
        assert self.process is not None
        found = []
        for descriptor in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.append(str(descriptor.readlink()))
        return sorted(path for path in found if name in path)


@contextlib.contextmanager
def running(folder: Path, mirror: Path, *arguments: str, **environment: str) -> Iterator[CatalogProcess]:
    """A started example, ended afterwards."""
    catalog = CatalogProcess(folder, mirror, *arguments, **environment)
    catalog.start()
    try:
        yield catalog
    finally:
        if catalog.process is not None and catalog.process.poll() is None:
            catalog.stop()
