"""Whom a mirror trusts, and what it accepted last: what it remembers beside the snapshots."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self

from mirror.errors import SignatureError
from mirror.format.keys import decode_public_key, key_id
from mirror.format.manifest import Manifest, verify
from mirror.problems import Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The newest snapshot that was ever current here; nothing older is accepted after it."""

    snapshot_id: str
    generated_at: datetime
    lineage: str | None
    revision: int | None

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        return cls(
            snapshot_id=manifest.snapshot_id,
            generated_at=manifest.generated_at,
            lineage=manifest.lineage,
            revision=manifest.revision,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the last pull ended: ``code`` is ``updated``, ``up-to-date`` or that of an error."""

    at: datetime
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """``keys``: the publisher's public keys by their ids; ``catalog``: ``owner/slug``."""

    catalog: str | None = None
    keys: Mapping[str, bytes] = field(default_factory=dict)
    accepted: Accepted | None = None
    outcome: Outcome | None = None

    def accept(self, manifest: Manifest) -> Memory:
        """What is known after a manifest that was checked became current.

        Its own list of keys replaces the ones known so far, so that a key that was withdrawn is trusted no
        longer; the key that signed it stays, because what lies here is verified with it.
        """
        keys = dict(manifest.keys)
        if manifest.signature is not None and manifest.signature.key_id in self.keys:
            keys[manifest.signature.key_id] = self.keys[manifest.signature.key_id]
        return replace(self, keys=keys, accepted=Accepted.of(manifest))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "catalog": self.catalog,
            "keys": {name: base64.b64encode(key).decode() for name, key in sorted(self.keys.items())},
            "accepted": self.accepted
            and {
                "snapshot_id": self.accepted.snapshot_id,
                "generated_at": self.accepted.generated_at.isoformat(),
                "lineage": self.accepted.lineage,
                "revision": self.accepted.revision,
            },
            "outcome": self.outcome
            and {"at": self.outcome.at.isoformat(), "code": self.outcome.code, "message": self.outcome.message},
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote. Raises what Python does where it is anything else; MirrorError for keys."""
        accepted, outcome = found["accepted"], found["outcome"]
        return cls(
            catalog=found["catalog"],
            keys=keys_by_id(decode_public_key(text) for text in found["keys"].values()),
            accepted=accepted
            and Accepted(**{**accepted, "generated_at": datetime.fromisoformat(accepted["generated_at"])}),
            outcome=outcome and Outcome(**{**outcome, "at": datetime.fromisoformat(outcome["at"])}),
        )


def keys_by_id(keys: Iterable[bytes]) -> dict[str, bytes]:
    """Public keys by their ids."""
    return {key_id(key): key for key in keys}


def check_signature(manifest: Manifest, trusted: Mapping[str, bytes]) -> str:
    """The id of the key that signed it. Raises SignatureError if that is none of ``trusted``.

    With no key known at all the manifest's own word is taken, this first time: its signature must still
    fit a key that it lists.
    """
    if trusted:
        return verify(manifest, trusted)
    signature = manifest.signature
    if signature is not None and signature.key_id not in manifest.keys:
        raise SignatureError(
            "key-unknown",
            f"The first snapshot is signed by the key {signature.key_id}, which it does not show. Ask the publisher "
            "for the key, and give it with --key.",
        )
    return verify(manifest, manifest.keys)


def check_name(manifest: Manifest, catalog: str) -> None:
    """Refuse what is signed as another catalog than ``owner/slug``. Raises Refused."""
    named = manifest.raw.get("catalog")
    if named is not None and named != catalog:
        raise Refused(
            "signed-as-another",
            f"What the server offers as {catalog} was signed as another catalog of its publisher. Ask the publisher "
            "for the address of the one that you want.",
        )


def check_progress(manifest: Manifest, accepted: Accepted | None) -> None:
    """Refuse what is older than what was accepted before. Raises Refused."""
    if accepted is None:
        return
    back = manifest.generated_at < accepted.generated_at
    if manifest.lineage is not None and manifest.lineage == accepted.lineage and accepted.revision is not None:
        back = back or (manifest.revision or 0) < accepted.revision
    if back:
        raise Refused(
            "rollback",
            f"The server offers a snapshot of {manifest.generated_at:%Y-%m-%d %H:%M:%S} UTC (revision "
            f"{manifest.revision}) as new, but one of {accepted.generated_at:%Y-%m-%d %H:%M:%S} UTC (revision "
            f"{accepted.revision}) was here already. If the publisher really went back, run pull once with "
            "--allow-rollback.",
        )
