"""Random faults over several jobs at once, by a seed: nothing is lost, nothing done twice, nothing starts that may not.

``FAULT_SEED=7 FAULT_SECONDS=60 pytest tests/faults/test_faults_schedule.py`` repeats a run; several seeds are
separated by commas. ``make soak SECONDS=3600`` goes on with new ones.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import get_args

import pytest

from tests.support.chaos import CYCLE, Kind, make_schedule
from tests.support.chaos_run import PROCESSES, ChaosRun
from tests.support.chaos_truth import check, check_all_stored
from tests.support.nats import NatsServer
from tests.support.s3 import S3Bucket

SEEDS = [int(seed) for seed in os.environ.get("FAULT_SEED", "1,2").split(",")]
SEED_WITH_UPLOADS = SEEDS[0] if "FAULT_SEED" in os.environ else 3
SEED_ON_CURRENT_SERVER = SEEDS[0] if "FAULT_SEED" in os.environ else 4
SECONDS = float(os.environ.get("FAULT_SECONDS", "12"))
LIMIT = SECONDS + 400
"""Seconds of one test at most; most of it is patience for what should not happen."""


async def go_through(directory: Path, server: NatsServer, seed: int, bucket: S3Bucket | None = None) -> None:
    """One run. Fails with the seed, what was done and the ends of the logs."""
    run = ChaosRun(directory, server, seed=seed, seconds=SECONDS, bucket=bucket)
    print(f"FAULT_SEED={seed} FAULT_SECONDS={SECONDS:g}", flush=True)
    try:
        await run.start()
        await run.run()
        problems = await check(run)
        problems += await check_all_stored(run)
        assert not problems, run.report(problems)
        print(run.summary(), flush=True)
    finally:
        await run.close()


@pytest.mark.timeout(LIMIT)
@pytest.mark.parametrize("seed", SEEDS)
async def test_random_faults_over_three_jobs(tmp_path: Path, nats_server: NatsServer, seed: int) -> None:
    await go_through(tmp_path, nats_server, seed)


@pytest.mark.timeout(LIMIT)
async def test_random_faults_on_a_current_server(tmp_path: Path, current_nats_server: NatsServer) -> None:
    await go_through(tmp_path, current_nats_server, SEED_ON_CURRENT_SERVER)


@pytest.mark.timeout(LIMIT)
async def test_random_faults_with_an_object_store(tmp_path: Path, nats_server: NatsServer, s3_bucket: S3Bucket) -> None:
    await go_through(tmp_path, nats_server, SEED_WITH_UPLOADS, s3_bucket)


async def test_a_canceled_job_leaves_no_part_of_a_worker_that_died(tmp_path: Path, nats_server: NatsServer) -> None:
    run = ChaosRun(tmp_path, nats_server, seed=0, seconds=0)
    stack, spool = run.stack, run.stack.library / ".spool"
    try:
        await asyncio.to_thread(stack.start_all, "console", "collector", "downloader")
        job = stack.job("full", sources=["feed"])
        await asyncio.to_thread(
            stack.until, lambda: len(list(spool.glob("*.part"))) >= 2, seconds=30, what="files under way"
        )
        stack.kill("downloader")
        left = {path.name for path in spool.glob("*.part")}
        assert left, "nothing was under way when the worker died"
        stack.http.post(f"/api/jobs/{job}/commands", json={"command_type": "cancel"})
        stack.start("downloader")
        await asyncio.to_thread(
            stack.until, lambda: not list(spool.glob("*.part")), seconds=20, what=f"{left} to be removed"
        )
        assert stack.job_state(job) == "canceled"
    finally:
        await run.close()


@pytest.mark.parametrize("seconds", [0.8 * CYCLE, CYCLE, 2.3 * CYCLE])
def test_a_seed_makes_one_schedule_that_has_every_fault(seconds: float) -> None:
    one, same, other = (make_schedule(seed, seconds, processes=PROCESSES) for seed in (5, 5, 6))
    assert one == same != other
    assert {action.kind for action in one} == set(get_args(Kind))
    killed = {action.target for action in one if action.kind in {"kill", "pause"} and action.target}
    assert killed == set(PROCESSES)
    assert all(0 <= action.at < seconds for action in one)
