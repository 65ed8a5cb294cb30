"""The mirror: keeps a folder equal to a catalog that somebody publishes, and never shows anything else."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from mirror.address import Address
from mirror.apply import ContentMismatch, build, read_manifest
from mirror.download import Incoming
from mirror.errors import MirrorError
from mirror.folder import Folder, Snapshot, explained
from mirror.format.manifest import Manifest
from mirror.format.schema import MANIFEST_FILE
from mirror.offer import Offer
from mirror.problems import BeingMade, LocalProblem, NotOffered, Refused, SettingsProblem, Unavailable
from mirror.progress import Progress, Silence
from mirror.remote import Patience, PlaceExpired, Remote
from mirror.trust import Memory, Outcome, check_name, check_progress, check_signature, keys_by_id

_PLACES = 3
"""How often a new URL is asked for when one has expired."""
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """What a pull led to. ``received``: bytes of the pack; ``first_keys``: keys that are trusted from now on because
    they came with the first snapshot."""

    snapshot: Snapshot
    changed: bool
    delta: bool = False
    received: int = 0
    first_keys: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """``pack_bytes``: of a pack as it is sent. ``wait``: seconds for which one pull waits for a server that is not
    ready, or silent; ``pack_wait``: for one that is making the pack, if that is longer. ``keep``: snapshots kept beside
    the current one."""

    pack_bytes: int = 8 << 30
    wait: float = 120.0
    pack_wait: float = 900.0
    """A pack of a million songs takes a server of two cores 70 seconds, and others may be before it."""
    keep: int = 1
    patience: Patience = field(default_factory=Patience)


class Mirror:
    """One catalog and the folder that mirrors it. Use as a context manager, from one thread."""

    def __init__(
        self,
        directory: Path | str,
        url: str,
        *,
        keys: Collection[bytes] = (),
        token: str | None = None,
        allow_http: bool = False,
        limits: Limits | None = None,
        progress: Progress | None = None,
    ) -> None:
        """``keys``: the publisher's public keys, 32 bytes each; without any the first snapshot's is believed.

        ``token``: for a private catalog. ``allow_http``: also to other machines. Raises SettingsProblem.
        """
        self._limits = limits or Limits()
        self._address = Address.parse(url, allow_http=allow_http)
        self._given = keys_by_id(keys)
        self._folder = Folder(Path(directory).absolute())
        self._incoming = Incoming(self._folder.incoming, at_most=self._limits.pack_bytes)
        self._pulled = False
        self._remote = Remote(address=self._address, token=token, patience=self._limits.patience)
        self._progress = progress or Silence()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remote.close()

    def pull(self, *, full: bool = False, allow_rollback: bool = False) -> Pulled:
        """Become what the publisher has now. ``full``: fetch everything anew, even what seems to be here.

        Raises a MirrorError that says why not; the current snapshot is then what it was.
        """
        with self._folder.locked(), contextlib.closing(self._progress):
            memory = self._known()
            try:
                pulled, memory = self._pull(memory, full=full, allow_rollback=allow_rollback)
            except MirrorError as error:
                # What was learned until then is there already; a catalog that was never seen is not remembered.
                with contextlib.suppress(LocalProblem):
                    self._folder.remember(_ended(self._folder.memory(), error.code, error.message))
                raise
            code, message = ("updated", "A new snapshot.") if pulled.changed else ("up-to-date", "Nothing new.")
            self._folder.remember(_ended(memory, code, message))
            self._pulled = True
            return pulled

    def _known(self) -> Memory:
        memory = self._folder.memory()
        if self._pulled and memory.catalog is None:
            raise LocalProblem(
                "folder-lost",
                f"{self._folder.path} no longer holds what was fetched before, nor whom to trust: is its disk there? "
                "It goes on when it is back. If it was emptied on purpose, start again.",
            )
        if memory.catalog not in (None, self._address.name):
            raise SettingsProblem(
                "other-catalog", f"This folder mirrors {memory.catalog}. Give {self._address.name} a folder of its own."
            )
        current = self._folder.current()
        seen = memory.accepted
        if current is not None and (seen is None or current.manifest.generated_at > seen.generated_at):
            # The last pull was ended between its last step and this note of it.
            memory = memory.accept(current.manifest)
        return replace(memory, catalog=self._address.name)

    def _pull(self, memory: Memory, *, full: bool, allow_rollback: bool) -> tuple[Pulled, Memory]:
        self._progress.step("asking")
        current = self._folder.current()
        newest = self._patiently(self._remote.newest)
        if newest.manifest is not None:
            self._check(newest.manifest, memory, allow_rollback)
        if current is not None and current.manifest.snapshot_id == newest.snapshot_id and not full:
            if newest.manifest is None or newest.manifest.generated_at <= current.manifest.generated_at:
                return Pulled(snapshot=current, changed=False), memory
            return self._renew(current, newest.manifest, newest.manifest_bytes, memory)
        base = None if full else current
        try:
            return self._get(newest.snapshot_id, base, memory, allow_rollback)
        except ContentMismatch:
            if base is None:
                raise
        # Perhaps it is our copy that is wrong: everything anew decides it.
        return self._get(newest.snapshot_id, None, memory, allow_rollback)

    def _check(self, manifest: Manifest, memory: Memory, allow_rollback: bool) -> dict[str, bytes]:
        """Refuse a manifest of another, or an older one; return the keys that are trusted now."""
        trusted = {**memory.keys, **self._given}
        check_signature(manifest, trusted)
        check_name(manifest, self._address.name)
        if not allow_rollback:
            check_progress(manifest, memory.accepted)
        return trusted

    def _renew(self, current: Snapshot, manifest: Manifest, data: bytes, memory: Memory) -> tuple[Pulled, Memory]:
        """The same content was published again: the same files, with what its new manifest says of keys and age."""
        with self._folder.staging() as staging, explained():
            for file in (current.database, current.chunks):
                if file.exists():
                    (staging / file.name).hardlink_to(file)
            (staging / MANIFEST_FILE).write_bytes(data)
            snapshot = self._folder.put(staging, manifest, keep=self._limits.keep)
        memory = replace(memory, keys={**memory.keys, **self._given}).accept(manifest)
        return Pulled(snapshot=snapshot, changed=True, delta=True), memory

    def _get(self, want: str, base: Snapshot | None, memory: Memory, allow_rollback: bool) -> tuple[Pulled, Memory]:
        """Fetch and apply what leads to ``want``: one pack from a server; from a bucket perhaps one after the other."""
        first: Mapping[str, bytes] = {}
        while True:
            want, offer = self._download(want, base.manifest.snapshot_id if base else None)
            pulled, memory = self._apply(offer, base, memory, allow_rollback)
            first, base = {**first, **pulled.first_keys}, pulled.snapshot
            if offer.want == want:
                return replace(pulled, first_keys=first), memory

    def _apply(
        self, offer: Offer, base: Snapshot | None, memory: Memory, allow_rollback: bool
    ) -> tuple[Pulled, Memory]:
        want, have = offer.want, base.manifest.snapshot_id if base else None
        pack_id = offer.pack_id
        path = self._incoming.path(pack_id)
        try:
            with path.open("rb") as pack:
                manifest, data, delta = read_manifest(pack, want=want, have=have)
                trusted = self._check(manifest, memory, allow_rollback)
                pack.seek(0)
                self._progress.step("applying", path.stat().st_size)
                with self._folder.staging() as staging:
                    build(
                        pack,
                        manifest=manifest,
                        manifest_bytes=data,
                        base=base if delta else None,
                        folder=staging,
                        blobs=offer.blob_count,
                        progress=self._progress,
                    )
                    self._progress.step("switching")
                    snapshot = self._folder.put(staging, manifest, keep=self._limits.keep)
        except LocalProblem:
            # The pack is good: it is not fetched again when there is room.
            raise
        except MirrorError:
            self._incoming.discard(pack_id)
            raise
        received = self._incoming.size(pack_id)
        memory = replace(memory, keys=trusted).accept(manifest)
        self._folder.remember(memory)
        self._incoming.discard(pack_id)
        first = {} if trusted else memory.keys
        return Pulled(snapshot=snapshot, changed=True, delta=delta, received=received, first_keys=first), memory

    def _download(self, want: str, have: str | None) -> tuple[str, Offer]:
        """Get the pack that leads from ``have`` to ``want``; return the id of that, and what was offered.

        Only where ``want`` is not offered any more it is what is newest then: a server that publishes more often than
        it can make a pack would otherwise be asked for another one each time.
        """
        for _ in range(_PLACES):
            try:
                offer = self._patiently(partial(self._remote.offer, want=want, have=[have] if have else []))
            except NotOffered:
                # A server forgets a snapshot that is not the newest any more.
                newest = self._patiently(self._remote.newest)
                if newest.snapshot_id == want:
                    raise
                want = newest.snapshot_id
                continue
            if offer is None:
                raise Refused("answer", "The server says that nothing is missing, but names another snapshot.")
            try:
                self._patiently(
                    partial(self._incoming.get, self._remote, offer, progress=self._progress),
                    came=partial(self._incoming.size, offer.pack_id),
                )
            except PlaceExpired:
                if self._remote.listed:
                    # The list is as old as the pack that is gone.
                    want = self._patiently(self._remote.newest).snapshot_id
                continue
            return want, offer
        raise Unavailable("pack-gone", "The server names places for its pack at which there is none.")

    def _patiently(self, step: Callable[[], T], *, came: Callable[[], int] = lambda: 0) -> T:
        """Repeat a step that cannot be done now, for as long as a pull waits; from anew whenever bytes ``came``."""
        limits, told = self._limits, ""
        began = alive = time.monotonic()
        pause, before = _FIRST_PAUSE, came()
        while True:
            try:
                return step()
            except Unavailable as error:
                now = time.monotonic()
                if came() > before:
                    alive, pause, before = now, _FIRST_PAUSE, came()
                making = isinstance(error, BeingMade)
                trouble = "the server is making the pack" if making else "the server cannot be had now"
                deadline = began + max(limits.wait, limits.pack_wait) if making else alive + limits.wait
                seconds = error.retry_after if error.retry_after is not None else pause * random.uniform(0.5, 1)  # noqa: S311
                if now + seconds > deadline:
                    raise
                if told != trouble:
                    told = trouble
                    self._progress.step(f"{trouble} ({error.code}); asking on for {deadline - now:.0f} s")
                time.sleep(seconds)
                pause = min(2 * pause, _LONGEST_PAUSE)
                if making:
                    # It was there until now: should it be away, that is waited for from now on.
                    alive, pause = time.monotonic(), _FIRST_PAUSE


def current_snapshot(directory: Path | str) -> Snapshot | None:
    """The snapshot that a mirror's folder shows now; its own folder stays what it is while it is kept."""
    return Folder(Path(directory).absolute()).current()


def current_database(directory: Path | str) -> Path:
    """The database that a mirror's folder shows now, to be opened read-only. Raises LocalProblem if there is none."""
    snapshot = current_snapshot(directory)
    if snapshot is None:
        raise LocalProblem("no-snapshot", "There is no snapshot in this folder yet. Run music-cloud-mirror pull.")
    return snapshot.database


def _ended(memory: Memory, code: str, message: str) -> Memory:
    return replace(memory, outcome=Outcome(at=datetime.now(UTC), code=code, message=message))
