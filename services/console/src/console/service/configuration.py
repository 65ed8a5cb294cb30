"""The configuration file and its versions: noticed, judged, kept, applied, announced."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from common.contracts.envelope import now
from common.contracts.settings import LIVE_SETTINGS, LiveSettings
from common.env_file import judge_text, listed, values_of
from common.errors import BusUnavailable, ConfigurationError
from common.setting_rules import rule_problem
from common.telemetry import get_logger
from console.errors import InvalidRequest, LedgerUnwritable, NotFound
from console.ports import Announcer, EnvFileStore, Revision, Revisions
from console.service.revision_text import digest, is_secret, masked, new_secrets, restored

LOOK_EVERY = 2.0
"""Seconds between two looks at the file; each asks the file system for its times and size only."""
SETTLED_AFTER = 0.5
"""Seconds that a changed file must stay as it is: a program that saves it empties it first."""
MAX_NOTE = 500

Judge = Callable[[Mapping[str, str]], Mapping[str, str]]


class Configuration:
    """The one place where the file becomes versions, and versions become the file."""

    def __init__(
        self,
        *,
        file: EnvFileStore,
        revisions: Revisions,
        announcer: Announcer,
        judge: Judge,
        environment: Iterable[str],
        secrets: Iterable[str],
        on_change: Callable[[], None],
    ) -> None:
        """``judge``: what is wrong with values, by name; ``environment``: names that the process environment sets.

        ``secrets`` are masked wherever they stand.
        """
        self._file = file
        self._revisions = revisions
        self._announcer = announcer
        self._judge = judge
        self._environment = frozenset(environment)
        self._secrets = frozenset(secrets)
        self._on_change = on_change
        self._lock = asyncio.Lock()
        self._seen: object = ()
        self._changing: tuple[object, float] | None = None
        """How a changed file looks, and since when."""
        self._text: str | None = None
        """What the file held when it was last read."""
        self._judged: str | None = None
        """The text that was dealt with."""
        self._to_announce: LiveSettings | None = None
        self.current: Revision | None = None
        """The version of the file as it runs."""
        self.problem = ""
        """Why the file as it is now is not used."""

    async def look(self) -> None:
        """Notice what was changed by hand. What cannot be used is kept, and changes nothing."""
        async with self._lock:
            await self._look()

    async def run(self, stop: asyncio.Event) -> None:
        """Look at the file, and announce what is due, until ``stop``."""
        said = ""
        while not stop.is_set():
            try:
                await self.look()
                await self._announce()
                said = ""
            except (BusUnavailable, LedgerUnwritable) as error:
                if error.message != said:
                    get_logger().warning("the configuration waits", reason=error.message)
                said = error.message
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), SETTLED_AFTER if self._changing else LOOK_EVERY)

    async def draft(self, text: str, *, note: str) -> tuple[Revision, bool]:
        """Keep a new version, which changes nothing yet; the version, and whether it was there already.

        Raises InvalidRequest with every line that is wrong.
        """
        text = text.replace("\r\n", "\n")
        async with self._lock:
            await self._look_until_settled()
            problems = new_secrets(text)
            if not problems:
                whole, problems = restored(text, current=self._text or "", secrets=self._secrets)
                problems = problems or self._problems(whole)
            if problems:
                raise self._refused(problems)
            shown = masked(text, secrets=self._secrets)
            known = await asyncio.to_thread(self._revisions.by_digest, digest(shown))
            if known is not None:
                return known, True
            return await self._keep(shown, note[:MAX_NOTE]), False

    async def apply(self, revision_id: int) -> dict[str, Any]:
        """Make a version the file, with the secrets of today, and announce it; what changes at once, what later.

        Raises NotFound, InvalidRequest, or Refused where the file may not be written: then nothing has changed.
        """
        async with self._lock:
            await self._look_until_settled()
            revision = await self.revision(revision_id)
            before = self._text
            text, problems = restored(revision.text, current=before or "", secrets=self._secrets)
            problems = problems or self._problems(text)
            if problems:
                raise self._refused(problems)
            if text != before:
                await asyncio.to_thread(self._file.write, text, instead_of=before)
            shown = masked(text, secrets=self._secrets)
            if shown != revision.text:
                note = f"version {revision_id} with the secrets of the file"
                revision = await self._known(shown, note)
            changed = changed_names(values_of(before or ""), values_of(text))
            await self._use(revision, text)
        with contextlib.suppress(BusUnavailable):
            await self._announce()
        return {
            "revision": await self.revision(revision.revision_id),
            "live": sorted(changed & LIVE_SETTINGS),
            "restart": sorted(changed - LIVE_SETTINGS),
            "from_environment": sorted(changed & self._environment),
        }

    async def revision(self, revision_id: int) -> Revision:
        """One version. Raises NotFound."""
        found = await asyncio.to_thread(self._revisions.get, revision_id) if 0 < revision_id < 2**53 else None
        if found is None:
            raise NotFound(f"There is no version {revision_id} of the configuration.", code="no-such-revision")
        return found

    async def diff(self, old_id: int, new_id: int) -> str:
        """What differs from one version to another, as a unified diff."""
        old, new = await self.revision(old_id), await self.revision(new_id)
        lines = difflib.unified_diff(
            old.text.splitlines(), new.text.splitlines(), f"version {old_id}", f"version {new_id}", lineterm=""
        )
        return "".join(f"{line}\n" for line in lines)

    def overridden(self, text: str) -> list[str]:
        """Settings of a version that the environment of the console sets too, and therefore wins."""
        return sorted(values_of(text).keys() & self._environment)

    def view(self, revision: Revision) -> dict[str, Any]:
        """A version as it is listed."""
        return {
            "id": revision.revision_id,
            "file": Path(revision.file_path).name,
            "hash": revision.digest,
            "note": revision.note,
            "created_at": revision.created_at.isoformat(),
            "applied_at": revision.applied_at.isoformat() if revision.applied_at else None,
            "current": self.current is not None and revision.revision_id == self.current.revision_id,
            "overridden": self.overridden(revision.text),
        }

    def snapshot(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration as a job keeps it: ``settings`` of the console, and what the file sets beside them."""
        text = self.current.text if self.current else ""
        beside = {name.lower(): value for name, value in values_of(text).items() if name.lower() not in settings}
        revision = {"settings_revision": self.current.revision_id} if self.current else {}
        return {**settings, **beside, **revision}

    async def _look(self) -> None:
        try:
            seen = await asyncio.to_thread(self._file.signature)
            if seen == self._seen:
                self._changing = None
                return
            if self._seen != () and not self._settled(seen):
                return
            text = await asyncio.to_thread(self._file.read)
        except ConfigurationError as error:
            self._tell(error.message)
            return
        self._text = text
        if text is None or text == self._judged:
            self._seen = seen
            return
        shown = masked(text, secrets=self._secrets)
        if problems := self._problems(text):
            self._tell(f"{self._file.path.name} was changed and is not used: {listed(problems)}")
            await self._known(shown, f"found in the file, not used: {listed(problems)}"[:MAX_NOTE])
            self._seen, self._judged = seen, text
            return
        self._tell("")
        first = self.current is None and self._judged is None
        revision = await self._known(shown, "found in the file at the start" if first else "edited by hand")
        await self._use(revision, text)
        self._seen = seen

    async def _look_until_settled(self) -> None:
        await self._look()
        if self._changing:
            await asyncio.sleep(SETTLED_AFTER)
            await self._look()

    def _settled(self, seen: object) -> bool:
        moment = time.monotonic()
        if self._changing is None or self._changing[0] != seen:
            self._changing = (seen, moment)
        return moment - self._changing[1] >= SETTLED_AFTER

    async def _use(self, revision: Revision, text: str) -> None:
        """The file is this version now."""
        newest = await asyncio.to_thread(self._revisions.current)
        if newest is None or newest.revision_id != revision.revision_id:
            await asyncio.to_thread(self._revisions.applied, revision.revision_id, at=now())
        changed = self.current is None or self.current.revision_id != revision.revision_id
        self.current = await asyncio.to_thread(self._revisions.get, revision.revision_id)
        self.problem = ""
        self._text = self._judged = text
        values = {name: value for name, value in values_of(text).items() if name in LIVE_SETTINGS}
        self._to_announce = LiveSettings(revision=revision.revision_id, values=values)
        if changed:
            get_logger().info("configuration", version=revision.revision_id, note=revision.note)
        self._on_change()

    async def _announce(self) -> None:
        wanted = self._to_announce
        if wanted is not None:
            await self._announcer.announce(wanted)
            if self._to_announce is wanted:
                self._to_announce = None

    async def _known(self, shown: str, note: str) -> Revision:
        """The version with this masked text; made where there is none."""
        known = await asyncio.to_thread(self._revisions.by_digest, digest(shown))
        return known or await self._keep(shown, note)

    async def _keep(self, shown: str, note: str) -> Revision:
        return await asyncio.to_thread(
            self._revisions.add,
            file_path=str(self._file.path),
            text=shown,
            digest=digest(shown),
            note=note,
            at=now(),
        )

    def _problems(self, text: str) -> list[str]:
        """Everything that is wrong with a text, by line; never a value."""
        found, problems = judge_text(text, path=self._file.path, judge_names=self._file.judges_names)
        if problems:
            return problems
        values = values_of(text)
        wrong = {name: words for name, value in values.items() if (words := rule_problem(name, value))}
        wrong = {**self._judge({name: value for name, value in values.items() if name not in wrong}), **wrong}
        return [
            f"line {found.lines[name]}: {name}: {words}" if name in found.lines else f"{name}: {words}"
            for name, words in sorted(wrong.items(), key=lambda one: found.lines.get(one[0], 0))
        ]

    def _refused(self, problems: list[str]) -> InvalidRequest:
        return InvalidRequest(f"{self._file.path.name}: {listed(problems)}", code="config-invalid")

    def _tell(self, problem: str) -> None:
        if problem and problem != self.problem:
            get_logger().warning("the configuration file", reason=problem)
        if problem != self.problem:
            self.problem = problem
            self._on_change()


def changed_names(before: Mapping[str, str], after: Mapping[str, str]) -> set[str]:
    """Settings that two files set differently; secrets never differ between versions."""
    names = before.keys() | after.keys()
    return {name for name in names if before.get(name, "") != after.get(name, "") and not is_secret(name)}


def workers_view(beats: Iterable[tuple[str, Any]]) -> list[dict[str, Any]]:
    """What each live process runs: (name, heartbeat)."""
    found = []
    for name, beat in beats:
        told = beat.detail.get("settings")
        told = told if isinstance(told, dict) else {}
        refused = told.get("refused")
        found.append(
            {
                "worker_name": name,
                "service": beat.service,
                "settings_revision": beat.settings_revision,
                "live": _names(told.get("live")),
                "from_environment": _names(told.get("from_environment")),
                "restart_for": _names(told.get("restart_for")),
                "refused": {str(key): str(words) for key, words in refused.items()}
                if isinstance(refused, dict)
                else {},
            }
        )
    return found


def _names(told: object) -> list[str]:
    return [str(name) for name in told] if isinstance(told, list) else []
