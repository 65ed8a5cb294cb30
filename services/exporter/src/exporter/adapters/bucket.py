"""A catalog's place in an object store: packs, snapshots, and ``refs.json``, which names the newest of them.

<owner>/<slug>/packs/<hex>.pack
<owner>/<slug>/snapshots/<hex>/catalog_read.db
<owner>/<slug>/snapshots/<hex>/manifest.json
<owner>/<slug>/refs.json
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Collection
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

from common.storage.port import FileMissing
from common.storage.s3 import S3Storage
from mirror.format.manifest import is_snapshot_id
from mirror.format.schema import DATABASE_FILE, MANIFEST_FILE

_MAX_REFS_BYTES = 4 * 1024 * 1024


class Bucket:
    """Writes what is not there yet; every method may block, and may be repeated after any crash."""

    def __init__(
        self, *, store: S3Storage, links: S3Storage, folder: str, public_base_url: str | None, url_seconds: int
    ) -> None:
        """``links`` presigns: the same bucket at the address that mirrors see."""
        self._store = store
        self._links = links
        self._folder = folder
        self._base = public_base_url.rstrip("/") if public_base_url else None
        self._url_seconds = url_seconds

    def put_pack(self, path: Path, pack_id: str, size: int) -> str:
        """Put a pack; return its locator."""
        locator = self.pack_locator(pack_id)
        self._store.put_file(path, locator, sha256=_hex(pack_id), size=size)
        return locator

    def put_snapshot(self, database: Path, manifest: dict[str, Any]) -> None:
        """Put a snapshot's two files, the manifest last: it never stands beside a file that it does not name."""
        folder, file = f"{self._folder}/snapshots/{_hex(manifest['snapshot_id'])}", manifest["file"]
        size, sha256 = file["size"], _hex(file["digest"])
        there = self._store.stat(f"{folder}/{DATABASE_FILE}")
        if there is not None and (there.size, there.sha256) != (size, sha256):
            # A content that came back lies in another file.
            self._store.delete(f"{folder}/{MANIFEST_FILE}")
        self._store.put_file(database, f"{folder}/{DATABASE_FILE}", sha256=sha256, size=size)
        self._put_json(f"{folder}/{MANIFEST_FILE}", manifest)

    def put_refs(self, refs: dict[str, Any]) -> None:
        """Name the newest: what is named there is complete."""
        self._put_json(f"{self._folder}/refs.json", refs)

    def refs(self) -> dict[str, Any]:
        """What ``refs.json`` says; empty where there is none, or none of ours."""
        try:
            file = self._store.open(f"{self._folder}/refs.json")
        except FileMissing:
            return {}
        try:
            found = json.loads(file.read(_MAX_REFS_BYTES))
        except (ValueError, RecursionError):
            return {}
        finally:
            file.close()
        return _checked(found)

    def url(self, locator: str) -> str:
        """Where a mirror reads a file; ends after a while, unless the public may read the bucket."""
        if self._base is not None:
            return f"{self._base}/{quote(locator)}"
        return self._links.presign(locator, seconds=self._url_seconds)

    def pack_locator(self, pack_id: str) -> str:
        return f"{self._folder}/packs/{_hex(pack_id)}.pack"

    def prune(self, *, kept: Callable[[str], bool], packs: Collection[str] | None) -> int:
        """Remove snapshots whose id is not ``kept``, and all packs but these locators (None: no pack).

        Returns how many files that were.
        """
        folder, is_kept = f"{self._folder}/snapshots/", functools.cache(kept)
        gone = [
            name
            for name in self._store.locators(folder)
            if not is_kept(f"sha256:{name.removeprefix(folder).partition('/')[0]}")
        ]
        if packs is not None:
            gone += [name for name in self._store.locators(f"{self._folder}/packs/") if name not in packs]
        # The manifest first: a snapshot without one is none, wherever this ends.
        for name in sorted(gone, key=lambda name: not name.endswith(MANIFEST_FILE)):
            self._store.delete(name)
        return len(gone)

    def close(self) -> None:
        self._store.close()
        self._links.close()

    def _put_json(self, locator: str, content: dict[str, Any]) -> None:
        data = json.dumps(content, ensure_ascii=False, indent=2).encode() + b"\n"
        digest = hashlib.sha256(data).hexdigest()
        self._store.put_open_file(BytesIO(data), locator, sha256=digest, size=len(data))


def _checked(found: object) -> dict[str, Any]:
    """Nothing but what we would write: others may have rights to the bucket."""
    if not isinstance(found, dict) or not is_snapshot_id(found.get("snapshot_id")):
        return {}
    packs = found.get("packs")
    if not isinstance(packs, list) or not all(isinstance(pack, dict) for pack in packs):
        return {}
    named = [pack for pack in packs if all(is_snapshot_id(pack.get(name)) for name in ("want", "mpack_id"))]
    return {**found, "packs": [pack for pack in named if pack.get("have") is None or is_snapshot_id(pack["have"])]}


def _hex(id: str) -> str:
    return str(id).removeprefix("sha256:")
