"""Whatever has happened to a catalog: from any snapshot that there was, a pack leads to any that is kept."""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.contracts.facts import Fact
from exporter.adapters.database import close_catalog, open_catalog
from exporter.adapters.packs import write_pack
from exporter.adapters.read_database import ReadDatabase, name_catalog
from exporter.adapters.snapshots import SnapshotFolder
from exporter.service.fetch import Asked, plan
from exporter.service.projection import Projection, read_batch
from mirror.format.digest import content_of
from tests.support.catalog_facts import Log
from tests.support.catalog_histories import steps
from tests.support.shelf import apply

KEPT = 3


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.lists(steps(), min_size=1, max_size=4), min_size=2, max_size=7),
    st.integers(0, 7),
)
def test_every_pair_of_snapshots(batches: list[list[list[Fact]]], rebuilt_at: int) -> None:
    """The catalog's history is lost once on the way; where nothing is known, everything is sent."""
    with tempfile.TemporaryDirectory() as folder:
        _every_pair(Path(folder), batches, rebuilt_at)


def _every_pair(root: Path, batches: list[list[list[Fact]]], rebuilt_at: int) -> None:
    connection, log, applied = open_catalog(root / "catalog.db"), Log(), 0
    try:
        projection = Projection(connection)
        name_catalog(connection)
        snapshots = SnapshotFolder(root / "snapshots", keep=KEPT)
        for number, batch in enumerate(batches):
            for facts in batch:
                log.write(*facts)
            projection.apply(read_batch(log.all[applied:]))
            applied = len(log.all)
            if number == rebuilt_at:
                shutil.rmtree(root / "read", ignore_errors=True)
            read = ReadDatabase(folder=root / "read", catalog=root / "catalog.db")
            manifest, _ = snapshots.make(read)
            copy = root / f"{manifest['snapshot_id'][7:]}.db"
            shutil.copy(read.path, copy)
    finally:
        close_catalog(connection)
    ever = [f"sha256:{path.stem}" for path in root.glob("?" * 64 + ".db")]
    for want in (id for id in ever if snapshots.manifest(id) is not None):
        for have in ([], *([id] for id in ever if id != want), ever):
            _leads(root, snapshots, read, want, [id for id in have if id != want])


def _leads(root: Path, snapshots: SnapshotFolder, read: ReadDatabase, want: str, have: list[str]) -> None:
    found = plan(Asked(want=(want,), have=tuple(have)), snapshots=snapshots, history=read.lineage)
    assert found is not None
    assert found.have is None or found.have in have
    pack = io.BytesIO()
    info = write_pack(pack, found, snapshots=snapshots, history=read.lineage)
    assert (info.size, info.commit_count) == (len(pack.getvalue()), 1)
    mirror = root / "mirror.db"
    mirror.unlink(missing_ok=True)
    if found.have is not None:
        shutil.copy(root / f"{found.have[7:]}.db", mirror)
    pack.seek(0)
    assert apply(pack, mirror).have == found.have
    assert content_of(mirror).snapshot_id == want
