"""The way of a change to a mirror: the pack of 1 % changes, how long it takes to make, and how large it is.

    python bench/delta.py                     1,000,000 songs
    python bench/delta.py --songs 50000

Playlists, entries and locations are in proportion, as in export.py. The pack of the changes is the median of three,
what it is measured beside is made once.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.export import change, make_catalog
from exporter.adapters.packs import write_pack
from exporter.adapters.read_database import ReadDatabase
from exporter.adapters.snapshots import SnapshotFolder
from exporter.service.fetch import Asked, Plan, Way, plan
from mirror.format.pack import PackInfo
from mirror.format.schema import TABLES

ROUNDS = 3
T = TypeVar("T")


def timed(run: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    return run(), time.perf_counter() - began


def by_except(have: Path, want: Path) -> int:
    """The plain way without a history: every row that only one of the two has; no pack is made of them."""
    count = 0
    with contextlib.closing(sqlite3.connect(want)) as connection:
        connection.execute("ATTACH ? AS have", (str(have),))
        for table in TABLES:
            for one, other in (("main", "have"), ("have", "main")):
                statement = f"SELECT * FROM {one}.{table} EXCEPT SELECT * FROM {other}.{table}"
                count += len(connection.execute(statement).fetchall())
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=1_000_000)
    parser.add_argument("--dir", type=Path, default=None, help="a folder on the disk to measure; default temporary")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-delta-", dir=given.dir))
    try:
        compare(given.songs, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def compare(songs: int, folder: Path) -> None:
    source, pack = folder / "catalog.db", folder / "pack"
    make_catalog(source, songs)
    read = ReadDatabase(folder=folder / "read", catalog=source)
    snapshots = SnapshotFolder(folder / "snapshots", keep=2)
    first, _ = snapshots.make(read)
    change(source)
    second, _ = snapshots.make(read)
    have, want = str(first["snapshot_id"]), str(second["snapshot_id"])

    def made(one: Plan) -> PackInfo:
        with pack.open("wb") as file:
            return write_pack(file, one, snapshots=snapshots, history=read.lineage)

    def planned(*ids: str) -> Plan:
        found = plan(Asked(want=(want,), have=ids), snapshots=snapshots, history=read.lineage)
        assert found is not None
        return found

    full, delta = planned(), planned(have)
    assert delta.way is Way.CHANGES
    compared = Plan(manifest=delta.manifest, way=Way.COMPARED, have=have)
    before, after = snapshots.database(have), snapshots.database(want)
    assert before is not None
    assert after is not None
    print(f"catalog of {songs:,} songs: {after.stat().st_size / 1e6:,.0f} MB as a snapshot")

    whole, of_all = timed(lambda: made(full))
    _, of_compared = timed(lambda: made(compared))
    changes, _ = timed(lambda: made(delta))
    taken = {
        "pack of the changes, by history": statistics.median(timed(lambda: made(delta))[1] for _ in range(ROUNDS)),
        "the same by reading both snapshots": of_compared,
        "EXCEPT of all tables, both ways": timed(lambda: by_except(before, after))[1],
        "pack with everything": of_all,
    }
    own = taken["pack of the changes, by history"]
    for name, one in taken.items():
        print(f"{name:<38} {one:>8.2f} s   {own / one:>6.3f} of it is the pack of the changes")
    print(f"groups in the pack of the changes      {changes.groups:>8,}")
    print(f"its size                               {changes.size / 1e6:>8.2f} MB")
    print(f"that of the pack with everything       {whole.size / 1e6:>8.2f} MB")
    print(f"making it                              {own:>8.2f} s    aim: under 1")
    print(f"its size / that with everything        {changes.size / whole.size:>8.4f}    aim: under 0.02")


if __name__ == "__main__":
    main()
