"""The manifest: what a snapshot is, in a form that readers can check, and who says so."""

from __future__ import annotations

import base64
import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from mirror.format.digest import Content
from mirror.format.keys import SigningKey
from mirror.format.manifest import sign
from mirror.format.schema import DATABASE_FILE, SCHEMA_VERSION

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Where a snapshot stands in its lineage. Deltas can be made from any revision of it."""

    lineage: str
    revision: int

    def told(self) -> Manifest:
        return {
            "lineage": self.lineage,
            "revision": self.revision,
            "revisions": {"first": 1, "last": self.revision},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """The key that signs, and the one that will sign next, which mirrors are to trust by then.

    ``catalog``: ``owner/slug``, so that one catalog cannot be passed off as another of the same publisher.
    """

    key: SigningKey
    next_key: SigningKey | None = None
    catalog: str | None = None

    def told(self) -> Manifest:
        keys = [self.key] if self.next_key is None else [self.key, self.next_key]
        shown = [{"key_id": key.key_id, "public_key": base64.b64encode(key.public_key).decode()} for key in keys]
        return {"keys": shown} if self.catalog is None else {"catalog": self.catalog, "keys": shown}


def make_manifest(
    *,
    content: Content,
    cover_count: int,
    sequence: int | None,
    parent: str | None,
    generated_at: str,
    file_size: int,
    file_digest: str,
    history: History | None,
    signing: Signing | None,
) -> Manifest:
    """All that is said of a snapshot. ``sequence`` is the last one of CATALOG in it, if it came from there."""
    own, tables = content.snapshot_id, content.tables
    manifest: Manifest = {
        "snapshot_id": own,
        "generated_at": generated_at,
        "schema_version": SCHEMA_VERSION,
        "playlist_count": tables["catalog_playlists"].rows,
        "track_count": tables["catalog_tracks"].rows,
        "file_count": tables["catalog_track_files"].rows,
        "cover_count": cover_count,
        "entry_count": tables["catalog_playlist_tracks"].rows,
        "toplist_count": tables["catalog_toplists"].rows,
        "parent": parent if parent != own else None,
        "sequence": sequence,
        "file": {"name": DATABASE_FILE, "size": file_size, "digest": file_digest},
        "tables": {
            name: {"rows": table.rows, "size": table.size, "digest": table.digest} for name, table in tables.items()
        },
    }
    return renewed(manifest, history=history, signing=signing)


def renewed(manifest: Manifest, *, history: History | None, signing: Signing | None) -> Manifest:
    """The manifest of the same snapshot, as it is with this history and these keys.

    Without keys it is not signed. The same arguments give the same manifest.
    """
    told = {name: value for name, value in manifest.items() if name not in ("catalog", "keys", "signature")}
    if history is not None:
        told |= history.told()
    return told if signing is None else sign({**told, **signing.told()}, signing.key)


def point_in_time(now: datetime, *, after: str | None) -> str:
    """``now`` as text, or the next instant after an earlier one where the clock went back.

    Mirrors refuse what is older than what they have.
    """
    if after is not None:
        # What cannot be read is not of ours, and orders nothing.
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            now = max(now, datetime.fromisoformat(after) + timedelta(milliseconds=1))
    return now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
