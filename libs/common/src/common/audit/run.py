"""The audit as a whole: look, refuse with nothing changed, else claim what is ours."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nats.aio.client import Client

from common.audit.commands import command, init_command
from common.audit.finding import Finding, StartRefused, finding_of
from common.audit.folders import file_finding, read_finding_of, reserve_finding, split_finding, write_findings
from common.audit.mounts import Mount, mount_of, read_mounts
from common.audit.needs import Needs, Place, Port, root_place, state_place
from common.audit.process import clock_finding, files_finding, owned_findings, port_findings, user_findings
from common.audit.stack import LibraryLease, own_ids, owner_finding
from common.errors import ConfigurationError
from common.settings import Settings

RESTORE_MARKER = ".restore.json"
"""Below STATE_DIR from the moment a restore begins to change anything until it has ended."""
_PATIENCE = 20.0
_CLOCK_EVERY = 300.0


@dataclass(kw_only=True)
class Audit:
    """What was found, and what is held as long as the process lives."""

    findings: list[Finding] = field(default_factory=list)
    lease: LibraryLease | None = None

    def told(self) -> list[dict[str, Any]]:
        """The findings as heartbeats and ``/readyz`` carry them."""
        return [finding.model_dump() for finding in self.findings]

    def put(self, code: str, finding: Finding | None) -> None:
        """Take in what was found now of something that is looked at again and again."""
        self.findings = [known for known in self.findings if known.code != code] + ([finding] if finding else [])


def examine(settings: Settings, needs: Needs) -> list[Finding]:
    """Look at everything that ``needs`` names; changes nothing. Blocks."""
    mounts = read_mounts()
    root = root_place(settings)
    found = _secret_findings(settings) + _database_findings(needs, mounts) + _restore_findings(settings, needs, mounts)
    # A share that is away would keep whoever asks it: what must not lie there is not looked at any further.
    bad = {place for place, _ in needs.databases if (lies := mount_of(place.path, mounts)) and lies.is_network}
    unwritable, blamed = write_findings([place for place in needs.writes if place not in bad], root)
    found += unwritable
    bad |= blamed
    found += _only(read_finding_of(place) for place in needs.reads)
    found += _only(file_finding(place, path) for place, path in needs.databases if place not in bad)
    found += _only(
        split_finding(one, other, mounts) for one, other in needs.one_file_system if not bad.intersection({one, other})
    )
    found += _only(reserve_finding(place, size) for place, size in needs.reserves if place not in bad)
    found += owned_findings(needs)
    if needs.claims is not None:
        found += _only([owner_finding(needs.claims, own_ids(settings.root_dir.absolute(), settings.stack_id))])
    health = Port(setting="HEALTH_PORT", host=settings.health_host, number=settings.health_port)
    found += port_findings((*needs.ports, health))
    found += user_findings(os.environ, umask=settings.umask)
    found += _only([files_finding(needs.open_files)])
    return found + _only(check() for check in (() if bad else needs.more))


def audit(settings: Settings, needs: Needs, known: Iterable[Finding] = ()) -> Audit:
    """Examine, and claim the library; ``known``: what was found before. Blocks.

    Raises :class:`StartRefused` with every error; then nothing was changed.
    """
    found = [*known, *examine(settings, needs)]
    errors = [finding for finding in found if finding.severity == "error"]
    if errors:
        raise StartRefused(errors)
    result = Audit(findings=found)
    if needs.claims is not None:
        try:
            result.lease = LibraryLease.claim(needs.claims, root=settings.root_dir.absolute(), given=settings.stack_id)
        except OSError as error:
            result.findings.append(_unclaimed(needs.claims, root_place(settings), error))
    return result


def _secret_findings(settings: Settings) -> list[Finding]:
    """The bus is never open: without a password we would only be refused later, and with worse words."""
    if settings.nats_password is not None or "@" in settings.nats_url:
        return []
    whose = f"secrets/{settings.SERVICE}/secrets.env below ROOT_DIR" if settings.SERVICE else "secrets below ROOT_DIR"
    return [
        Finding(
            code="secret-missing",
            severity="error",
            message=f"NATS_PASSWORD is not set, neither in the environment nor in {whose}",
            mend=init_command(),
        )
    ]


def _setting_findings(needs: Needs) -> list[Finding]:
    """What a service can make nothing of, though each value by itself may be one."""
    found = []
    for make in needs.settings:
        try:
            make()
        except ConfigurationError as error:
            found.append(finding_of(error))
    return found


def _restore_findings(settings: Settings, needs: Needs, mounts: Sequence[Mount]) -> list[Finding]:
    """Half of the state is that of a backup: whoever works with it now makes a third thing of the two."""
    state = state_place(settings)
    lies = mount_of(state.path, mounts)
    if lies is not None and lies.is_network and (state not in needs.writes or needs.databases):
        return []  # refused already, or none of ours: a share that is away would keep us
    if not os.path.lexists(state.path / RESTORE_MARKER):
        return []
    return [
        Finding(
            code="restore-unfinished",
            severity="error",
            message=f"A restore into {state.setting} was begun and has not ended, so that the state is neither the one "
            "before nor that of the backup; keep all services but the bus (nats) stopped, run the same `music-cloud "
            "restore` again, and start them when it has ended; this command shows which backup it was",
            mend=command("cat", state.path / RESTORE_MARKER),
        )
    ]


async def audited(settings: Settings, needs: Needs) -> Audit:
    """:func:`audit`, given up when a file system does not answer. Raises :class:`StartRefused`."""
    # As long as it takes: a large plug-in on a slow disk is not one that does not answer.
    wrong = await asyncio.to_thread(_setting_findings, needs)
    try:
        return await asyncio.wait_for(asyncio.to_thread(audit, settings, needs, wrong), _PATIENCE)
    except TimeoutError:
        silent = Finding(
            code="disk-silent",
            severity="error",
            message=f"One of the folders that the settings name did not answer within {_PATIENCE:.0f} s; mend the "
            "share or disk that it lies on",
            mend="findmnt --real",  # asks no disk, as df would
        )
        raise StartRefused([silent]) from None


async def watch_clock(result: Audit, nc: Client, stop: asyncio.Event) -> None:
    """Compare the clocks again and again until ``stop``: one that was wrong at the start is often set soon after."""
    while not stop.is_set():
        if nc.is_connected:
            result.put("clock-off", await clock_finding(nc))
        try:
            await asyncio.wait_for(stop.wait(), _CLOCK_EVERY)
        except TimeoutError:
            continue


def _database_findings(needs: Needs, mounts: Sequence[Mount]) -> list[Finding]:
    """SQLite needs locks and shared memory that file systems of other machines do not give."""
    lying: dict[Mount, list[Place]] = defaultdict(list)
    for place, _ in needs.databases:
        mount = mount_of(place.path, mounts)
        if mount is not None and (mount.is_network or mount.is_pool):
            lying[mount].append(place)
    found = []
    for mount, places in lying.items():
        names = " and ".join(dict.fromkeys(place.setting for place in places))
        if mount.is_network:
            found.append(
                Finding(
                    code="database-on-network",
                    severity="error",
                    message=f"{names} lies on a network file system ({mount.kind}), where SQLite databases get "
                    "damaged; move it to a disk of this machine, which this command shows, and name that folder (the "
                    "library may stay)",
                    mend="findmnt --real",
                )
            )
        else:
            found.append(
                Finding(
                    code="database-on-pool",
                    severity="warning",
                    message=f"{names} lies on a pool of disks ({mount.kind}), whose locks SQLite cannot rely on; "
                    "name a folder on one of its disks, which this command shows",
                    mend="findmnt --real",
                )
            )
    return found


def _unclaimed(library: Place, root: Place, error: OSError) -> Finding:
    return Finding(
        code="library-not-claimed",
        severity="warning",
        message=f"{library.setting} could not be marked as ours ({error.strerror}), so that nothing keeps another "
        "Music Cloud out of it; make ROOT_DIR writable, or set STACK_ID",
        mend=command("ls", "-ld", root.path, library.path),
    )


def _only(findings: Iterable[Finding | None]) -> list[Finding]:
    return [finding for finding in findings if finding is not None]
