"""What a mirror asks for, and which pack answers it: decided without touching a pack."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from exporter.errors import RequestRefused
from exporter.ports import History, Published, Snapshots
from mirror.format.manifest import is_snapshot_id

MAX_IDS = 256
"""In each list; a mirror names the few snapshots that it holds."""


class Way(StrEnum):
    """How the content of a pack is found."""

    FULL = "full"
    CHANGES = "changes"
    """By the groups that are known to have changed since a revision."""
    COMPARED = "compared"
    """By reading both snapshots side by side: they have no common history, but both are still there."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that is well-formed: ids without repeats, in the order given."""

    want: tuple[str, ...]
    have: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A pack: ``have`` is what it is applied to, ``after`` the revision whose later changes are in it."""

    manifest: dict[str, Any]
    way: Way = Way.FULL
    have: str | None = None
    after: int | None = None

    @property
    def want(self) -> str:
        return str(self.manifest["snapshot_id"])

    @property
    def sources(self) -> tuple[str, ...]:
        """The snapshots whose files it is made from."""
        return (self.want, self.have) if self.way is Way.COMPARED and self.have is not None else (self.want,)

    @property
    def key(self) -> tuple[str, str | None, str]:
        """The same key, the same bytes. A content that comes back later, or is signed anew, has another manifest."""
        return self.want, self.have, hashlib.sha256(manifest_bytes(self.manifest)).hexdigest()


def manifest_bytes(manifest: dict[str, Any]) -> bytes:
    """A manifest as it stands in packs: the same one, the same bytes."""
    return json.dumps(manifest, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def read_request(content: object) -> Asked:
    """Check a decoded body. Raises RequestRefused (422)."""
    if not isinstance(content, dict):
        raise RequestRefused(422, "request-invalid", 'The body is a map: {"want": [ids], "have": [ids]}.')
    return Asked(want=_ids(content, "want", least=1), have=_ids(content, "have", least=0))


def plan(asked: Asked, *, snapshots: Snapshots, history: History, packs: Sequence[Plan] = ()) -> Plan | None:
    """The smallest pack that answers; None when nothing is missing. Raises RequestRefused.

    What the server never had is ignored among ``have`` and refused among ``want``. ``packs``: those that are there
    or being made; they lead to a snapshot also when it is not kept any more.
    """
    for id in asked.want:
        if history.find(id) is None and snapshots.manifest(id) is None:
            raise RequestRefused(404, "snapshot-unknown", "This catalog never had such a snapshot. Ask /refs for one.")
    lacking = [id for id in asked.want if id not in asked.have]
    if not lacking:
        return None
    if len(lacking) > 1:
        raise RequestRefused(422, "several-wanted", "A pack leads to one snapshot. Ask for one at a time.")
    manifest = snapshots.manifest(lacking[0])
    if manifest is None:
        # A mirror that was told to come back for its pack gets it, however many snapshots there were since.
        fitting = [one for one in packs if one.want == lacking[0] and (one.have is None or one.have in asked.have)]
        if not fitting:
            raise RequestRefused(
                404, "snapshot-gone", "This snapshot is not kept any more. Ask /refs for the newest, and want that."
            )
        return max(fitting, key=lambda one: (one.have is not None, str(one.manifest.get("generated_at"))))
    return _smallest(manifest, asked.have, snapshots=snapshots, history=history)


def _smallest(manifest: dict[str, Any], have: Sequence[str], *, snapshots: Snapshots, history: History) -> Plan:
    newest = snapshots.current() or manifest
    # Changes are known of the current lineage alone, and of a range of its revisions.
    first = int((newest.get("revisions") or {}).get("first", 0))
    lineage, revision = manifest.get("lineage"), manifest.get("revision")
    best: tuple[int, Published] | None = None
    if lineage is not None and lineage == newest.get("lineage") and isinstance(revision, int):
        for id in have:
            found = history.find(id)
            if found is None or found.lineage != lineage:
                continue
            # What differs changed after the older of the two, whichever that is.
            after = min(found.revision, revision)
            if after >= first and (best is None or after > best[0]):
                best = after, found
    if best is not None:
        return Plan(manifest=manifest, way=Way.CHANGES, have=best[1].snapshot_id, after=best[0])
    kept = [one for id in have if (one := snapshots.manifest(id)) is not None]
    if kept:
        nearest = max(kept, key=lambda one: str(one.get("generated_at")))
        return Plan(manifest=manifest, way=Way.COMPARED, have=str(nearest["snapshot_id"]))
    return Plan(manifest=manifest)


def _ids(content: dict[Any, Any], name: str, *, least: int) -> tuple[str, ...]:
    found = content.get(name)
    if found is None and least == 0:
        return ()
    if not isinstance(found, list) or len(found) < least:
        raise RequestRefused(
            422, "request-invalid", f"{name} is a list of {'one or more' if least else 'any number of'} ids."
        )
    if len(found) > MAX_IDS:
        raise RequestRefused(422, "too-many-ids", f"{name} has more than {MAX_IDS} ids.")
    if not all(is_snapshot_id(id) for id in found):
        raise RequestRefused(422, "id-invalid", f"An entry of {name} is not sha256: and 64 hex digits in lower case.")
    return tuple(dict.fromkeys(found))
