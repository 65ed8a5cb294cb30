"""Copies of a service in containers start at the same moment, and each has the same process number."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from common.audit import Place
from common.audit.stack import MARKER, LibraryLease

COPIES, ROUNDS = 6, 12


def test_copies_of_one_stack_claim_its_library_at_once(tmp_path: Path) -> None:
    # Threads have one process number, as the first processes of containers do.
    with ThreadPoolExecutor(COPIES) as threads:
        for number in range(ROUNDS):
            folder = tmp_path / str(number)
            place = Place(setting="LIBRARY_DIR", path=folder)
            start = Barrier(COPIES)

            def claim(place: Place = place, start: Barrier = start) -> LibraryLease:
                start.wait()
                return LibraryLease.claim(place, root=tmp_path / "root", given="stack-one-of-a-test")

            for lease in [one.result() for one in [threads.submit(claim) for _ in range(COPIES)]]:
                lease.release()
            assert [path.name for path in folder.iterdir()] == [MARKER]
