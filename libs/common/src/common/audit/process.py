"""The process itself: its user, its limits, its ports, its clock."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import socket
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nats.errors
from nats.aio.client import Client

from common.audit.commands import edit_settings, in_container
from common.audit.finding import Finding
from common.audit.needs import Needs, Port
from common.contracts.jobs import JOBS_BUCKET

_WANTED_FILES = 65_536
_CLOCK_LIMIT = timedelta(seconds=30)
"""Retries, leases and links are timed in seconds to minutes: with more than this they come out wrong."""


def user_findings(environment: Mapping[str, str], *, umask: str | None) -> list[Finding]:
    """Whether we run as the user that PUID and PGID name, and UMASK leaves the owner his own files."""
    found = []
    for name, what, actual in (("PUID", "user", os.geteuid()), ("PGID", "group", os.getegid())):
        wanted = environment.get(name, "").strip()
        if not wanted:
            continue
        if not wanted.isascii() or not wanted.isdigit():
            found.append(
                Finding(
                    code="bad-user",
                    severity="error",
                    message=f"{name} is not a number; this command shows the right one",
                    mend="id",
                )
            )
        elif int(wanted) != actual:
            found.append(
                Finding(
                    code="other-user",
                    severity="warning",
                    message=f"{name} is {wanted}, and this runs as {what} {actual}, to whom its files will belong; "
                    f"start it as {what} {wanted}, or correct {name}",
                    mend="docker compose up -d --force-recreate" if in_container() else edit_settings(),
                )
            )
    if umask is not None and int(umask, 8) & 0o700:
        found.append(
            Finding(
                code="bad-umask",
                severity="error",
                message="UMASK takes the owner's own rights from new files, so that they could not be read again; "
                "022 is usual",
                mend=edit_settings(),
            )
        )
    return found


def files_finding(wanted: int) -> Finding | None:
    """Raise the limit of open files as far as we may; the usual 1024 is for programs that use select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, _WANTED_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return None
    return Finding(
        code="few-open-files",
        severity="warning",
        message=f"Only {soft} files may be open at once, and {wanted} may be needed; raise the limit of the service "
        "(in compose: ulimits, nofile)",
        # In a container the limit is that of the engine's service, unless compose.yaml says another.
        mend="docker compose run --rm -T --entrypoint sh tools -c 'ulimit -Hn'"
        if in_container()
        else f"ulimit -n {_WANTED_FILES}",
    )


def port_findings(ports: Sequence[Port]) -> list[Finding]:
    """Addresses that cannot be listened on."""
    return [finding for port in ports if port.number and (finding := _port_finding(port)) is not None]


def owned_findings(needs: Needs) -> list[Finding]:
    """Databases that another process of ours has."""
    return [
        Finding(
            code="database-in-use",
            severity="error",
            message=f"Another {who} works with the same database, and only one may; stop it, or give this one its own "
            "STATE_DIR",
            mend=f"docker ps --filter name={who}" if in_container() else f"pgrep -af {who}",
        )
        for who, database in needs.owned
        if _locked(database.with_name(f"{database.name}.lock"))
    ]


async def clock_finding(nc: Client, *, now: datetime | None = None) -> Finding | None:
    """How far our clock is from the bus server's. ``now``: what our clock shows; servers before 2.10 do not
    tell the time."""
    begun = now or datetime.now(UTC)
    try:
        answer = await nc.request(f"$JS.API.STREAM.INFO.KV_{JOBS_BUCKET}", b"", timeout=2)
        told = datetime.fromisoformat(f"{str(json.loads(answer.data)['ts'])[:19]}+00:00")
    except (nats.errors.Error, TimeoutError, ValueError, KeyError, TypeError):
        return None
    return skew_finding(begun - told)


def skew_finding(ahead: timedelta) -> Finding | None:
    """What to say of a clock that is ``ahead`` of the bus server's (negative: behind)."""
    if abs(ahead) < _CLOCK_LIMIT:
        return None
    seconds = round(abs(ahead).total_seconds())
    return Finding(
        code="clock-off",
        severity="warning",
        message=f"This machine's clock is {seconds} s {'ahead of' if ahead > timedelta(0) else 'behind'} that of the "
        "bus, so that links, retries and leases end at the wrong time; set both by the network",
        mend="sudo timedatectl set-ntp true",
    )


def _port_finding(port: Port) -> Finding | None:
    family = socket.AF_INET6 if ":" in port.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: an ended connection that lingers does not make a port busy.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((port.host, port.number))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return Finding(
                    code="port-in-use",
                    severity="error",
                    message=f"Port {port.number} on {port.host} is in use by another program, which this command "
                    f"shows; stop that one, or set another {port.setting}",
                    mend=f"sudo ss -ltnp 'sport = :{port.number}'",
                )
            return Finding(
                code="port-unusable",
                severity="error",
                message=f"Port {port.number} on {port.host} cannot be used ({error.strerror}); set another "
                f"{port.setting} or the address of this machine, which this command shows",
                mend="ip -brief address",
            )
    return None


def _locked(lock: Path) -> bool:
    """Whether a process holds it. Makes nothing."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
