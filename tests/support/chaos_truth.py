"""What must be true when everything has ended: the ledger, the bus and the disk tell one story."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from common.contracts.envelope import decode
from common.contracts.facts import FileStored
from common.contracts.jobs import JobsState
from common.contracts.names import LIBRARY_BACKEND, BackendKind, ItemState, Stage
from common.contracts.status import ItemStatus
from common.contracts.streams import CATALOG, STATUS, WORK
from tests.support.chaos_run import ChaosRun
from tests.support.stack import dump

SETTLED = 25.0
"""Seconds in which what was left over is swept away: a lease, and what is looked at once a second."""


async def check(run: ChaosRun) -> list[str]:
    """Everything that is not as it should be, in words."""
    problems = [*run.faults, *run.promises.broken]
    problems += run.promises.early(run.witness.starts) + run.promises.held(run.witness.in_hand)
    problems += await _settle(run, lambda: _bus_is_empty(run))
    statuses = await _statuses(run)
    problems += await _settle(run, lambda: _ledger(run, statuses))
    jobs = await _views(run)
    for job in jobs:
        problems += _job(run, job, [one for one in statuses if one.job_id == job["job_id"]])
    problems += await _settle(run, lambda: _disk(run, statuses))
    problems += await _settle(run, lambda: _catalog(run))
    return problems


async def check_all_stored(run: ChaosRun) -> list[str]:
    """A last job without faults finds whatever is missing, and nothing twice."""
    answer = await run.http.post("/api/jobs", json={"job_type": "full", "sources": ["feed", "local"], "priority": 2})
    job_id, deadline = answer.json()["job_id"], time.time() + 90
    state = ""
    while state not in {"completed", "completed_with_errors"}:
        if time.time() > deadline or state in {"failed", "canceled"}:
            return [f"the last job, without faults, is {state!r}"]
        await asyncio.sleep(0.2)
        state = (await run.http.get(f"/api/jobs/{job_id}")).json()["state"]
    run.jobs.append(job_id)
    wanted = set(run.songs.good.values())
    found = _contents(run)
    return [
        *(f"a wanted file is missing after the last job: {one}" for one in sorted(wanted - set(found))),
        *await _settle(run, lambda: _disk(run, None)),
        *await _settle(run, lambda: _bus_is_empty(run)),
        *await _settle(run, lambda: _catalog(run)),
    ]


async def _settle(run: ChaosRun, look: Callable[[], Awaitable[list[str]]]) -> list[str]:
    """What is still wrong after a while."""
    deadline = time.time() + SETTLED
    while (problems := await look()) and time.time() < deadline:
        await asyncio.sleep(0.3)
    return problems


async def _bus_is_empty(run: ChaosRun) -> list[str]:
    """Nothing is queued, no consumer is left, no job is active."""
    work = await run.witness.stream(WORK)
    left = [message.subject for message in await run.witness.read(WORK, ">")] if work.messages else []
    problems = [f"left in the queue: {subject}" for subject in left]
    if work.consumer_count:
        problems.append(f"{work.consumer_count} consumers are left in the queue")
    for message in await run.witness.read("KV_JOBS", "$KV.JOBS.active"):
        problems += [
            f"job {job.job_id} is still active on the bus" for job in decode(message.data, JobsState).data.jobs
        ]
    return problems


async def _statuses(run: ChaosRun) -> list[ItemStatus]:
    return [decode(message.data, ItemStatus).data for message in await run.witness.read(STATUS, "item.>")]


async def _ledger(run: ChaosRun, statuses: list[ItemStatus]) -> list[str]:
    """Rows, counts and the API say of each item what the bus says, and it is one end state."""
    bus = {status.subject: status.state.value for status in statuses}
    problems = [f"{subject} has not ended: {state}" for subject, state in bus.items() if not ItemState(state).ended]
    rows, counts, commands = await asyncio.to_thread(_read_ledger, run)
    problems += [
        f"{subject}: {rows.get(subject, 'nothing')} in the ledger, {bus.get(subject, 'nothing')} on the bus"
        for subject in sorted(rows.keys() | bus.keys())
        if rows.get(subject) != bus.get(subject)
    ]
    true_counts = Counter((status.job_id, status.stage.value, status.state.value) for status in statuses)
    if counts != dict(true_counts):
        problems.append(f"the ledger counts {counts}, but there are {dict(true_counts)}")
    problems += [f"command {number} ({kind}) was never carried out" for number, kind in commands]
    shown: dict[str, str] = {}
    for job_id in run.jobs:
        for item in await _items(run, job_id):
            shown[f"item.{job_id}.{item['stage']}.{item['lane']}.{item['key']}"] = item["state"]
    problems += [
        f"{subject}: the console shows {shown.get(subject, 'nothing')}, the bus says {bus.get(subject, 'nothing')}"
        for subject in sorted(shown.keys() | bus.keys())
        if shown.get(subject) != bus.get(subject)
    ]
    return problems


def _read_ledger(
    run: ChaosRun,
) -> tuple[dict[str, str], dict[tuple[int, str, str], int], list[tuple[int, str]]]:
    connection = sqlite3.connect(f"file:{run.stack.root / 'state' / 'ops.db'}?mode=ro", uri=True, timeout=10)
    try:
        rows: dict[str, str] = dict(connection.execute("SELECT subject, status FROM job_items"))
        counts = {
            (job, stage, state): count
            for job, stage, state, count in connection.execute(
                "SELECT job_run_id, stage_type, status, count FROM item_counts WHERE count != 0"
            )
        }
        pending = connection.execute("SELECT id, command_type FROM job_commands WHERE status = 'pending'").fetchall()
    finally:
        connection.close()
    return rows, counts, pending


async def _items(run: ChaosRun, job_id: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await run.http.get(f"/api/jobs/{job_id}/items", params={"limit": "500", **cursor})).json()
        found += page["items"]
        if not page["next"]:
            return found
        cursor = {"cursor": page["next"]}


async def _views(run: ChaosRun) -> list[dict[str, Any]]:
    return [(await run.http.get(f"/api/jobs/{job_id}")).json() for job_id in run.jobs]


def _job(run: ChaosRun, job: dict[str, Any], statuses: list[ItemStatus]) -> list[str]:
    """How a job ended follows from how its items did, and each song ended as its content allows."""
    job_id, state = job["job_id"], job["state"]
    problems = []
    failed = [one for one in statuses if one.state is ItemState.FAILED]
    if state != "canceled":
        plan_failed = any(one.stage is Stage.PLAN for one in failed)
        others = any(one.stage is not Stage.PLAN for one in statuses)
        follows = "completed" if not failed else "failed" if plan_failed and not others else "completed_with_errors"
        if state != follows:
            problems.append(f"job {job_id} is {state}, but its items make it {follows}")
    for one in statuses:
        if one.state is ItemState.CANCELED and job_id not in run.promises.canceled:
            problems.append(f"{one.subject} is canceled in a job that never was")
        if one.stage is Stage.DOWNLOAD:
            remote_id = str(one.request["remote_id"])
            done = one.state in {ItemState.SUCCEEDED, ItemState.SKIPPED}
            why = one.reason.message if one.reason else "no reason"
            if remote_id in run.songs.bad and done:
                problems.append(f"{one.subject} ({one.title}) is {one.state} although it is bad")
            if remote_id in run.songs.good and one.state is ItemState.FAILED:
                problems.append(f"{one.subject} ({one.title}) failed although it is good: {why}")
        elif one.state is ItemState.FAILED:
            problems.append(f"{one.subject} failed: {one.reason.message if one.reason else 'no reason'}")
    return problems


def _contents(run: ChaosRun) -> Counter[str]:
    """How often each content lies in the library."""
    return Counter(hashlib.sha256((run.stack.library / name).read_bytes()).hexdigest() for name in run.stack.files())


async def _disk(run: ChaosRun, statuses: list[ItemStatus] | None) -> list[str]:
    """Each file once, with the right bytes and a fact of its own; nothing unfinished."""
    facts = await _facts(run)
    wanted = set(run.songs.good.values())
    try:
        found = {
            name: hashlib.sha256((run.stack.library / name).read_bytes()).hexdigest() for name in run.stack.files()
        }
    except FileNotFoundError:
        return ["files are still moving"]
    twice = [f"{count} files hold {sha}" for sha, count in Counter(found.values()).items() if count > 1]
    problems = twice + [f"not a wanted content: {name}" for name, sha in found.items() if sha not in wanted]
    placing = _placing(run)
    # One that was in its place when its worker died is taken over by the next job that asks for it.
    problems += [f"no fact tells of {name}" for name in found.keys() - facts.keys() - placing]
    problems += [f"no file is where a fact says: {name}" for name in facts.keys() - found.keys()]
    problems += [
        f"{name} holds other bytes than its fact says"
        for name in found.keys() & facts.keys()
        if found[name] != facts[name]
    ]
    if statuses is not None:
        problems += [
            f"{one.subject} succeeded, but no file is there"
            for one in statuses
            if one.stage is Stage.DOWNLOAD
            and one.state in {ItemState.SUCCEEDED, ItemState.SKIPPED}
            and run.songs.good[str(one.request["remote_id"])] not in found.values()
        ]
    spool = run.stack.library / ".spool"
    problems += [f"left in the spool: {path.name}" for path in spool.glob("*.part")]
    return problems


def _placing(run: ChaosRun) -> set[str]:
    """Where the files lie, or would, whose worker died between the move into the library and the end of the item."""
    found: set[str] = set()
    for path in (run.stack.library / ".spool").glob("[0-9]*.json"):
        with contextlib.suppress(FileNotFoundError):
            found |= set(json.loads(path.read_text()).get("targets", ()))
    return found


async def _facts(run: ChaosRun) -> dict[str, str]:
    """Locator to sha256 of the files that the bus says are in the library."""
    facts = [decode(one.data, FileStored).data for one in await run.witness.read(CATALOG, "file.stored.>")]
    return {one.locator: one.sha256 for one in facts if not one.removed and one.backend == LIBRARY_BACKEND}


async def _catalog(run: ChaosRun) -> list[str]:
    """The exporter's catalog has every file that the bus tells of, and an uploader copied what is to be copied."""
    facts = [decode(one.data, FileStored).data for one in await run.witness.read(CATALOG, "file.stored.>")]
    told = sum(not one.removed for one in facts)
    rows = await asyncio.to_thread(dump, run.stack.root / "state" / "catalog.db")
    problems = []
    if len(rows["file_locations"]) != told:
        problems.append(f"{len(rows['file_locations'])} files in the catalog, {told} on the bus")
    if run.bucket is not None:
        copies = {one.locator for one in facts if one.backend_kind is BackendKind.OBJECT_STORAGE and not one.removed}
        keys = set(await asyncio.to_thread(run.bucket.keys))
        problems += [f"no object is where a fact says: {key}" for key in copies - keys]
        problems += [f"no fact tells of the object {key}" for key in keys - copies]
    return problems
