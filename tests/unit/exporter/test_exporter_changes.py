"""The catalog says which things' rows may have changed, and with which sequence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.bus.connection import Stored
from common.catalog import ids
from common.contracts.facts import BackendDefined, SongDescribed
from common.contracts.names import BackendKind
from exporter.adapters.database import close_catalog, open_catalog
from exporter.service.projection import Projection, read_batch
from tests.support.catalog_facts import PLATFORM, Log, playlist, pool, rows, song, stored


def changed(database: Path, *batches: Sequence[Stored], after: int = 0) -> set[tuple[str, int, int]]:
    connection = open_catalog(database)
    try:
        projection = Projection(connection)
        for batch in batches:
            projection.apply(read_batch(batch))
    finally:
        close_catalog(connection)
    return {row for row in rows(database, ["catalog_changes"])["catalog_changes"] if row[2] > after}


def test_each_touched_thing_has_the_sequence_of_its_last_batch(tmp_path: Path) -> None:
    database, log = tmp_path / "catalog.db", Log()
    a, b = ids.song_id(PLATFORM, "a"), ids.song_id(PLATFORM, "b")
    p, top = ids.playlist_id(PLATFORM, "p"), ids.pool_id(PLATFORM, "top")
    library, objects = ids.backend_id("library"), ids.backend_id("objects")
    log.write(song("a"), song("b"), stored("a"), stored("a", "objects"), *playlist("p", "ab"), pool("top", ["p"]))

    first = changed(database, log.all[:2], log.all[2:])
    assert first == {
        ("song", a, 6),
        ("song", b, 2),
        ("playlist", p, 6),
        ("pool", top, 6),
        ("backend", library, 6),
        ("backend", objects, 6),
    }

    log.write(SongDescribed(song_id=b, name="other"))
    assert changed(database, log.all[6:], after=6) == {("song", b, 7)}
    log.write(BackendDefined(backend="objects", kind=BackendKind.OBJECT_STORAGE, public_base_url="https://cdn"))
    assert changed(database, log.all[7:], after=7) == {("backend", objects, 8)}
    log.write(playlist("p", "ab")[0].model_copy(update={"removed": True}), pool("top", [], removed=True))
    assert changed(database, log.all[8:], after=8) == {("playlist", p, 10), ("pool", top, 10)}


def test_who_gains_or_loses_anothers_key_has_changed_too(tmp_path: Path) -> None:
    database, log = tmp_path / "catalog.db", Log()
    derived = ids.song_id(PLATFORM, "a")
    log.write(song("a"), song("a", song_id=17))
    assert changed(database, log.all[:1], log.all[1:], after=1) == {("song", 17, 2), ("song", derived, 2)}
    log.write(song("a", song_id=17, removed=True))
    assert changed(database, log.all[2:], after=2) == {("song", 17, 3), ("song", derived, 3)}


def test_an_adopted_backend_changes_under_its_old_id_and_its_new_one(tmp_path: Path) -> None:
    database, log = tmp_path / "catalog.db", Log()
    log.write(song("a"), stored("a"), BackendDefined(backend="library", backend_id=3, kind=BackendKind.FILESYSTEM))
    found = changed(database, log.all[:2], log.all[2:], after=2)
    assert found == {("backend", 3, 3), ("backend", ids.backend_id("library"), 3)}
