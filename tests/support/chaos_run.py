"""One run: the real stack, the faults of a schedule, and what everybody said meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx

from tests.support.chaos import Action, make_schedule
from tests.support.chaos_promises import ENDED, Promises
from tests.support.chaos_songs import Songs
from tests.support.chaos_witness import Witness
from tests.support.nats import NatsServer
from tests.support.s3 import S3Bucket
from tests.support.stack import Stack

PROCESSES = ("console", "collector", "downloader", "downloader-2", "downloader-3", "exporter", "origin")
DRAFTS: tuple[dict[str, Any], ...] = (
    {"job_type": "full", "sources": ["feed"]},
    {"job_type": "full", "sources": ["local"]},
    {"job_type": "full", "sources": ["feed", "local"], "priority": 1},
    {"job_type": "download_only", "sources": ["local"]},
    {"job_type": "sync_only", "sources": ["feed", "local"]},
    {"job_type": "download_only", "sources": ["feed"], "priority": -1},
)
AT_ONCE = 3
"""Jobs that run from the beginning; the others come when the schedule says so."""
STOP_PATIENCE = 8.0
ANSWER_PATIENCE = 25.0
"""Seconds: a command waits for a bus that is away up to 15."""
CONSOLE_PATIENCE = 10.0
"""Seconds that a command is sent again while the console is away."""
POLL_SECONDS = 0.15
PAUSE_PATIENCE = 20.0
"""Seconds until a pause is exact at the latest: a worker that died counts as lost after twelve, plus a lease."""
SETTLE_SECONDS = 120.0


class ChaosStack(Stack):
    """A stack whose processes can be stopped, frozen and looked after."""

    def up(self, name: str) -> bool:
        return name in self._processes

    def ended(self, name: str) -> int | None:
        """The status with which a process ended by itself; None while it runs."""
        return self._processes[name].poll()

    def forget(self, name: str) -> None:
        """It has ended."""
        self._processes.pop(name).wait()

    def send(self, name: str, number: signal.Signals) -> None:
        self._processes[name].send_signal(number)

    def stop_one(self, name: str) -> int | None:
        """SIGTERM; the status it ended with, or None where it had to be killed."""
        process = self._processes.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return None


class ChaosRun:
    """``seed`` and ``seconds`` say everything about the schedule; a bucket adds an uploader."""

    def __init__(
        self, directory: Path, nats_server: NatsServer, *, seed: int, seconds: float, bucket: S3Bucket | None = None
    ) -> None:
        self.seed, self.seconds = seed, seconds
        self.processes = (*PROCESSES, *(("uploader",) if bucket else ()))
        self.songs = Songs(directory)
        self.stack = ChaosStack(
            directory,
            nats_server,
            IMPORT_MODE="copy",
            LOCAL_MEDIA_IMPORT_PATH=str(self.songs.folder),
            FEEDS=",".join(self.songs.feeds),
            ALLOW_PRIVATE_ADDRESSES="true",
            DOWNLOAD_CONCURRENCY="2",
            MAX_TRIES="3",
            **(bucket.settings_env if bucket else {}),
        )
        self.bucket = bucket
        self.nats = nats_server
        self.witness = Witness(nats_server)
        self.promises = Promises()
        self.jobs: list[int] = []
        self.log: list[str] = []
        self.faults: list[str] = []
        """What went wrong while it ran."""
        self.http = httpx.AsyncClient(
            base_url=self.stack.http.base_url, headers=self.stack.http.headers, timeout=ANSWER_PATIENCE, trust_env=False
        )
        self._begun = time.time()
        self._wanted: set[str] = set()
        self._bus_down_since: float | None = None

    def note(self, words: str) -> None:
        """Keep what was done, and when."""
        self.log.append(f"{time.time() - self._begun:8.3f}  {words}")

    async def start(self) -> None:
        """Start everything, and the first jobs."""
        await asyncio.to_thread(self.stack.start_all, *{name.partition("-")[0] for name in self.processes})
        for name in self.processes:
            if not self.stack.up(name):
                self.stack.start(name.partition("-")[0], name)
        self._wanted = set(self.processes)
        await self.witness.start()
        for number in range(AT_ONCE):
            await self._job(Action(at=0.0, kind="job", pick=number))

    async def run(self) -> None:
        """Carry out the schedule; then let everything end."""
        self._begun = time.time()
        watching = asyncio.create_task(self._watch())
        nursing = asyncio.create_task(self._nurse())
        try:
            doing: list[asyncio.Task[None]] = []
            for action in make_schedule(self.seed, self.seconds, processes=self.processes):
                await asyncio.sleep(max(0.0, self._begun + action.at - time.time()))
                doing.append(asyncio.create_task(self._act(action), name=str(action)))
            await asyncio.gather(*doing)
            self.note("the faults are over")
            await self._let_end()
            await self.witness.fill_gaps()
        finally:
            for task in (watching, nursing):
                task.cancel()
            await asyncio.gather(watching, nursing, return_exceptions=True)

    async def close(self) -> None:
        for name in self.processes:
            if self.stack.up(name):
                self.stack.send(name, signal.SIGCONT)
        await self.http.aclose()
        await self.witness.close()
        await asyncio.to_thread(self.stack.stop)
        self.songs.close()

    def report(self, problems: list[str]) -> str:
        """What a person needs to understand it, and to see it again."""
        told = "\n".join(f"  - {problem}" for problem in problems)
        return (
            f"{len(problems)} broken promises:\n{told}\n\nseen again with: FAULT_SEED={self.seed} "
            f"FAULT_SECONDS={self.seconds:g} pytest tests/faults/test_faults_schedule.py\nbelow {self.stack.directory}"
            "\n\nwhat was done (seconds):\n" + "\n".join(self.log) + f"\n\n{self.stack.log_ends()}"
        )

    def summary(self) -> str:
        """What was done, in one line."""
        return (
            f"{len(self.log)} lines of log, {len(self.jobs)} jobs, {len(self.witness.starts)} starts seen, "
            f"{len(self.promises.windows)} times in which nothing may start"
        )

    async def _act(self, action: Action) -> None:
        does: dict[str, Callable[[Action], Coroutine[Any, Any, None]]] = {
            "kill": self._kill,
            "stop": self._stop,
            "freeze": self._freeze,
            "bus": self._kill_bus,
            "pause": self._pause,
            "resume": self._resume,
            "cancel": self._cancel,
            "retry": self._retry,
            "retry_failed": self._retry_failed,
            "force_retry": self._retry,
            "priority": self._priority,
            "job": self._job,
        }
        await does[action.kind](action)

    async def _kill(self, action: Action) -> None:
        if not self._take_down(action):
            return
        self.stack.kill(action.target)
        await self._bring_up(action)

    async def _stop(self, action: Action) -> None:
        if not self._take_down(action):
            return
        status = await asyncio.to_thread(self.stack.stop_one, action.target)
        # One that is told to end before it can listen ends by the signal itself.
        if status not in (0, -signal.SIGTERM):
            self.faults.append(f"{action.target} was told to end, and ended with {status}")
        await self._bring_up(action)

    async def _freeze(self, action: Action) -> None:
        if not self._take_down(action):
            return
        begun = time.time()
        self.stack.send(action.target, signal.SIGSTOP)
        await asyncio.sleep(action.lasts)
        self.stack.send(action.target, signal.SIGCONT)
        self.promises.frozen.append((action.target, begun, time.time()))
        self._wanted.add(action.target)
        self.note(f"{action.target} goes on")

    async def _kill_bus(self, action: Action) -> None:
        if self._bus_down_since is not None:
            return
        self._bus_down_since = time.time()
        self.note(f"kill -9 nats-server, for {action.lasts:.1f} s")
        await asyncio.to_thread(self.nats.kill)
        await asyncio.sleep(action.lasts)
        await asyncio.to_thread(self.nats.restart)
        self.promises.outage(self._bus_down_since, time.time())
        self._bus_down_since = None
        self.note("nats-server is back")

    def _take_down(self, action: Action) -> bool:
        """Whether the process was up, and is now ours to bring up again."""
        if action.target not in self._wanted or not self.stack.up(action.target):
            return False
        self._wanted.discard(action.target)
        self.note(f"{action}, for {action.lasts:.1f} s")
        return True

    async def _bring_up(self, action: Action) -> None:
        await asyncio.sleep(action.lasts)
        self.stack.start(action.target.partition("-")[0], action.target)
        self._wanted.add(action.target)
        self.note(f"{action.target} is started again")

    async def _pause(self, action: Action) -> None:
        job_id = self._pick(action)
        if not await self._command(job_id, "pause"):
            return
        deadline = time.time() + PAUSE_PATIENCE
        while self.promises.job(job_id).state == "pause_requested" and time.time() < deadline:
            await asyncio.sleep(POLL_SECONDS)
        await asyncio.sleep(action.lasts)
        if action.target:
            # What is paused stays paused over a start of the console.
            await self._kill(action)
            await asyncio.sleep(action.lasts)
        await self._command(job_id, "resume", releases=True)

    async def _resume(self, action: Action) -> None:
        await self._command(self._pick(action), "resume", releases=True)

    async def _cancel(self, action: Action) -> None:
        """The worst moment for a cancel: a worker has just died with half a file."""
        job_id = self._pick(action)
        if action.target:
            await asyncio.gather(self._command(job_id, "cancel"), self._kill(action))
        else:
            await self._command(job_id, "cancel")

    async def _priority(self, action: Action) -> None:
        await self._command(self._pick(action), "set_priority", priority=action.pick % 7 - 3)

    async def _retry_failed(self, action: Action) -> None:
        await self._command(self._pick(action), "retry_failed", releases=True)

    async def _retry(self, action: Action) -> None:
        job_id = self._pick(action)
        wanted = {"state": "failed"} if action.kind == "retry" else {"stage": "download"}
        answer = await self._ask("GET", f"/api/jobs/{job_id}/items", params=wanted)
        items = answer.json()["items"] if answer is not None and answer.status_code == 200 else []
        if items:
            item = items[action.pick % len(items)]
            await self._command(job_id, f"{action.kind}_item", releases=True, target_item_id=item["id"])

    async def _job(self, action: Action) -> None:
        draft = DRAFTS[action.pick % len(DRAFTS)]
        answer = await self._ask("POST", "/api/jobs", json=draft)
        if answer is None:
            self.note(f"job {draft}: no answer")
            return
        self.note(f"job {draft['job_type']} {draft['sources']}: {answer.status_code}")
        if answer.status_code in (200, 202) and (job_id := int(answer.json()["job_id"])) not in self.jobs:
            self.jobs.append(job_id)

    async def _command(self, job_id: int, kind: str, *, releases: bool = False, **fields: Any) -> bool:
        """Whether it was accepted. ``releases``: items of the job may start from now on."""
        if releases:
            self.promises.release_sent(job_id, time.time())
        sent = time.time()
        known, answer = True, None
        # Somebody whose console is away tries again.
        while answer is None and known and time.time() < sent + CONSOLE_PATIENCE:
            try:
                answer = await self._ask("POST", f"/api/jobs/{job_id}/commands", json={"command_type": kind, **fields})
            except httpx.TimeoutException:
                known = False
            if answer is None:
                await asyncio.sleep(POLL_SECONDS)
        if releases:
            self.promises.release_answered(job_id, time.time(), known=known)
        told = "no answer" if answer is None else f"{answer.status_code} {_words(answer)}"
        self.note(f"{kind} job {job_id}{f' item {fields}' if fields else ''}: {told} ({time.time() - sent:.2f} s)")
        # One that is being stopped cannot finish what it was asked.
        if answer is not None and answer.status_code >= 500 and answer.status_code != 503 and "console" in self._wanted:
            self.faults.append(f"{kind} of job {job_id} was answered with {answer.status_code}: {answer.text[:300]}")
        return answer is not None and answer.status_code == 202

    async def _ask(self, method: str, path: str, **arguments: Any) -> httpx.Response | None:
        """None where the console is away, or dies over it. Raises TimeoutException where it keeps silent."""
        try:
            return await self.http.request(method, path, **arguments)
        except httpx.TimeoutException:
            raise
        except httpx.TransportError:
            return None

    async def _watch(self) -> None:
        """Ask all the time how the jobs stand."""
        while True:
            asked = time.time()
            try:
                answer = await self._ask("GET", "/api/jobs", params={"limit": 100})
            except httpx.TimeoutException:
                self.faults.append(f"the console did not say within {ANSWER_PATIENCE:.0f} s how the jobs stand")
                continue
            if answer is not None and answer.status_code == 200:
                answered = time.time()
                for job in answer.json()["items"]:
                    if job["job_id"] not in self.jobs:
                        self.jobs.append(job["job_id"])
                    before = self.promises.job(job["job_id"]).state
                    self.promises.seen(job["job_id"], job["state"], asked=asked, answered=answered)
                    if before != job["state"]:
                        self.note(f"job {job['job_id']} is {job['state']}")
            await asyncio.sleep(POLL_SECONDS)

    async def _nurse(self) -> None:
        """Start again what ended by itself, as an owner's supervisor does. It may only do so without a bus."""
        while True:
            for name in sorted(self._wanted):
                status = self.stack.ended(name)
                if status is None:
                    continue
                self.stack.forget(name)
                self.note(f"{name} ended by itself with {status}")
                if not self._bus_was_away():
                    self.faults.append(f"{name} ended by itself with {status}")
                self.stack.start(name.partition("-")[0], name)
            await asyncio.sleep(0.2)

    def _bus_was_away(self) -> bool:
        recent = time.time() - 20
        return self._bus_down_since is not None or any(ends > recent for _, ends in self.promises.outages)

    async def _let_end(self) -> None:
        """Resume what is paused until every job has ended and its last sweep is done."""
        deadline = time.time() + SETTLE_SECONDS
        while time.time() < deadline:
            states = await self._states()
            for job_id, state in states.items():
                if state in {"paused", "pause_requested"}:
                    await self._command(job_id, "resume", releases=True)
            if states and all(state in ENDED for state in states.values()):
                return
            await asyncio.sleep(0.3)
        views = [await self._ask("GET", f"/api/jobs/{job_id}") for job_id in self.jobs]
        stuck = [view.json() for view in views if view is not None and view.json()["state"] not in ENDED]
        for job in stuck:
            answer = await self._ask("GET", f"/api/jobs/{job['job_id']}/items", params={"limit": 500})
            left = [
                {name: item[name] for name in ("id", "stage", "title", "state", "tries", "worker", "waits_for")}
                for item in (answer.json()["items"] if answer is not None else ())
                if item["state"] not in {"succeeded", "failed", "skipped", "canceled"}
            ]
            self.note(f"job {job['job_id']} waits for {job.get('waits_for')}; left: {left}")
        told = {job["job_id"]: job["state"] for job in stuck}
        raise AssertionError(self.report([*self.faults, f"jobs did not end in {SETTLE_SECONDS:.0f} s: {told}"]))

    async def _states(self) -> dict[int, str]:
        answer = await self._ask("GET", "/api/jobs", params={"limit": 100})
        if answer is None or answer.status_code != 200:
            return {}
        return {job["job_id"]: job["state"] for job in answer.json()["items"]}

    def _pick(self, action: Action) -> int:
        """A job that can be steered, if there is one; retries are for all."""
        going = [job_id for job_id in self.jobs if self.promises.job(job_id).state not in ENDED]
        jobs = self.jobs if "retry" in action.kind or not going else going
        return jobs[action.pick % len(jobs)]


def _words(answer: httpx.Response) -> str:
    with contextlib.suppress(ValueError):
        content = answer.json()
        return str(content.get("code") or content.get("state"))
    return ""
