"""The console's ledger with many items: what a page of the console costs, beside reading all rows of the same table.

    python bench/ledger.py                     1,000,000 items in SQLite
    python bench/ledger.py --items 100000

Statuses are projected as they come from the bus, in batches of 1,000; the rate is printed, too. Each number is
the median of 9. The peer is ``SELECT status, count(*) … GROUP BY status``, which reads every item of the job.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sqlalchemy import func, select

from common.contracts.names import ItemState, JobType, Stage
from common.contracts.status import ItemStatus, Reason
from common.database import Location
from console.adapters.ledger import Database, ItemStore, RunStore
from console.adapters.ledger.items import Told
from console.adapters.ledger.tables import job_items
from console.ports import JobDraft

AT = datetime(2026, 1, 1, tzinfo=UTC)
BATCH = 1000
UPLOADS = 50
STATES = [ItemState.SUCCEEDED] * 90 + [ItemState.FAILED] * 5 + [ItemState.SKIPPED] * 2 + [ItemState.QUEUED] * 3


def told(number: int, job_id: int, *, stage: Stage = Stage.DOWNLOAD) -> Told:
    """The status of one song: most succeeded, some failed, some wait."""
    state = STATES[number % len(STATES)]
    failed = state is ItemState.FAILED
    status = ItemStatus(
        job_id=job_id,
        stage=stage,
        lane="feed",
        key=str(number),
        title=f"Singer {number % 5000} - Song {number}",
        state=state,
        reason=Reason(code="not-audio" if number % 2 else "server-error", message="It failed.") if failed else None,
        queued_at=AT,
        request={"job_id": job_id, "source": "feed", "song_id": number, "remote_id": f"https://h/{number}.flac"},
    )
    return Told(sequence=number + 1, at=AT, status=status)


def median_ms(ask: Callable[[], object]) -> float:
    """Milliseconds, the median of 9."""
    seconds = []
    for _ in range(9):
        started = time.perf_counter()
        ask()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--directory", type=Path, default=None, help="where to work: on the disk to be measured")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-ledger-", dir=options.directory) as folder:
        database = Database(Location(service="console", path=Path(folder) / "ops.db"))
        runs, items = RunStore(database), ItemStore(database)
        draft = JobDraft(job_type=JobType.FULL, stages=JobType.FULL.stages, sources=("feed",), upload_backend="b")
        job = runs.create(draft, after=0, trace="t", config={}, at=AT).job_id
        started = time.perf_counter()
        for first in range(0, options.items, BATCH):
            batch = [told(number, job) for number in range(first, min(first + BATCH, options.items))]
            items.apply(batch, sequence=first + len(batch))
        # The last stage of a job has begun: few items, behind all others.
        uploads = [told(number, job, stage=Stage.UPLOAD) for number in range(options.items, options.items + UPLOADS)]
        items.apply(uploads, sequence=options.items + UPLOADS)
        rate = options.items / (time.perf_counter() - started)
        size = (Path(folder) / "ops.db").stat().st_size / 1e6
        print(f"{options.items:,} items in {size:,.0f} MB, projected at {rate:,.0f} statuses/s")
        last = items.page(job, after=options.items // 2, limit=1)[0]

        def read_all() -> object:
            with database.read() as connection:
                return connection.execute(
                    select(job_items.c.status, func.count())
                    .where(job_items.c.job_run_id == job)
                    .group_by(job_items.c.status)
                ).all()

        peer = median_ms(read_all)
        failed = [ItemState.FAILED]
        asks: dict[str, Callable[[], object]] = {
            "count by stage and state": lambda: items.counts(job),
            "first page of 100": lambda: items.page(job, after=0, limit=100),
            "a page in the middle": lambda: items.page(job, after=options.items // 2, limit=100),
            "failed ones, in the middle": lambda: items.page(job, states=failed, after=options.items // 2, limit=100),
            "one stage, all its items": lambda: items.page(job, stage=Stage.UPLOAD, after=0, limit=100),
            "a stage without items": lambda: items.page(job, stage=Stage.SYNC, after=0, limit=100),
            "two states of one stage": lambda: items.page(
                job, states=[ItemState.SUCCEEDED, ItemState.FAILED], stage=Stage.DOWNLOAD, after=0, limit=100
            ),
            "none in a state, of one stage": lambda: items.page(
                job, states=[ItemState.RUNNING, ItemState.INTERRUPTED], stage=Stage.DOWNLOAD, after=0, limit=100
            ),
            "unended ones": lambda: items.unended(job, after=0, limit=1000),
            "who runs items": lambda: items.holders(job),
            "failed by one error": lambda: items.failed(job, error_code="not-audio", after=0, limit=100),
            "newest failures": lambda: items.failures([job], limit=20),
            "those that wait for a time": lambda: items.aside(job),
            "how many stand before one": lambda: items.ahead(last, limit=1000),
        }
        print(f"{'counting by reading all':30} {peer:9.2f} ms")
        for name, ask in asks.items():
            took = median_ms(ask)
            print(f"{name:30} {took:9.2f} ms  {took / peer:8.4f} of reading all")
        database.close()


if __name__ == "__main__":
    main()
